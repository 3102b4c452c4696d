"""Learn from feedback: the managed job `llmos-learn`.

    python -m llmos.nlui.learning --state FOLDER --out FOLDER [--model NAME] [--dev FILE]

It reads the feedback and the adapter in use, and writes into `--out` alone: the new adapter with its card, what was
taught, and result.json, which says whether the new one is to be used: when more of the person's own requests go right
and at most a point fewer of all others do. An adapter that forgets more than that is put on for those requests only that
say one of the phrases it has learned.
"""

import argparse
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import llama_cpp

from llmos.errors import LlmosError, ModelError, Unsupported
from llmos.nlui import models, serving
from llmos.nlui.adapters import adapter_for
from llmos.nlui.dataset.authored import AuthoredError
from llmos.nlui.dataset.generate import generate
from llmos.nlui.decoding import usable_cores
from llmos.nlui.evaluation.cases import Case
from llmos.nlui.learning.adoption import ADAPTER, RESULT, TAUGHT
from llmos.nlui.learning.aliases import RequestModel, find_aliases
from llmos.nlui.learning.augmentation import mixed
from llmos.nlui.learning.evaluation import Candidate, dev_cases
from llmos.nlui.learning.lessons import read_feedback, read_lessons, require_corrections, split
from llmos.nlui.learning.taught import taught_in, taught_values
from llmos.nlui.serving import Served
from llmos.nlui.taught import Taught

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
    used = serving.learned(start, options.state)
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
    phrases = {
        lesson: aliases[lesson].core if lesson in aliases else lesson.request for lesson in lessons if lesson.corrected
    }
    offered = taught_values(lessons, taught, {lesson: alias.core for lesson, alias in aliases.items()})
    own = [
        Case(f"own-{number}", one.lang, one.request, (one.plan,))
        for number, one in enumerate(held_out or [one for one in learned if one.corrected], 1)
    ]

    shipped = serving.with_adapter(base, start)
    now = replace(shipped, learned=used.adapter, taught=used.taught) if used else shipped
    before = _measured("in use now", now, own, dev)
    pairs = mixed(learned, aliases, lambda count: generate(SEED + 1, count), Random(SEED))
    print(f"learning from {len(pairs)} pairs")
    card = train(base, start, pairs, own, options.out)
    new = replace(shipped, learned=options.out / ADAPTER, taught=options.out / TAUGHT)
    for said, which in ((None, "new"), (list(dict.fromkeys(phrases.values())), "new, for what it has learned only,")):
        Taught(offered, said).write(options.out / TAUGHT)
        after = _measured(which, new, own, dev)
        rises, holds = after["own"] > before["own"], round(before["dev"] - after["dev"], 4) <= MAX_FALL
        if holds or not rises:
            break
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
