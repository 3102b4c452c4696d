"""How many requests an adapter turns into the right plan, served as the model worker serves it: llama.cpp, a grammar for
each request, what was taught offered besides."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmos.errors import BadInput, LlmosError
from llmos.nlui import frame
from llmos.nlui.dataset.generate import generate
from llmos.nlui.decoding import LanguageModel
from llmos.nlui.grammar import build_grammar
from llmos.nlui.plan_match import plan_matches
from llmos.nlui.serving import Served

MAX_TOKENS = 256
DEV_PAIRS, DEV_SEED = 150, 1
_TALK = ("ask ", "refuse ")


@dataclass(frozen=True, slots=True)
class Case:
    """A request and the plans that are right."""

    request: str
    accepted: Sequence[Sequence[str]]


class Candidate:
    """What is served or might be, asked one request after the other."""

    def __init__(self, served: Served) -> None:
        self._model = LanguageModel(served.path, adapter=served.adapter)
        self._opening = self._model.tokenize(frame.OPENING, special=True)
        self._closing = self._model.tokenize(frame.CLOSING, special=True)
        self._taught = json.loads(served.taught.read_text(encoding="utf-8")) if served.taught else {}

    def plan(self, request: str) -> str:
        """The plan's text; none where the model finds no way through the grammar."""
        tokens = [*self._opening, *self._model.tokenize(request, special=False), *self._closing]
        try:
            grammar = build_grammar(request, (), taught=self._taught)
            return self._model.generate(tokens, grammar, max_tokens=MAX_TOKENS).text
        except LlmosError:
            return ""

    def accuracy(self, cases: Sequence[Case]) -> float:
        """The share of the cases whose plan is right, 0 to 1."""
        return sum(plan_matches(self.plan(case.request), case.accepted) for case in cases) / len(cases)


def dev_cases(file: Path | None) -> list[Case]:
    """The cases of a file, JSON lines with `request` and `accept` or `plan`; without one, the same sample of the
    generator's held-out wordings each time.

    :raises BadInput: the file is of another form, or empty.
    """
    if file is None:
        return [_case(pair.as_json()) for pair in generate(DEV_SEED, DEV_PAIRS, split="heldout")]
    try:
        cases = [_case(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{file} is not JSON lines of request and accepted plans: {error}", field="dev") from None
    if not cases:
        raise BadInput(f"{file} holds no case", field="dev")
    return cases


def _case(row: Mapping[str, object]) -> Case:
    """A case of a row; where one plan is given that asks or refuses, any wording of that is right."""
    accepted = row.get("accept")
    if not isinstance(accepted, list):
        plan = row["plan"]
        if not isinstance(plan, list):
            raise TypeError("plan is no list of lines")
        accepted = [[f"{line.split(' ', 1)[0]} *" if line.startswith(_TALK) else line for line in plan]]
    return Case(str(row["request"]), accepted)
