"""Which plans count as the accepted one."""

import pytest

from llmos.nlui.plan_match import plan_matches


@pytest.mark.parametrize(
    ("accepted", "plan"),
    [
        (["kill web"], "kill web signal=TERM"),
        (["kill web signal=TERM"], "kill web"),
        (["stop web timeout=60s"], "stop web timeout=1m"),
        (["limit web memory=1024M cpu=2"], "limit web cpu=2.0 memory=1G"),
        (["ps sort=memory limit=*"], "ps sort=memory"),
        (["ps sort=memory limit=*"], "ps sort=memory limit=7"),
        (["ask *"], 'ask "Which one?"'),
        (["run name=* -- make -j8"], "run name=build restart=never -- make -j8"),
        (['watch exit target=a then="kill b"'], 'watch exit target=a then="kill b signal=TERM"'),
        (["port 1", "port 2", "kill $1", "kill $2"], "port 2\nport 1\nkill $2\nkill $1"),
        (["watch log match=Error target=web"], "watch log match=error target=web"),
    ],
)
def test_equal(accepted: list[str], plan: str) -> None:
    assert plan_matches(plan, [["show other"], accepted])


@pytest.mark.parametrize(
    ("accepted", "plan"),
    [
        (["kill web"], "kill web signal=KILL"),
        (["kill web"], "stop web"),
        (["kill web"], "kill web\nkill web"),
        (["kill web"], "not a plan"),
        (["kill web"], ""),
        (["ps sort=memory"], "ps sort=memory limit=7"),
        (["run name=* -- make -j8"], "run -- make -j 8"),
        (["run name=* -- make -j8"], "run -- MAKE -j8"),
        (["pause a", "resume b"], "resume b\npause a"),
        (["wait a", "start b"], "start b\nwait a"),
        (["port 1", "port 2", "kill $1", "kill $2"], "port 2\nport 1\nkill $1\nkill $2"),
        (['watch exit target=a then="kill b"'], "watch exit target=a"),
        (["ps limit=1", "kill $1"], "kill $1\nps limit=1"),
    ],
)
def test_different(accepted: list[str], plan: str) -> None:
    assert not plan_matches(plan, [accepted])
