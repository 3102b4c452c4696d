"""The graph of a plan: references, the order of what acts, and lines that are one."""

from hypothesis import given
from hypothesis import strategies as st

from llmos.plan.graph import Node, graph
from llmos.plan.language import parse_line, parse_plan
from llmos.syscalls import Risk


def of(text: str) -> list[Node]:
    return graph(parse_plan(text))


def test_a_reference_is_an_edge_and_what_needs_it_is_skipped_without_it() -> None:
    _, kill = of("port 3000\nkill $1")
    assert kill.after == kill.needs == {0}


def test_reads_run_side_by_side() -> None:
    assert [node.after for node in of("ps\nport 3000\nsystem cpu")] == [set(), set(), set()]


def test_acts_run_in_order_whether_the_earlier_went_well_or_not() -> None:
    _, second, third = of("stop a\nstop b\nstop c")
    assert [second.after, third.after] == [{0}, {1}]
    assert not second.needs and not third.needs


def test_an_act_waits_for_the_reads_above_and_a_read_for_the_act_above() -> None:
    nodes = of("ps\nport 3000\nstop a\nps\nstop b")
    assert nodes[2].after == {0, 1}
    assert nodes[3].after == {2}
    assert nodes[4].after == {2, 3}


def test_what_stands_below_a_wait_needs_it() -> None:
    nodes = of("wait build\nps\nrun -- deploy")
    assert [node.needs for node in nodes] == [set(), {0}, {0}]


def test_a_line_that_stands_again_is_one_line() -> None:
    nodes = of("port 3000\nport 3000\nkill $2\nkill $2")
    assert [node.same_as for node in nodes] == [None, 0, None, 2]
    assert nodes[2].needs == {0}


def test_a_line_that_stands_again_three_times_is_one_line() -> None:
    assert [node.same_as for node in of("ps\nps\nps")] == [None, 0, 0]


def test_a_read_is_read_again_after_an_act() -> None:
    assert [node.same_as for node in of("ps\nstop a\nps\nps")] == [None, None, None, 2]


def test_an_act_is_done_again_after_another_act() -> None:
    assert [node.same_as for node in of("stop a\nstart a\nstop a")] == [None, None, None]


def test_a_read_is_read_again_after_a_wait() -> None:
    assert [node.same_as for node in of("port 3000\nwait build\nport 3000\nwait build")] == [None, None, None, 1]


def test_running_twice_means_two_times() -> None:
    assert [node.same_as for node in of("run -- x\nrun -- x\nundo\nundo")] == [None] * 4


def test_the_references_inside_then_are_edges_too() -> None:
    assert of('ps name=a\nwatch exit target=b then="kill $1"')[1].needs == {0}


LINES = ["ps", "port 1", "wait a", "stop a", "kill b", "run -- x", "undo", "kill $1", "show $2", "kill $3", "pause $1"]


@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=12))
def test_every_graph_can_be_run_and_keeps_the_order_of_acts(lines: list[str]) -> None:
    plan = [parse_line(line) for line in lines]
    plan = [call for number, call in enumerate(plan, 1) if all(line < number for line in call.references())]
    if any(line > number for number, call in enumerate(plan) for line in call.references()):
        return
    nodes = graph(plan)
    above: dict[int, set[int]] = {}
    for node, call in zip(nodes, plan, strict=True):
        assert all(earlier < node.index for earlier in node.after)
        assert node.needs <= node.after
        above[node.index] = set(node.after).union(*(above[earlier] for earlier in node.after))
        if node.same_as is not None:
            assert plan[node.same_as] == call
            assert nodes[node.same_as].same_as is None
        elif call.risk > Risk.READ:
            originals = {earlier.index for earlier in nodes[: node.index] if earlier.same_as is None}
            assert originals <= above[node.index]
