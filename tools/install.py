"""Set the project up in .venv: a virtual environment, the project with its needs, and the default model,
merged with its adapter.

Standard library only, run by the system's Python. Does nothing where nothing has changed since it last succeeded.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed"
LOG = VENV / "install.log"
MODEL = "default"
STEP = re.compile(r"\[\s*(\d+)/(\d+)\]")
"""Ninja's count of compile steps, such as [12/340]."""


def main() -> None:
    """Install, and say what goes on."""
    if sys.version_info < (3, 11):
        sys.exit(f"llmos needs Python 3.11 or newer, and this is {sys.version.split()[0]}; try: make PYTHON=python3.12")
    wanted = fingerprint()
    if not STAMP.exists() or STAMP.read_text() != wanted:
        if not any(map(shutil.which, ("c++", "g++", "clang++"))):
            sys.exit("a C++ compiler is needed to build llama.cpp; on Debian: apt install g++")
        if not (VENV / "bin/python").exists():
            print("making .venv")
            venv.create(VENV, with_pip=True, symlinks=True)
        pip_install()
        STAMP.write_text(wanted)
    # what is started anew at each command and each crash is not to be compiled at each start
    subprocess.run([VENV / "bin/python", "-m", "compileall", "-q", ROOT / "src/llmos"], check=True)
    subprocess.run([VENV / "bin/llmos", "model", "pull", MODEL], check=True)


def fingerprint() -> str:
    """What the installed state depends on."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    digest.update(sys.version.encode() + str(ROOT).encode())
    return digest.hexdigest()


def pip_install() -> None:
    """Install the project; llama.cpp is compiled, which takes minutes, so its steps are shown."""
    print("installing llmos and what it needs; llama.cpp is compiled from source, about 4 minutes on 2 cores")
    began = time.monotonic()
    command = [VENV / "bin/python", "-m", "pip", "install", "-v", "--disable-pip-version-check", "-e", f"{ROOT}[dev]"]
    with (
        LOG.open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as pip,
    ):
        assert pip.stdout is not None
        shown = 0.0
        for line in pip.stdout:
            log.write(line)
            now = time.monotonic()
            if now - shown < (0.5 if sys.stdout.isatty() else 20):
                continue
            shown = now
            if step := STEP.search(line):
                say(f"compiling llama.cpp: {step[1]} of {step[2]} files, {now - began:.0f} s")
            elif line.startswith(("Collecting", "  Downloading", "  Building", "  Running")):
                say(f"{' '.join(line.split())[:90]}, {now - began:.0f} s")
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    if pip.returncode:
        tail = LOG.read_text(errors="replace").splitlines()[-30:]
        sys.exit("\n".join([*tail, f"pip failed; all it said is in {LOG}"]))
    print(f"installed in {time.monotonic() - began:.0f} s")


def say(text: str) -> None:
    """Progress: one line rewritten on a terminal, lines elsewhere."""
    print(f"\r\033[K{text}" if sys.stdout.isatty() else text, end="" if sys.stdout.isatty() else "\n", flush=True)


if __name__ == "__main__":
    main()
