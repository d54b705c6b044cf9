"""Records of single jobs, and what they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

Outcome = Literal["met", "missed", "dropped"]


@dataclass(frozen=True)
class JobRecord:
    """One release of one task, as its client saw it. Instants are CLOCK_MONOTONIC ns."""

    task: str
    index: int
    release_ns: int
    deadline_ns: int
    outcome: Outcome
    end_ns: int = 0  # 0: it never ran
    exact: bool = True  # its output equals the unswapped model's, bit for bit

    @property
    def response_ns(self) -> int:
        return self.end_ns - self.release_ns


@dataclass(frozen=True)
class TaskTally:
    """One row of the demo's table."""

    task: str
    releases: int
    met: int
    missed: int
    dropped: int
    response_min_ms: float | None
    response_median_ms: float | None
    response_max_ms: float | None
    bytes_in: int
    bytes_out: int
    wrong: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def tally(task: str, jobs: Sequence[JobRecord], bytes_in: int, bytes_out: int) -> TaskTally:
    mine = [job for job in jobs if job.task == task]
    responses = [job.response_ns / 1e6 for job in mine if job.end_ns]
    return TaskTally(
        task=task,
        releases=len(mine),
        met=sum(job.outcome == "met" for job in mine),
        missed=sum(job.outcome == "missed" for job in mine),
        dropped=sum(job.outcome == "dropped" for job in mine),
        response_min_ms=min(responses, default=None),
        response_median_ms=median(responses) if responses else None,
        response_max_ms=max(responses, default=None),
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        wrong=sum(not job.exact for job in mine),
    )
