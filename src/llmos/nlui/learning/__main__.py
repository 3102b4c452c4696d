"""Learn from feedback: the managed job `llmos-learn`.

    python -m llmos.nlui.learning --state FOLDER --out FOLDER [--model NAME] [--dev FILE]

It reads the feedback and the adapter in use, and writes into `--out` alone: the new adapter with its card, what was
taught, and result.json, which says whether the new one is to be used: when more of the person's own requests go right
and at most a point fewer of all others do.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import llama_cpp

from llmos.errors import LlmosError, ModelError, Unsupported
from llmos.nlui import merged, models, serving
from llmos.nlui.adapters import adapter_for
from llmos.nlui.dataset.authored import AuthoredError
from llmos.nlui.dataset.generate import generate
from llmos.nlui.decoding import usable_cores
from llmos.nlui.learning.adoption import ADAPTER, RESULT, TAUGHT
from llmos.nlui.learning.aliases import RequestModel, find_aliases
from llmos.nlui.learning.augmentation import mixed
from llmos.nlui.learning.evaluation import Candidate, Case, dev_cases
from llmos.nlui.learning.lessons import read_feedback, read_lessons, require_corrections, split
from llmos.nlui.learning.taught import taught_in, taught_values
from llmos.nlui.models import Installed
from llmos.nlui.serving import Served

MAX_FALL = 0.01
"""How much the share of right plans on the dev cases may fall."""
MODEL_PAIRS = 4000
SEED = 1
_SILENCE = llama_cpp.llama_log_callback(lambda level, text, data: None)


def run(options: argparse.Namespace) -> None:
    """Learn, measure, and say whether to adopt.

    :raises LlmosError: there is nothing to learn, or no way to.
    """
    try:
        import torch

        from llmos.nlui.learning.training import train
        from llmos.nlui.training.export import write_card
    except ImportError as error:
        raise Unsupported(f"learning needs {error.name}; install it with: pip install 'llmos[train]'") from None
    torch.set_num_threads(usable_cores())
    base = models.locate(options.model)
    start = options.start or adapter_for(base)
    if start is None:
        raise ModelError(f"{base.title} has no adapter to go on from; use the default model: llmos model use default")
    used = serving.learned(base, options.state)
    lessons = read_lessons(read_feedback(options.state / "feedback.jsonl"))
    require_corrections(lessons)
    dev = dev_cases(options.dev)

    taught = {lesson: taught_in(lesson) for lesson in lessons}
    learned, held_out = split(lessons, taught)
    corrections = sum(lesson.corrected for lesson in lessons)
    print(f"{len(lessons)} lessons, {corrections} of them corrections, {len(held_out)} held out to measure on")
    aliases = find_aliases(lessons, taught, RequestModel(generate(SEED, MODEL_PAIRS)))
    for alias in dict.fromkeys(aliases.values()):
        print(f"“{alias.phrase}” stands for {alias.value}")
    offered = taught_values(lessons, taught)
    (options.out / TAUGHT).write_text(json.dumps(offered, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    own = [Case(one.request, [one.plan]) for one in held_out or [one for one in learned if one.corrected]]

    now = serving.with_adapter(base, used.adapter, used.taught) if used else serving.with_adapter(base, start)
    before = _measured("in use now", now, own, dev)
    pairs = mixed(learned, aliases, lambda count: generate(SEED + 1, count), Random(SEED))
    print(f"learning from {len(pairs)} pairs")
    card = train(base, start, pairs, own, options.out)
    new = serving.with_adapter(base, options.out / ADAPTER, options.out / TAUGHT)
    after = _measured("new", new, own, dev)

    rises, holds = after["own"] > before["own"], round(before["dev"] - after["dev"], 4) <= MAX_FALL
    reason = "better" if rises and holds else "too much is forgotten" if rises else "own requests did not rise"
    figures = {
        "at": time.time(),
        "lessons": len(lessons),
        "corrections": corrections,
        "aliases": len(set(aliases.values())),
        "own": {"requests": len(own), "held_out": bool(held_out)},
        "before": before,
        "after": after,
    }
    write_card(options.out / ADAPTER, {**card, "learned": figures})
    result = {"adopt": rises and holds, "reason": reason, **figures}
    (options.out / RESULT).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"the new adapter is {'' if rises and holds else 'not '}to be used: {reason}")
    if rises and holds:
        _merge(base, options.out / ADAPTER)


def _merge(base: Installed, adapter: Path) -> None:
    """Merge it, so that it answers sooner; it is used as it is where that cannot be done."""
    print("merging it into the model")
    began = time.monotonic()
    try:
        merged.make(base, adapter)
        print(f"merged in {time.monotonic() - began:.0f} s")
    except ModelError as error:
        print(f"{error.message}; it is used unmerged, which is slower")


def _measured(which: str, served: Served, own: list[Case], dev: list[Case]) -> dict[str, Any]:
    candidate = Candidate(served)
    shares = {"own": candidate.accuracy(own), "dev": candidate.accuracy(dev)}
    print(
        f"the adapter {which}: {shares['own']:.1%} of {len(own)} own requests right, {shares['dev']:.1%} of {len(dev)} dev"
    )
    return {name: round(share, 4) for name, share in shares.items()}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="llmos.nlui.learning", description="Learn from feedback.")
    parser.add_argument("--state", type=Path, required=True, help="folder of feedback.jsonl and learned/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--model", default=models.DEFAULT, help="the model, by name or path (%(default)s)")
    parser.add_argument("--start", type=Path, help="adapter to start from (the one shipped for the model)")
    parser.add_argument("--dev", type=Path, help="cases that must not get worse (a sample of the generator's)")
    options = parser.parse_args()
    llama_cpp.llama_log_set(_SILENCE, None)  # what goes wrong there is raised; the rest is nothing to a person
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    try:
        run(options)
    except LlmosError as error:
        print(f"learn: {error.message}", file=sys.stderr)
        return error.exit_code
    except AuthoredError as error:  # they come with a checkout, not with an installed package
        print(f"learn: {error}; learning needs the pairs that the adapter was trained on", file=sys.stderr)
        return Unsupported.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
