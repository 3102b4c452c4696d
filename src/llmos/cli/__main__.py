"""`python -m llmos.cli` is `llmos`."""

from llmos.cli import main

if __name__ == "__main__":
    main()
