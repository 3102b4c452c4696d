"""Why: what happened to a target and for what reason, as one sentence and the events behind it."""

import time
from typing import TYPE_CHECKING, Any

from llmos.kernel.job import Job
from llmos.kernel.targets import JobTarget, Resolved, WatchTarget
from llmos.scheduler import explanation

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel

MAX_EVENTS = 20


async def why(kernel: "Kernel", target: Resolved) -> dict[str, Any]:
    """Explain a target: `{target, sentence, events}`, the newest event last."""
    subject = str(target.number) if isinstance(target, WatchTarget) else subject_of(target)
    events = await kernel.journal.events(subject=subject, limit=MAX_EVENTS)
    if isinstance(target, JobTarget):
        sentence = _of_job(kernel.supervisor.get(target.name), events)
    elif events and events[-1]["kind"].startswith("scheduler."):
        sentence = f"{_name(target)}: {explanation.explain(events)}"
    elif events:
        sentence = f"{_name(target)}: {_of_event(events[-1])}."
    else:
        sentence = f"llmos has done nothing to {_name(target)}."
    return {"target": _name(target), "sentence": sentence, "events": events}


def subject_of(target: Resolved) -> str:
    """The subject that events about a target carry."""
    return target.name if isinstance(target, JobTarget) else target.key


def _name(target: Resolved) -> str:
    if isinstance(target, WatchTarget):
        return f"watch {target.number}"
    return target.name if isinstance(target, JobTarget) else f"{target.name} (pid {target.pid})"


def _of_job(job: Job, events: list[dict[str, Any]]) -> str:
    since = next((event["at"] for event in reversed(events) if event["body"].get("to") == str(job.state)), None)
    when = f" since {_clock(since)}" if since is not None else ""
    sentence = f"{job.name} is {job.state}{when}: {job.reason or 'it was never started'}."
    if job.ended_at is not None and job.recent and job.ended_how() not in sentence:
        sentence += f" Its last run ended at {_clock(job.ended_at)}: {job.ended_how()}."
    sentence += _of_memory(job)
    if job.failed_checks:
        sentence += f" The last {job.failed_checks} of its health checks failed."
    if job.restarts:
        sentence += f" It was restarted {job.restarts} time{'s' if job.restarts > 1 else ''}."
    changes = [
        event for event in events if event["kind"] in ("job.reniced", "job.limited", "focus.set", "focus.lifted")
    ]
    if changes:
        sentence += f" Last change: {_of_event(changes[-1])}."
    if scheduled := explanation.explain(events):
        sentence += f" {scheduled}"
    return sentence


def _of_memory(job: Job) -> str:
    last = job.recent[-1] if job.recent else {}
    match last.get("oom"):
        case True:
            whose = {
                "limit": f"it reached the limit of {job.memory}" if job.memory else "it reached its limit",
                "group": "a control group that it is in reached its limit",
                "machine": "the machine had none left",
            }.get(last.get("oom_of") or "", "the machine, or a control group that it is in, had none left")
            return f" Out of memory: {whose}, and the kernel killed a process of it."
        case "perhaps":
            return (
                " The kernel has killed processes for want of memory while it ran; whether this was one, its log tells"
                " (dmesg), which llmosd may not read."
            )
    return ""


def _of_event(event: dict[str, Any]) -> str:
    body = event["body"]
    noun, _, verb = event["kind"].partition(".")
    what = (f"{noun} {verb}" if noun in ("focus", "watch") else verb).replace("_", " ")
    detail = body.get("priority") or body.get("signal") or body.get("limits") or ""
    if isinstance(detail, dict):
        detail = " ".join(f"{name}={value}" for name, value in detail.items())
    by = f" for uid {event['uid']}" if event["uid"] is not None else ""
    reason = f", {body['reason']}" if body.get("reason") else ""
    return f"{what} {detail}".strip() + f" at {_clock(event['at'])}{by}{reason}"


def _clock(at: float) -> str:
    moment = time.localtime(at)
    today = moment[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", moment)
