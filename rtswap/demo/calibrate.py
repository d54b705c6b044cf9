"""From measured costs to periods and deadlines that this machine can keep.

A job that finds nothing of its model on the device holds it for one *block*: the restore of every
chunk over the link, then the execution. Jobs are not interrupted, so the shortest deadline must
outlast the longest block of another task, one of its own, and one of each task whose deadline
comes first. Everything scales with the measured costs: a slow machine gets longer periods, not
another outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from rtswap import _core

MS = 1_000_000  # ns

# Of the device's time. The rest is what a shared machine takes without asking.
LOAD = 0.49
# Deadlines relative to the longest wait that theory allows: what a busy machine may take.
DEADLINE_SLACK = 1.05
# What comes on top of a block: a piece of a restore ahead that is under way, buffers of other
# models that are written back, and messages.
STRAY_BYTES = 32 << 20
WRITTEN_BACK_CHUNKS = 4
ROUND_TRIPS_NS = 2 * MS
# Declared cost relative to the worst one measured.
COST_MARGIN = 1.25
COST_FLOOR_NS = 2 * MS


@dataclass(frozen=True)
class Link:
    bytes_per_s: int
    chunk_bytes: int
    chunk_cost_ns: int  # mapping and unmapping one chunk

    def restore_ns(self, chunks: int) -> int:
        return chunks * (self.chunk_bytes * 1_000_000_000 // self.bytes_per_s + self.chunk_cost_ns)

    def block_ns(self, chunks: int, wcet_ns: int) -> int:
        """How long one job that finds nothing of its memory in place keeps the device."""
        stray = max(1, STRAY_BYTES // self.chunk_bytes) + WRITTEN_BACK_CHUNKS
        return wcet_ns + ROUND_TRIPS_NS + self.restore_ns(chunks + stray)


@dataclass(frozen=True)
class Measured:
    name: str
    chunks: int
    worst_ns: int
    pace: float = 1.0  # its period relative to the other tasks'
    offset_ns: int = 0


@dataclass(frozen=True)
class Timing:
    name: str
    period_ns: int
    deadline_ns: int
    wcet_ns: int
    block_ns: int
    offset_ns: int

    @property
    def load(self) -> float:
        return self.block_ns / self.period_ns

    def releases_ns(self, horizon_ns: int) -> list[int]:
        """Offsets of all releases whose deadline lies within the horizon."""
        last_ns = horizon_ns - self.deadline_ns
        return list(range(self.offset_ns, max(last_ns, self.offset_ns) + 1, self.period_ns))


def declared_cost_ns(worst_ns: int) -> int:
    return round(worst_ns * COST_MARGIN) + COST_FLOOR_NS


def calibrate(tasks: Sequence[Measured], link: Link, stretch: float = 1.0) -> list[Timing]:
    """Periods and deadlines that pass the test; at most half of the device's time is asked for.

    Tasks come in the order of their deadlines. All times are the shortest ones times `stretch`,
    or a bit longer where the test asks for it: blocks do not grow with the periods, so that some
    stretch always passes.
    """
    while not demand_is_met(timings := _at_stretch(tasks, link, stretch)):
        stretch *= 1.05
    return timings


def _at_stretch(tasks: Sequence[Measured], link: Link, stretch: float) -> list[Timing]:
    wcets = {task.name: declared_cost_ns(task.worst_ns) for task in tasks}
    blocks = {task.name: link.block_ns(task.chunks, wcets[task.name]) for task in tasks}
    # One block already running, then the tasks in the order of this list.
    longest_ns = max(blocks.values())
    waits_ns = {
        task.name: stretch * DEADLINE_SLACK * (longest_ns + queued_ns)
        for task, queued_ns in zip(tasks, accumulate(blocks[t.name] for t in tasks), strict=True)
    }
    # At this base period, each times its pace, the tasks make LOAD together.
    base_ns = stretch * sum(blocks[task.name] / task.pace for task in tasks) / LOAD

    def timing(task: Measured) -> Timing:
        deadline_ns = waits_ns[task.name]
        period_ns = max(base_ns * task.pace, deadline_ns)
        return Timing(
            name=task.name,
            period_ns=_whole_ms(period_ns),
            deadline_ns=_whole_ms(deadline_ns),
            wcet_ns=wcets[task.name],
            block_ns=blocks[task.name],
            offset_ns=task.offset_ns,
        )

    return [timing(task) for task in tasks]


def total_load(timings: Sequence[Timing]) -> float:
    return sum(timing.load for timing in timings)


def demand_is_met(timings: Sequence[Timing]) -> bool:
    """The test of the arbiter, on blocks: as for tasks that execute so long and restore nothing."""
    tasks = [
        {
            "name": timing.name,
            "period_ns": timing.period_ns,
            "deadline_ns": timing.deadline_ns,
            "wcet_ns": timing.block_ns,
            "arena": number,
            "arena_chunks": 1,
        }
        for number, timing in enumerate(timings)
    ]
    device = {"chunk_bytes": 1, "chunk_count": len(tasks), "bytes_per_s": 1, "staging": False}
    return bool(_core.plan(device, tasks)["admitted"])


def _whole_ms(duration_ns: float) -> int:
    return -int(-duration_ns // MS) * MS
