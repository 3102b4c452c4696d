"""The command line, `llmos`."""

from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    from llmos.cli.app import main as run_main

    run_main()
