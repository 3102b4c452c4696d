"""The arithmetic of a report: from the results of a set of cases to its figures."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmos.nlui.calibration import Calibration
from llmos.nlui.evaluation import coverage
from llmos.nlui.evaluation.cases import TALK, Case, verb_of

COVERAGES = (1.0, 0.98, 0.95, 0.9, 0.8)


@dataclass(frozen=True, slots=True)
class Result:
    """What one case gave.

    Attributes:
        plan: its lines; none when the model gave no plan, and `note` says why.
        right: whether it is one of the accepted plans.
        in_grammar: whether the plan parses and the grammar of its request can reach it.
        seconds: from request to plan.
        tokens: of the prompt, chosen by the model, forced by the grammar.
    """

    case: Case
    plan: tuple[str, ...]
    right: bool
    in_grammar: bool
    seconds: float
    confidence: float = 0.0
    least_confidence: float = 0.0
    tokens: tuple[int, int, int] = (0, 0, 0)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """How many of how many."""

    count: int
    of: int

    @classmethod
    def over(cls, values: Iterable[bool]) -> "Count":
        """Of so many values, those that are true."""
        listed = list(values)
        return cls(sum(listed), len(listed))

    @property
    def share(self) -> float | None:
        """From 0 to 1; None of nothing."""
        return self.count / self.of if self.of else None

    def as_json(self) -> dict[str, Any]:
        """The counts and the share."""
        return {"count": self.count, "of": self.of, "share": self.share}


@dataclass(frozen=True, slots=True)
class Figures:
    """What is reported of a set of cases.

    Attributes:
        exact: right plans by group: all, each language, each tag.
        recall: of the requests that want to be asked about or refused, those that were, by verb.
        false_refusals: plans that ask or refuse, of the requests that want neither.
        outside_grammar, no_plan: plans that the grammar does not allow; requests without a plan.
        median_seconds, p95_seconds: from request to plan, the model loaded.
        tokens: means of the prompt's, of those chosen and of those forced.
        accuracy_at: share of right plans among the most confident, by how large a part of all those are.
        auroc: how well the confidence tells right from wrong; None where all are the same.
        calibration_error: of the probabilities, or of the bare confidences without a calibration.
        asked, right_unasked: requests below the calibration's threshold, and right plans among the others.
    """

    exact: dict[str, Count]
    recall: dict[str, Count]
    false_refusals: Count
    outside_grammar: Count
    no_plan: Count
    median_seconds: float
    p95_seconds: float
    tokens: dict[str, float]
    accuracy_at: dict[float, float]
    auroc: float | None
    calibration_error: float
    asked: Count | None
    right_unasked: Count | None

    def as_json(self) -> dict[str, Any]:
        """The same with counts as objects."""

        def plain(value: Any) -> Any:
            if isinstance(value, Count):
                return value.as_json()
            return {str(key): plain(one) for key, one in value.items()} if isinstance(value, dict) else value

        return {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}


def figures(results: Sequence[Result], calibration: Calibration | None = None) -> Figures:
    """The figures of one result at least."""
    seconds = sorted(result.seconds for result in results)
    observed = [(result.confidence, result.right) for result in results]
    probable = [(calibration.probability(one), right) for one, right in observed] if calibration else observed
    sure = [result for result in results if not (calibration and calibration.doubtful(result.confidence))]
    return Figures(
        exact=_exact(results),
        recall={verb: _recall(results, verb) for verb in TALK},
        false_refusals=Count.over(verb_of(one.plan) in TALK for one in results if not one.case.verbs & set(TALK)),
        outside_grammar=Count.over(bool(result.plan) and not result.in_grammar for result in results),
        no_plan=Count.over(not result.plan for result in results),
        median_seconds=statistics.median(seconds),
        p95_seconds=seconds[math.ceil(0.95 * len(seconds)) - 1],
        tokens={
            name: statistics.fmean(result.tokens[at] for result in results)
            for at, name in enumerate(("prompt", "chosen", "forced"))
        },
        accuracy_at={share: coverage.accuracy_at(observed, share) for share in COVERAGES},
        auroc=coverage.auroc(observed),
        calibration_error=coverage.calibration_error(probable),
        asked=Count(len(results) - len(sure), len(results)) if calibration else None,
        right_unasked=Count.over(result.right for result in sure) if calibration else None,
    )


def _exact(results: Sequence[Result]) -> dict[str, Count]:
    groups: defaultdict[str, list[bool]] = defaultdict(list)
    languages = {result.case.lang for result in results}
    for result in results:
        for group in ("all", result.case.lang, *result.case.tags):
            groups[group].append(result.right)
    order = sorted(groups, key=lambda group: (group != "all", group not in languages, group))
    return {group: Count.over(groups[group]) for group in order}


def _recall(results: Sequence[Result], verb: str) -> Count:
    """Of the requests that are rightly answered with this verb alone or another of `TALK`, those that were."""
    wanted = [one for one in results if verb in one.case.verbs <= set(TALK)]
    return Count.over(verb_of(one.plan) in one.case.verbs for one in wanted)
