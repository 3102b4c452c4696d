"""The simulator as an environment for reinforcement learning: windows of jobs, and a move of each job's rank.

A step goes from one arrival or end to the next. What is seen are the features of the jobs that stand first, a row each;
an action moves their ranks. The reward of a step is what was saved of waiting against the same window under the policy
that moves nothing: the sum over the jobs of completion times and of slowdowns, each as a share of the whole that the
window takes unmoved. Over an episode it adds up to the logarithm of the ratio of the costs, to the first order, and the
bar (LAS) cancels out of the difference.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from llmos.scheduler import generators
from llmos.scheduler.contest import Knowledge
from llmos.scheduler.learned import Experience
from llmos.scheduler.policy_network import FEATURES, FIRST, Reranked
from llmos.scheduler.simulator import FLOOR, Machine, Outcome, Starvation, simulate
from llmos.scheduler.workload import Job, rescaled

REWARD = 1000.0
"""What the whole cost of an unmoved window counts as."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A window, the machine for it, what is known before it, and what comes of it unmoved."""

    name: str
    jobs: Sequence[Job]
    processors: int
    experience: Experience
    unmoved: Outcome


def problems(
    traces: Sequence[tuple[str, Sequence[Job], int]], *, count: int, size: int, seed: int, known: Sequence[Job] = ()
) -> list[Problem]:
    """Draw problems: windows of recorded jobs, of which half know what ended before, and of all generators; with
    loads from 0.6 to 0.95 and machines of a half to twice the usual processors.

    :param traces: name, jobs by the time they were submitted, and the processors of the machine.
    :param count: problems of each trace, and of each generator.
    """
    draw = random.Random(f"problems/{seed}")
    found = []
    for name, jobs, processors in traces:
        begins = sorted(draw.randrange(max(1, len(jobs) - size)) for _ in range(count))
        ended, at = sorted(jobs, key=lambda job: job.submit + job.runtime), 0
        knowledge = Knowledge()
        for number, begin in enumerate(begins):
            while at < len(ended) and ended[at].submit + ended[at].runtime < jobs[begin].submit:
                knowledge.note(ended[at])
                at += 1
            known_before = knowledge.experience.copy() if number % 2 == 0 else Knowledge().experience
            part = jobs[begin : begin + size]
            found.append(_problem(name, part, processors, known_before, draw))
    for name in sorted(generators.NAMES):
        for number in range(count):
            jobs = generators.draw(name, 3 * size, 7919 * (seed + 1) + number)
            processors = draw.choice([4, 8, 16, 64]) if name != "lublin" else draw.choice([64, 128, 256])
            knowledge = Knowledge()
            if number % 2 == 0:
                for job in jobs[: 2 * size]:
                    knowledge.note(job)
            found.append(_problem(name, jobs[2 * size :], processors, knowledge.experience, draw))
    return found


def _problem(name: str, jobs: Sequence[Job], processors: int, experience: Experience, draw: random.Random) -> Problem:
    processors = max(1, round(processors * 2.0 ** draw.uniform(-1.0, 1.0)))
    window = rescaled(jobs, draw.uniform(0.6, 0.95), processors)
    unmoved = simulate(window, Reranked(experience, None), processors=processors, starvation=Starvation())
    return Problem(name, window, processors, experience, unmoved)


class SchedulingEnvironment(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Observations of shape (FIRST, FEATURES + 1), the last column 1 where there is a job; actions of shape (FIRST,)."""

    def __init__(self, problems: Sequence[Problem], seed: int) -> None:
        self._problems = problems
        self._draw = random.Random(seed)
        self.observation_space = gymnasium.spaces.Box(-20.0, 20.0, (FIRST, FEATURES + 1), np.float32)
        self.action_space = gymnasium.spaces.Box(-2.0, 2.0, (FIRST,), np.float32)
        self._left: list[Problem] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin the next window; all are run once before any is run again."""
        super().reset(seed=seed)
        if seed is not None:
            self._draw = random.Random(seed)
        if not self._left:
            self._left = self._draw.sample(list(self._problems), len(self._problems))
        self._problem = problem = self._left.pop()
        self._policy = Reranked(problem.experience, None)
        self._machine = Machine(problem.jobs, self._policy, problem.processors, starvation=Starvation())
        runtimes = np.maximum([job.runtime for job in problem.jobs], FLOOR)
        self._weights = 1.0 / sum(problem.unmoved.completion) + 1.0 / runtimes / sum(problem.unmoved.slowdown)
        self._submits = np.array([job.submit for job in problem.jobs])
        self._completion = np.array(problem.unmoved.completion)
        self._until, self._unmoved, self._there = 0.0, 0.0, 0.0
        self._total = 0.0
        self._advance()
        return self._observation(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Move the ranks of those that were seen, and run to the next arrival or end."""
        self._machine.reorder(self._policy.move(self._first, action[: len(self._first)]))
        self._machine.dispatch()
        reward = self._advance() * REWARD
        self._total += reward
        ended = self._machine.done
        info = {"problem": self._problem.name, "saved": self._total / REWARD} if ended else {}
        return self._observation(), reward, ended, False, info

    def _advance(self) -> float:
        """To the next arrival or end; returns what was saved until then."""
        machine = self._machine
        before = machine.coming, machine.ended
        spent = 0.0
        while machine.advance():
            spent += self._there * (machine.now - self._until)
            self._until = machine.now
            if (machine.coming, machine.ended) != before:
                break
            machine.dispatch()
        there = machine.there
        self._there = float(self._weights[there].sum()) if there else 0.0
        waited = np.minimum(np.maximum(machine.now - self._submits, 0.0), self._completion)
        unmoved = float((waited * self._weights).sum())
        saved = unmoved - self._unmoved - spent
        if machine.done:  # what the unmoved window still takes
            saved += float((self._completion * self._weights).sum()) - unmoved
        self._unmoved = unmoved
        return saved

    def _observation(self) -> NDArray[np.float32]:
        seen = np.zeros((FIRST, FEATURES + 1), np.float32)
        self._first: list[int] = []
        if not self._machine.done:
            self._first, features = self._policy.features(self._machine.now)
            seen[: len(self._first), :FEATURES] = features
            seen[: len(self._first), FEATURES] = 1.0
        return seen


def saved(problem: Problem, outcome: Outcome) -> tuple[float, float]:
    """Logarithms of the ratios to the unmoved policy, in completion time and in slowdown; below 0 is better."""
    return (
        float(np.log(np.mean(outcome.completion) / np.mean(problem.unmoved.completion))),
        float(np.log(np.mean(outcome.slowdown) / np.mean(problem.unmoved.slowdown))),
    )
