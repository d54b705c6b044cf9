"""The same tasks in virtual time: no clock, no threads, so the outcome is the same anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtswap import _core
from rtswap.demo.calibrate import Link, Timing


@dataclass(frozen=True)
class Replay:
    """What came of it. `refused` names tasks that admission would not take."""

    released: int
    missed: int
    dropped: int
    refused: list[str]
    violations: list[str]

    @property
    def clean(self) -> bool:
        return not (self.missed or self.dropped or self.refused or self.violations)


def replay(
    timings: Sequence[Timing],
    chunks: Mapping[str, int],
    bank_chunks: int,
    link: Link,
    horizon_ns: int,
) -> Replay:
    """Every job takes its whole declared cost; releases as in the demo."""
    report: Any = _core.simulate(
        {
            "chunk_bytes": link.chunk_bytes,
            "chunk_count": bank_chunks,
            "bytes_per_s": link.bytes_per_s,
            "chunk_cost_ns": link.chunk_cost_ns,
            "discipline": "edf",
            "horizon_ns": horizon_ns,
            "seed": 1,
        },
        [
            {
                "name": timing.name,
                "period_ns": timing.period_ns,
                "deadline_ns": timing.deadline_ns,
                "wcet_ns": timing.wcet_ns,
                "execution_min_ns": timing.wcet_ns,
                "execution_max_ns": timing.wcet_ns,
                "arena_chunks": chunks[timing.name],
                "offset_ns": timing.offset_ns,
            }
            for timing in timings
        ],
    )
    tasks = report["tasks"]
    return Replay(
        released=sum(task["released"] for task in tasks),
        missed=sum(task["missed"] for task in tasks),
        dropped=sum(task["dropped"] for task in tasks),
        refused=[task["name"] for task in tasks if task["state"] != "admitted"],
        violations=list(report["violations"]),
    )
