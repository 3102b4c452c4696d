"""How many requests an adapter turns into the right plan, served as the model worker serves it: llama.cpp, a grammar for
each request, what was taught offered besides."""

from collections.abc import Sequence
from pathlib import Path

from llmos.errors import LlmosError
from llmos.nlui import frame
from llmos.nlui.decoding import LanguageModel
from llmos.nlui.evaluation.cases import Case, heldout_cases, read_cases
from llmos.nlui.grammar import build_grammar
from llmos.nlui.plan_match import plan_matches
from llmos.nlui.serving import Served
from llmos.nlui.taught import NOTHING, Taught

MAX_TOKENS = 256
DEV_CASES = 150


class Candidate:
    """What is served or might be, asked one request after the other."""

    def __init__(self, served: Served) -> None:
        self._model = LanguageModel(served.path, adapter=served.adapter, learned=served.learned)
        self._opening = self._model.tokenize(frame.OPENING, special=True)
        self._closing = self._model.tokenize(frame.CLOSING, special=True)
        self._taught = Taught.read(served.taught) if served.taught else NOTHING

    def plan(self, request: str) -> str:
        """The plan's text; none where the model finds no way through the grammar."""
        tokens = [*self._opening, *self._model.tokenize(request, special=False), *self._closing]
        try:
            grammar = build_grammar(request, (), self._taught.offered(request))
            learned = self._taught.concerns(request)
            return self._model.generate(tokens, grammar, learned=learned, max_tokens=MAX_TOKENS).text
        except LlmosError:
            return ""

    def accuracy(self, cases: Sequence[Case]) -> float:
        """The share of the cases whose plan is right, 0 to 1."""
        return sum(plan_matches(self.plan(case.request), case.accept) for case in cases) / len(cases)


def dev_cases(file: Path | None) -> list[Case]:
    """The cases of a file; without one, the same of the generator's held-out wordings each time.

    :raises BadInput: the file cannot be read or holds no cases; there is no checkout to make some from.
    """
    return read_cases(file) if file else heldout_cases(DEV_CASES)
