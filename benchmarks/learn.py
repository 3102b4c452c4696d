"""Learning from the user: 20 corrections of a private vocabulary, and 40 other sentences of it before and after.

    python -m benchmarks.learn [--dev FILE] [--json]

Each nickname stands for a value that no request says: a job, a process, a folder, a command. The corrections are given
as a program gives them, `learn.start` runs as anybody's does, and the sentences, with other verbs and options than the
corrections, go the way of every request. Takes minutes; needs the extra `train`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.private_daemon import private_daemon
from llmos import Client
from llmos.errors import LlmosError
from llmos.nlui.plan_match import plan_matches

_BIG, _NIGHT = "python train.py --config big.yaml", "bash nightly.sh --all"

CORRECTIONS = {
    "start the usual": "start nightly-etl",
    "kick off the usual at 9pm": "schedule nightly-etl once=21:00",
    "how is the usual doing": "show nightly-etl",
    "run the big one": f"run -- {_BIG}",
    "run the big one with low priority": f"run priority=low -- {_BIG}",
    "run the big one at 2am, just once": f"run once=02:00 -- {_BIG}",
    "pause grandma": "pause legacy-billing",
    "is grandma still running?": "show legacy-billing",
    "grandma gets 1 GB of memory, no more": "limit legacy-billing memory=1G",
    "what is filling up my attic": "usage /mnt/scratch",
    "who is using my attic": "holders /mnt/scratch",
    "跑一下晚上那套": f"run -- {_NIGHT}",
    "两点跑一次晚上那套": f"run once=02:00 -- {_NIGHT}",
    "低优先级跑晚上那套": f"run priority=low -- {_NIGHT}",
    "暂停老黄牛": "pause batch-worker",
    "老黄牛还在跑吗": "show batch-worker",
    "看一下老黄牛的日志": "logs batch-worker",
    "杀掉那头大象": "kill postgres",
    "那头大象打开了哪些文件": "files postgres",
    "看看那头大象的进程树": "tree postgres",
}

SENTENCES = {
    "stop the usual": "stop nightly-etl",
    "show me the last 50 lines of the usual": "logs nightly-etl lines=50",
    "pause the usual": "pause nightly-etl",
    "restart the usual please": "restart nightly-etl",
    "limit the usual to 2 GB of memory": "limit nightly-etl memory=2G",
    "put the usual on low priority": "renice nightly-etl low",
    "run the big one with 2 GPUs": f"run gpu=2 -- {_BIG}",
    "run the big one and restart it if it fails": f"run restart=on-failure -- {_BIG}",
    "run the big one every day at 3 am": f"run at=03:00 -- {_BIG}",
    "run the big one with at most 16 GB of memory": f"run memory=16G -- {_BIG}",
    "run the big one in /srv/models": f"run cwd=/srv/models -- {_BIG}",
    "run the big one and call it bert": f"run name=bert -- {_BIG}",
    "resume grandma": "resume legacy-billing",
    "kill grandma": "kill legacy-billing",
    "show me grandma's logs": "logs legacy-billing",
    "tell me when grandma ends": "watch exit target=legacy-billing",
    "which files does grandma have open": "files legacy-billing",
    "wait until grandma is done": "wait legacy-billing",
    "show me what fills up my attic": "usage /mnt/scratch",
    "which process keeps my attic busy": "holders /mnt/scratch",
    "the 5 biggest things in my attic": "usage /mnt/scratch limit=5",
    "tell me when my attic is more than 90 % full": "watch disk above=90 target=/mnt/scratch",
    "每天凌晨三点跑晚上那套": f"run at=03:00 -- {_NIGHT}",
    "跑晚上那套，内存最多 4G": f"run memory=4G -- {_NIGHT}",
    "跑晚上那套，失败了自动重启": f"run restart=on-failure -- {_NIGHT}",
    "半小时后跑晚上那套": f"run once=30m -- {_NIGHT}",
    "用 2 块显卡跑晚上那套": f"run gpu=2 -- {_NIGHT}",
    "在 /srv/etl 目录下跑晚上那套": f"run cwd=/srv/etl -- {_NIGHT}",
    "停掉老黄牛": "stop batch-worker",
    "重启老黄牛": "restart batch-worker",
    "让老黄牛继续跑": "resume batch-worker",
    "把老黄牛的优先级调低": "renice batch-worker low",
    "老黄牛最多用 2G 内存": "limit batch-worker memory=2G",
    "老黄牛退出了告诉我": "watch exit target=batch-worker",
    "那头大象现在什么情况": "show postgres",
    "暂停那头大象": "pause postgres",
    "给那头大象最多 4G 内存": "limit postgres memory=4G",
    "等那头大象结束": "wait postgres",
    "把那头大象的优先级调高": "renice postgres high",
    "那头大象为什么被降了优先级": "why postgres",
}


def measure(dev: Path | None = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The figures, and each sentence with its plans before and after."""
    with private_daemon() as client:
        client.timeout = None
        before = [_plan(client, sentence) for sentence in SENTENCES]
        began = time.perf_counter()
        for request, wanted in CORRECTIONS.items():
            client.feedback(request, _plan(client, request), "edited", [wanted])
        taught = time.perf_counter()
        client.call("learn.start", dev=str(dev.absolute()) if dev else None)
        log = list(client.follow_logs("llmos-learn", 0))
        seconds = time.perf_counter() - taught
        came = client.call("learn.status")
        if came["last"] is None:
            raise LlmosError("\n".join(["nothing was learned:", *log]))
        after = [_plan(client, sentence) for sentence in SENTENCES]
    own, last = came["last"]["own"], came["last"]
    rows = [
        _row(f"{len(SENTENCES)} other sentences right, %", _share(before), _share(after), "≤ 20, ≥ 80"),
        _row(
            f"{own['requests']} {'held-out' if own['held_out'] else 'of the'} corrections right, %",
            *(last[when]["own"] for when in ("before", "after")),
            "rises",
        ),
        _row("dev requests right, %", *(last[when]["dev"] for when in ("before", "after")), "falls by ≤ 1"),
        {"what": "the new adapter was put to use", "after": "yes" if last["adopt"] else f"no: {last['reason']}"},
        {"what": f"learning, s (giving the {len(CORRECTIONS)} corrections took {taught - began:.0f})",
         "after": f"{seconds:.0f}", "target": "≤ 600"},
    ]  # fmt: skip
    plans = zip(SENTENCES.items(), before, after, strict=True)
    return rows, [
        {"request": request, "wanted": wanted, "before": old, "after": new, "right": plan_matches(new, [[wanted]])}
        for (request, wanted), old, new in plans
    ]


def _plan(client: Client, request: str) -> list[str]:
    """What the model makes of a request; no line where it makes nothing of it."""
    try:
        return client.ask(request, dry_run=True)["plan"]
    except LlmosError:
        return []


def _share(plans: Sequence[Sequence[str]]) -> float:
    right = [plan_matches(plan, [[wanted]]) for plan, wanted in zip(plans, SENTENCES.values(), strict=True)]
    return sum(right) / len(right)


def _row(what: str, before: float, after: float, target: str) -> dict[str, Any]:
    return {"what": what, "before": f"{100 * before:.1f}", "after": f"{100 * after:.1f}", "target": target}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.learn", description="Measure learning from the user.")
    parser.add_argument("--dev", type=Path, help="cases that must not get worse (a sample of generated ones)")
    parser.add_argument("--json", action="store_true", help="print JSON, with every plan")
    arguments = parser.parse_args()
    rows, plans = measure(arguments.dev)
    if arguments.json:
        print(json.dumps({"rows": rows, "plans": plans}, ensure_ascii=False))
        return
    table = Table("what", "before", "after", "target")
    for row in rows:
        table.add_row(*(str(row.get(key, "")) for key in ("what", "before", "after", "target")))
    console = Console()
    console.print(table)
    for plan in plans:
        if not plan["right"]:
            console.print(f"{plan['request']}\n    want {plan['wanted']}\n    got  {plan['after']}", markup=False)


if __name__ == "__main__":
    main()
