"""What came of the same releases under one discipline."""

from __future__ import annotations

from dataclasses import dataclass, field

from rtswap.demo.stage import Discipline
from rtswap.demo.tally import JobRecord, TaskTally
from rtswap.timeline import Timeline

TITLES: dict[Discipline, str] = {
    "request-order": "whole-model swapping",
    "edf": "rtswap",
}


@dataclass
class Act:
    """What one discipline made of it."""

    discipline: Discipline
    start_ns: int
    jobs: list[JobRecord]
    rows: list[TaskTally]
    end_ns: int = 0  # when its clients began to leave
    timeline: Timeline = field(default_factory=Timeline)

    @property
    def met(self) -> int:
        return sum(row.met for row in self.rows)

    @property
    def late(self) -> int:
        return sum(row.missed + row.dropped for row in self.rows)
