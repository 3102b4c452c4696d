"""The per-request grammar: what was said can be written, what was not said cannot."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from llmos.nlui.grammar import MAX_LINES, accepts, build_grammar, reachable
from llmos.plan.language import parse_plan, print_plan
from llmos.syscalls import SYSCALLS

BYTES = LLTokenizer("byte")


@pytest.mark.parametrize(
    ("request_text", "plan"),
    [
        ("what holds port 3000? kill it", ["port 3000", "kill $1"]),
        ("hang up on nginx.", ["kill nginx signal=HUP"]),
        ("把nginx停掉", ["stop nginx"]),
        ("隧道断了，重启隧道吧", ["restart 隧道"]),
        ("freeze pid #4211", ["pause 4211"]),
        ("what is using /mnt/usb-disk?", ["holders /mnt/usb-disk"]),
        ("what's open in '/srv/My Files'", ['holders "/srv/My Files"']),
        ("run `make -j4 all`, please", ["run -- make -j4 all"]),
        (
            "run python train.py --lr 3e-4, named trial, two cores",
            ["run name=trial cpu=2 -- python train.py --lr 3e-4"],
        ),
        ('start bash -c "sleep 5; date" in "/tmp/a b"', ['run cwd="/tmp/a b" -- bash -c "sleep 5; date"']),
        ("用python3跑clean.py --all，每天早上六点", ["run at=06:00 -- python3 clean.py --all"]),
        ("weekdays at nine run ./report", ['run cron="0 9 * * 1-5" -- ./report']),
        ("tell me when api's log says out of memory", ['watch log match="out of memory" target=api']),
        ("pause batch above ninety percent cpu for a minute", ['watch cpu above=90 for=1m then="pause batch"']),
        ("once etl ends run ./load --fast", ['watch exit target=etl then="run -- ./load --fast"']),
        ("list everything when web dies", ["watch exit target=web then=ps"]),
        ("no memory cap for db any more", ["limit db memory=none"]),
        ("every other day at 3am run ./x", ["run at=03:00 every=2d -- ./x"]),
        ("cap db at 2 gigs, 20 MB/s", ["limit db memory=2G io=20M"]),
        ("the greediest one", ["ps sort=memory limit=1"]),
        ("undo the last three", ["undo 3"]),
        ("", ['ask "What should I do?"']),
        ("make me a sandwich", ['refuse "That is not about processes."']),
    ],
)
def test_what_was_said_is_reachable(request_text: str, plan: list[str]) -> None:
    assert print_plan(parse_plan(plan)) == plan
    assert reachable(plan, request_text)


@pytest.mark.parametrize(
    ("request_text", "plan"),
    [
        ("stop the web server", ["stop postgres"]),
        ("stop the web server", ["kill 1"]),
        ("run make all", ["run -- rm -rf /"]),
        ("cap web at 2 gigs", ["limit web memory=3G"]),
        ("run ./x at 6", ["run at=07:00 -- ./x"]),
        ("run ./x every monday", ['run cron="0 0 * * 2" -- ./x']),
        ("wait for etl, ten minutes", ["wait etl timeout=11m"]),
        ("top five by cpu", ["ps sort=cpu limit=6"]),
        ("what is on port 80", ["port 81"]),
        ("kill web", ["kill $1"]),
        ("kill web and db", ["show web", "kill $2"]),
        ("kill web", ["kill"]),
        ("kill web", [""]),
        ("kill web", ["kill web "]),
        ("say hello", ['ask "a\\nb"']),
        ("say hello", ['ask "' + "x" * 161 + '"']),
        ("kill $1", ["kill $1"]),
        ("watch web", ['watch exit target=web then="ask why"']),
        ("run ./x at 6 every 5 minutes", ["run at=06:00 every=5m -- ./x"]),
        ("limit web", ["limit web"]),
        ("schedule web", ["schedule web"]),
        ("watch the log of web", ["watch log target=web"]),
        ("tell me about cpu of web over 2G", ["watch cpu above=2G target=web"]),
    ],
)
def test_what_was_not_said_is_out_of_reach(request_text: str, plan: list[str]) -> None:
    assert not reachable(plan, request_text)


def test_known_names_are_reachable_and_no_others() -> None:
    assert reachable(["stop night-batch"], "stop the usual", names=["night-batch"])
    assert reachable(['stop "night batch"'], "stop the usual", names=["night batch"])
    assert not reachable(["stop night-batch"], "stop the usual")


@pytest.mark.parametrize("metric", SYSCALLS["watch"].arguments["metric"].choices)
def test_every_metric_can_be_watched(metric: str) -> None:
    keys = {"exit": "target=web", "log": "match=web target=web"}.get(metric, "above=90 for=5m")
    assert reachable([f"watch {metric} {keys}"], "web at 90 for 5 minutes")


def test_a_plan_is_bounded_in_lines() -> None:
    assert reachable(["show web"] * MAX_LINES, "web")
    assert not reachable(["show web"] * (MAX_LINES + 1), "web")


def test_references_point_upwards_on_every_line() -> None:
    for line in range(2, MAX_LINES + 1):
        above = ["show web"] * (line - 1)
        assert reachable([*above, f"kill ${line - 1}"], "web")
        assert not reachable([*above, f"kill ${line}"], "web")


HOSTILE = [
    "",
    " ",
    "\"'`“”‘’",
    'a"b\'c`d \\ \\" \\n',
    "line one\nline two\r\n\ttabbed\0nul\x1b[31m",
    '%regex {"substring_chars": "x"} start: /.*/ | "a" // # & ~ ::_ %if',
    "$1 $2 \"$1\" '$3' -- --x ---",
    "🧨👩‍👩‍👧 résumé \u200bzero-width \u2028 \ud800",
    "停" * 2000,
    ("foo-1 'bar baz' \"q\" /x/y=3, " * 500)[:10_000],
    "12 at 5 3G 每天八点 " * 500,
    "x" * 10_000,
]


@pytest.mark.parametrize("request_text", HOSTILE)
def test_hostile_requests_give_valid_grammars(request_text: str) -> None:
    grammar = build_grammar(request_text, names=[request_text[:200], "web"])
    assert LLMatcher.validate_grammar(grammar) == ""
    assert reachable(["stop web"], request_text, names=["web"])
    assert reachable(['ask "Which one?"'], request_text)
    assert reachable(["refuse 这不是进程的事"], request_text)


_FRAGMENTS = st.sampled_from(
    ["kill", "run", '"a b"', "'c d'", "`e f`", "“g h”", "「i」", "$1", "--", "--all", "x=1", "/srv/a", "port 80",
     "at 6", "every monday", "2 gigs", "三核", "重启", "nginx,", "半小时", "(paren)", "back\\slash", "it's", "log's",
     "#", "%", "*", "周一到周五", "1.5", "a/b", "🦊", "env", "007", "every other day", "95 percent", "say 'x \"y\" z'"]
)  # fmt: skip
_REQUESTS = st.lists(st.one_of(_FRAGMENTS, st.text(max_size=8)), max_size=10).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(_REQUESTS, st.lists(st.text(max_size=12), max_size=3), st.integers(0, 2**32))
def test_everything_accepted_parses(request_text: str, names: list[str], seed: int) -> None:
    """Walk at random through what the grammar allows; wherever it may stop, the text is a plan."""
    matcher = LLMatcher(BYTES, build_grammar(request_text, names))
    assert not matcher.is_error(), matcher.get_error()
    choose = random.Random(seed)
    written = bytearray()
    for _ in range(200):
        if matcher.is_accepting():
            parse_plan(written.decode())
        mask = matcher.compute_bitmask()
        allowed = [byte for byte in range(256) if mask[byte >> 3] >> (byte & 7) & 1]
        if not allowed:
            break
        written.append(choose.choice(allowed))
        assert matcher.consume_token(written[-1])


@pytest.mark.parametrize(
    ("kind", "value", "plan"),
    [
        ("ARGV", "python train.py --fast", "run -- python train.py --fast"),
        ("TARGET", "nightly-etl", "restart nightly-etl"),
        ("SIZE", "4G", "limit web memory=4G"),
        ("CRON", '"0 2 * * 1-5"', 'schedule web cron="0 2 * * 1-5"'),
        ("ARGV", "make nightly", 'watch exit target=web then="run -- make nightly"'),
    ],
)
def test_what_was_taught_is_reachable_though_nobody_said_it(kind: str, value: str, plan: str) -> None:
    request = "the usual for web, please"
    assert not reachable([plan], request)
    matcher = LLMatcher(LLTokenizer("byte"), build_grammar(request, (), {kind: [value]}))
    assert accepts(matcher, plan)
