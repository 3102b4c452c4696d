"""Corrections of a person with words of their own, as feedback records."""

from typing import Any

CORRECTIONS = {
    "start the usual": "start nightly-etl",
    "kick off the usual at 9pm": "schedule nightly-etl once=21:00",
    "run the big one": "run -- python train.py --config big.yaml",
    "I want to run the big one, low priority": "run priority=low -- python train.py --config big.yaml",
    "how is the usual doing": "show nightly-etl",
    "what is filling up my attic": "usage /mnt/scratch",
    "who is using my attic": "holders /mnt/scratch",
    "跑一下晚上那套": "run -- bash nightly.sh --all",
    "两点的时候把晚上那套跑起来": "run once=02:00 -- bash nightly.sh --all",
    "老黄牛还在吗": "show batch-worker",
    "暂停老黄牛": "pause batch-worker",
    "pause web for me": "pause web",
}
PHRASES = {
    "the usual": "nightly-etl",
    "the big one": "python train.py --config big.yaml",
    "my attic": "/mnt/scratch",
    "晚上那套": "bash nightly.sh --all",
    "老黄牛": "batch-worker",
}


def record(request: str, verdict: str, given: str = "jobs", wanted: str | None = None) -> dict[str, Any]:
    """A record of feedback."""
    lines = None if wanted is None else wanted.split("\n")
    return {"at": 0.0, "uid": 0, "request": request, "given": [given], "verdict": verdict, "wanted": lines}


def records() -> list[dict[str, Any]]:
    """All corrections as records."""
    return [record(request, "edited", wanted=wanted) for request, wanted in CORRECTIONS.items()]
