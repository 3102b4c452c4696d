"""Pods that used GPUs, as Alibaba's openb traces record them (Weng et al., USENIX ATC 2023).

The format: https://github.com/alibaba/clusterdata/tree/master/cluster-trace-gpu-v2023, a CSV file with a pod a line; its
`gpu_milli` are thousandths of each of its `num_gpu` cards. Times are in seconds.
"""

import csv
import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmos.errors import BadInput, NotFound
from llmos.scheduler.gpu.admission import WHOLE
from llmos.scheduler.workload import Job

_MOST_PODS = 1_000_000
_NEEDED = {
    *("cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "qos"),
    *("creation_time", "deletion_time", "scheduled_time"),
}


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod that ran on cards: thousandths of each of them, when it came and ended, and for how long it ran."""

    cards: int
    share: int
    came: float
    ended: float
    runtime: float
    attributes: tuple[str, str, str]
    """Class of service; processors and memory; what it asks of the cards: known when it comes."""

    def as_job(self, number: int) -> Job:
        """The pod as windows and runtimes know it; `processors` are the thousandths of all its cards."""
        user, program, queue = self.attributes
        return Job(number, self.came, self.runtime, self.cards * self.share, user, program, queue)


def read_pods(path: Path) -> list[Pod]:
    """The pods of a CSV file, plain or gzipped, that ran on cards, in the order in which they came.

    :raises NotFound: there is no such file.
    :raises BadInput: it is not in that format, or no pod in it ran on a card.
    """
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as lines:
            pods = list(_pods(lines, path))
    except FileNotFoundError:
        raise NotFound(f"there is no trace {path}") from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as a trace of pods: {error}") from None
    if not pods:
        raise BadInput(f"no pod of {path} ran on a GPU")
    return sorted(pods, key=lambda pod: pod.came)


def _pods(lines: Iterable[str], path: Path) -> Iterator[Pod]:
    reader = csv.DictReader(lines)
    if missing := _NEEDED - set(reader.fieldnames or ()):
        raise BadInput(f"{path} has no column {', '.join(sorted(missing))}, as a trace of pods has")
    for row in reader:
        if reader.line_num > _MOST_PODS:
            raise BadInput(f"{path} has more than {_MOST_PODS} lines; cut it into parts")
        try:
            if None in row.values():  # the line is too short
                raise ValueError
            cards, share = int(row["num_gpu"] or 0), int(row["gpu_milli"] or 0)
            if not row["scheduled_time"] or cards < 1:
                continue  # it was never given a place, or wanted no card
            came, began, ended = (float(row[name]) for name in ("creation_time", "scheduled_time", "deletion_time"))
        except (ValueError, TypeError):
            raise BadInput(f"line {reader.line_num} of {path} is not a pod") from None
        if not 0 < share <= WHOLE:
            raise BadInput(f"line {reader.line_num} of {path}: gpu_milli is from 1 to {WHOLE}")
        if ended > began:
            size = f"{row['cpu_milli']}/{row['memory_mib']}"
            asked = f"{cards}/{share}/{row.get('gpu_spec') or ''}"
            yield Pod(cards, share, came, ended, ended - began, (row["qos"], size, asked))
