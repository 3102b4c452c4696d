"""Write training data: `python -m llmos.nlui.dataset --seed 1 --size 40000 --out FILE [--heldout FILE]`."""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.progress import track

from llmos.nlui.dataset import authored
from llmos.nlui.dataset.authored import AuthoredError
from llmos.nlui.dataset.generate import Split, generate
from llmos.nlui.dataset.pair import Pair, normalised

HELD_OUT_PART = 20
"""The held-out file is this many times smaller."""
_PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")


def read_commands(file: Path) -> list[str]:
    """Command lines of a file: one a line, or the `bash` of JSON lines, `{{placeholders}}` filled with their own words."""
    lines = file.read_text(encoding="utf-8").splitlines()
    if file.suffix == ".jsonl":
        lines = [str(json.loads(line).get("bash", "")) for line in lines]
    return [
        _PLACEHOLDER.sub(lambda match: match[1].split("|")[0].strip("[]").replace(" ", "_"), line) for line in lines
    ]


def table(pairs: Iterable[Pair]) -> str:
    """Counts of pairs by verb, language and source."""
    groups: dict[str, Counter[str]] = {
        "verb": Counter(),
        "language": Counter(),
        "source": Counter(),
        "lines": Counter(),
    }
    for pair in pairs:
        groups["verb"].update(set(pair.verbs))
        groups["language"][pair.lang] += 1
        groups["source"][pair.source if "+" not in pair.source else "two authors"] += 1
        groups["lines"][str(len(pair.plan))] += 1
    return "\n".join(
        f"{group:>10}  " + "  ".join(f"{name} {count}" for name, count in counts.most_common())
        for group, counts in groups.items()
    )


def _write(pairs: Iterator[Pair], size: int, file: Path, quiet: bool) -> set[str]:
    """Write the pairs, print their table; the normalised requests, so that a next file has none of them."""
    kept = []
    with file.open("w", encoding="utf-8") as out:
        for pair in track(pairs, f"{file.name}", total=size, disable=quiet):
            out.write(json.dumps(pair.as_json(), ensure_ascii=False) + "\n")
            kept.append(pair)
    print(f"{file}: {len(kept)} pairs\n{table(kept)}")
    return {normalised(pair.request) for pair in kept}


def _reachable(pair: Pair) -> bool:
    from llmos.nlui.grammar import reachable

    return reachable(pair.plan, pair.request)


def main() -> int:
    """Generate what is asked for."""
    parser = argparse.ArgumentParser(prog="llmos.nlui.dataset", description="Write pairs of request and plan.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=40_000, help="pairs to write (40000)")
    parser.add_argument("--out", type=Path, required=True, help="file for the training pairs, JSON lines")
    parser.add_argument("--heldout", type=Path, help="file for pairs of wordings that training does not see")
    parser.add_argument("--all", action="store_true", help="train on the held-out wordings too")
    parser.add_argument("--authored", type=Path, default=authored.FOLDER, help="folder of the authored pairs")
    parser.add_argument("--commands", type=Path, action="append", default=[], help="file of more command lines")
    parser.add_argument(
        "--check", action="store_true", help="leave out plans that the request's grammar cannot reach (slow)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args()
    try:
        commands = [line for file in options.commands for line in read_commands(file)]
        wanted: list[tuple[Split, int, Path]] = [("all" if options.all else "train", options.size, options.out)]
        if options.heldout:
            wanted.append(("heldout", max(options.size // HELD_OUT_PART, 1), options.heldout))
        seen: set[str] = set()

        def accept(pair: Pair) -> bool:
            return normalised(pair.request) not in seen and (not options.check or _reachable(pair))

        for split, size, file in wanted:
            pairs = generate(options.seed, size, split=split, folder=options.authored, commands=commands, accept=accept)
            seen |= _write(pairs, size, file, options.quiet)
    except (AuthoredError, OSError, ValueError) as error:
        print(f"dataset: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
