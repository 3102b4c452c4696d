"""The names that a program goes by: its own, its argv[0]'s, and, for an interpreter, its script's.

People say `train.py` for `python3 -u train.py`, `node-red` for `node /usr/bin/node-red`, `python` for `python3.11` and
`nginx` for a process that has retitled itself `nginx: worker process`.
"""

import os
import re

# Options that take the next word, so that it is not the script; options after which there is no script but code; options
# whose word is the program itself.
_INTERPRETERS: dict[str, tuple[frozenset[str], frozenset[str], frozenset[str]]] = {
    "python": (frozenset({"-W", "-X", "--check-hash-based-pycs"}), frozenset({"-c"}), frozenset({"-m"})),
    "pypy": (frozenset({"-W", "-X"}), frozenset({"-c"}), frozenset({"-m"})),
    "node": (
        frozenset({"-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions"}),
        frozenset({"-e", "--eval", "-p", "--print"}),
        frozenset(),
    ),
    "java": (
        frozenset({"-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules", "--add-opens"}),
        frozenset(),
        frozenset({"-jar", "-m", "--module"}),
    ),
    "ruby": (frozenset({"-I", "-r", "-C"}), frozenset({"-e"}), frozenset()),
    "perl": (frozenset({"-I"}), frozenset({"-e", "-E"}), frozenset()),
    "php": (frozenset({"-c", "-d"}), frozenset({"-r"}), frozenset({"-f"})),
    **{
        shell: (frozenset({"-o", "+o", "-O", "+O", "--rcfile", "--init-file"}), frozenset({"-c"}), frozenset())
        for shell in ("sh", "bash", "dash", "zsh", "ksh", "ash")
    },
}
_ALIASES = {"nodejs": "node", "php-fpm": "php"}
_VERSION = re.compile(r"(?P<family>.*?[^\d.])(?P<version>\d+(\.\d+)*)?", re.DOTALL)


def names_of(name: str, argv: list[str]) -> set[str]:
    """Every name that finds a process of this name and command line, in lower case."""
    names = {name}
    if argv:
        names.add(os.path.basename(argv[0]))
        if len(argv) == 1 and " " in argv[0]:  # a title it gave itself, such as `nginx: master process /usr/sbin/nginx`
            names.add(argv[0].split()[0].rstrip(":"))
        names.add(_script(argv) or name)
    return {each.casefold() for each in names if each}


def goes_by(wanted: str, names: set[str]) -> bool:
    """Whether one of these names is the wanted one: exactly, or an interpreter's with more of a version behind it."""
    wanted = wanted.casefold()
    if wanted in names:
        return True
    if _family(wanted) is None:
        return False
    more = re.compile(re.escape(wanted) + (r"(\.\d+)+" if wanted[-1].isdigit() else r"\d+(\.\d+)*"))
    return any(more.fullmatch(name) for name in names)


def _family(program: str) -> str | None:
    """The interpreter that a program's name without its version is, if it is one."""
    match = _VERSION.fullmatch(program)
    family = match["family"] if match else program
    family = _ALIASES.get(family, family)
    return family if family in _INTERPRETERS else None


def _script(argv: list[str]) -> str | None:
    """The base name of what an interpreter runs; None where it is none, is interactive, or runs code from argv."""
    family = _family(os.path.basename(argv[0]).removeprefix("-").casefold())
    if family is None:
        return None
    takes_value, runs_code, names_program = _INTERPRETERS[family]
    code_letters = {option[1] for option in runs_code if len(option) == 2}
    words = iter(argv[1:])
    for word in words:
        if word in names_program:
            return os.path.basename(next(words, "")) or None
        if word in takes_value:
            next(words, None)
        elif word in runs_code:
            return None
        elif re.fullmatch(r"-[A-Za-z]+", word) and word[:2] not in takes_value and code_letters & set(word):
            return None  # bundled, as in `bash -lc`
        elif not word.startswith(("-", "+")):
            return os.path.basename(word) or None
    return None
