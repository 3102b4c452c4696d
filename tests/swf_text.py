"""SWF text as a trace has it, small."""

from collections.abc import Iterable
from pathlib import Path

from llmos.scheduler.workload import Job


def write_swf(path: Path, jobs: Iterable[Job]) -> Path:
    """Write jobs as a trace; users and programs are written as they are, so give numbers."""
    lines = ["; Version: 2.2", ";"]
    for job in jobs:
        fields = [str(job.number), f"{job.submit:.0f}", "-1", f"{job.runtime:.0f}", str(job.processors)]
        fields += ["-1", "-1", "-1", f"{job.requested or -1:.0f}", "-1", "-1"]
        fields += [job.user or "-1", "-1", job.program or "-1", "-1", job.queue or "-1", "-1", "-1"]
        lines.append(" ".join(fields))
    path.write_text("\n".join(lines) + "\n")
    return path
