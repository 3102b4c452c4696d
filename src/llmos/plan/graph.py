"""A plan as a graph: which lines wait for which, and which are the same.

References are edges. Lines that act run in the order written; a read waits for the act above it, an act for every read
above it; reads between two acts run side by side. A line that stands again with no other act and no wait between is one
line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from llmos.syscalls import Risk, Syscall

REPEATABLE = {"run", "undo"}
"""Verbs that, standing twice, mean two times."""


@dataclass(frozen=True, slots=True)
class Node:
    """One line, by index from 0.

    `after`: lines that must be over, well or not, before it runs. `needs`: lines that must have gone well, or it is
    skipped. `same_as`: an earlier line whose outcome it shares.
    """

    index: int
    after: frozenset[int]
    needs: frozenset[int]
    same_as: int | None


def graph(plan: Sequence[Syscall]) -> list[Node]:
    """The graph of a plan, one node a line, in order."""
    nodes: list[Node] = []
    last_act: int | None = None
    reads: list[int] = []
    blockers: set[int] = set()
    merged: dict[int, int] = {}
    for index, call in enumerate(plan):
        acts = call.risk > Risk.READ
        needs = frozenset(merged.get(line - 1, line - 1) for line in call.references() if line <= index) | frozenset(
            blockers
        )
        after = set(needs)
        if last_act is not None:
            after.add(last_act)
        if acts:
            after.update(reads)
        since = range(max({last_act or 0, *blockers}), index) if call.verb not in REPEATABLE else range(0)
        same = next((earlier for earlier in since if plan[earlier] == call and earlier not in merged), None)
        nodes.append(Node(index, frozenset(after), needs, same))
        if same is not None:
            merged[index] = same
        elif acts:
            last_act, reads = index, []
        else:
            reads.append(index)
            if call.blocks:
                blockers.add(index)
    return nodes
