"""May this set be promised its deadlines? Ways to share the device, each with a sound test. Pure.

All but those with staged tasks run one job at a time, earliest deadline first, without preemption,
so they are judged by the same test: non-preemptive EDF on *blocks*, the time for which one job
keeps the device. They differ in the block. Every job pays one round trip to the arbiter, one with a
swap pays a second; chunks cost the same to map and unmap everywhere, beside the copies of others.

unlimited
    All memory is there: execution. What no discipline can exceed.
whole models
    Each job brings its whole model in and copies it out at its end: in(S) + C + out(S), unless all
    models fit together. (Keeping some and swapping others whole is a special case of the next.)
RT-Swap's
    A part of each model, its swap volume V, leaves and comes back; the rest stays. A job waits
    until all of it is back, and what it displaces is copied to the host, weights too:
    in(V) + out(what others may hold of theirs, at most V) + C. Memory must hold all that stays and
    the largest volume. That is the released scheduler without its overlap at the end of a job
    (forced order and idling, which no published test covers), and without rounding what several
    victims give to whole chunks. How the paper chooses volumes and tests sets is not public. Here
    rtswap's planner chooses them, told that all memory is written back; nothing is charged for
    prefetches in flight, as there are none.
rtswap, restore then run
    Weights are dropped, not copied out: `rtswap plan`, with the constants of the arbiter, for tasks
    whose layers are not known. Others' memory may be restored while a job runs, so executions are
    charged as beside copies.
rtswap, run while restoring
    The same for tasks whose layers are known: each runs once the one before has and its memory is
    there. Some tables take the layers of a model as equal; they say so.
rtswap, staged tasks too
    Some tasks are restored in the background, as far as their run does not hide it, before they
    take the GPU. The planner chooses them. This is what the arbiter does.
rtswap, at most
    No discipline, but what none can exceed that keeps prefixes and is charged with executions
    beside copies: with all memory there the set passes, and some choice of prefixes leaves the link
    a load of at most 100 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf
from typing import Any

from bench.schedulability.drawing import DrawnTask, TaskSet
from bench.schedulability.profiles import Table
from rtswap import _core

CHUNK_BYTES = 32 << 20


def chunks_of(task: DrawnTask) -> int:
    return -(-task.model.weights_bytes // CHUNK_BYTES)


@dataclass(frozen=True)
class Case:
    """A set on a device with a bank of `bank_chunks`."""

    tasks: TaskSet
    table: Table
    bank_chunks: int

    @classmethod
    def at_demand(cls, tasks: TaskSet, table: Table, demand: float) -> Case:
        """All memory over the bank is `demand`, but for whole chunks."""
        chunks = [chunks_of(task) for task in tasks]
        return cls(tasks, table, max(max(chunks), round(sum(chunks) / demand)))

    @property
    def all_fits(self) -> bool:
        return sum(map(chunks_of, self.tasks)) <= self.bank_chunks


def unlimited(case: Case) -> bool:
    return _blocks_pass(case, [task.model.execution_ns for task in case.tasks])


def whole_models(case: Case) -> bool:
    if case.all_fits:
        return unlimited(case)
    return _blocks_pass(
        case,
        [
            task.model.execution_ns
            + _core.daemon_round_trip_ns
            + restore_ns(case.table, chunks_of(task))
            + copy_out_ns(case.table, chunks_of(task))
            for task in case.tasks
        ],
    )


def rt_swap(case: Case) -> bool:
    tasks = planner_tasks(case, beside_copies=False)
    for task in tasks:
        task["mutable_chunks"] = task["arena_chunks"]
    config = _device(case) | {"prefetch_chunks": 0, "staging": False}
    return bool(_core.plan(config, tasks)["admitted"])


def restore_then_run(case: Case) -> bool:
    return _direct(case, layers=False)


def run_while_restoring(case: Case) -> bool:
    return _direct(case, layers=True)


def staged_too(case: Case) -> bool:
    return bool(_core.plan(_device(case), rtswap_tasks(case, layers=True))["admitted"])


def at_most(case: Case) -> bool:
    executions_ns = [task["wcet_ns"] for task in rtswap_tasks(case, layers=False)]
    return _blocks_pass(case, executions_ns) and least_link_load(case) <= 1


def least_link_load(case: Case) -> float:
    """Of all prefixes that fit: time for copying in what they leave out, over time."""
    by_rate = sorted((task.period_ns, chunks_of(task)) for task in case.tasks)
    least = inf
    # Where no job restores more than `most`, what memory is left belongs to the highest rates.
    for most in range(max(size for _, size in by_rate) + 1):
        left = case.bank_chunks - most - sum(max(0, size - most) for _, size in by_rate)
        if left < 0:
            continue
        chunks_per_ns = 0.0
        for period_ns, size in by_rate:
            missing = min(size, most)
            kept = min(missing, left)
            left -= kept
            chunks_per_ns += (missing - kept) / period_ns
        least = min(least, chunks_per_ns)
    return least * copy_out_ns(case.table, 1)


def _direct(case: Case, *, layers: bool) -> bool:
    config = _device(case) | {"staging": False}
    return bool(_core.plan(config, rtswap_tasks(case, layers=layers))["admitted"])


@dataclass(frozen=True)
class Discipline:
    label: str
    admits: Callable[[Case], bool]


DISCIPLINES = {
    "unlimited": Discipline("unlimited memory", unlimited),
    "whole_models": Discipline("whole-model swapping", whole_models),
    "rt_swap": Discipline("RT-Swap's discipline", rt_swap),
    "direct": Discipline("rtswap, restore then run", restore_then_run),
    "overlap": Discipline("rtswap, run while restoring", run_while_restoring),
    "staged": Discipline("rtswap, staged tasks too", staged_too),
    "at_most": Discipline("rtswap, at most", at_most),
}


def restore_ns(table: Table, chunks: int) -> int:
    """Copy in; of mapping chunks and unmapping victims only the first is in series with it."""
    cost_ns = _core.cuda_chunk_cost_ns
    return cost_ns + max(copy_out_ns(table, chunks), chunks * cost_ns)


def copy_out_ns(table: Table, chunks: int) -> int:
    return -(-chunks * CHUNK_BYTES * 10**9 // table.link_bytes_per_s)


def planner_tasks(case: Case, *, beside_copies: bool) -> list[dict[str, Any]]:
    """As the extension takes them."""
    factor = case.table.slowdown_beside_copy if beside_copies else 1.0
    return [
        {
            "name": f"{task.model.name} #{number}",
            "period_ns": task.period_ns,
            "deadline_ns": task.period_ns,
            "wcet_ns": round(task.model.execution_ns * factor),
            "arena": number,
            "arena_chunks": chunks_of(task),
        }
        for number, task in enumerate(case.tasks, start=1)
    ]


def rtswap_tasks(case: Case, *, layers: bool) -> list[dict[str, Any]]:
    """A set that fits needs no copies."""
    tasks = planner_tasks(case, beside_copies=not case.all_fits)
    if layers:
        for values, task in zip(tasks, case.tasks, strict=True):
            values["layers"] = layers_of(task, values["wcet_ns"])
    return tasks


def layers_of(task: DrawnTask, wcet_ns: int) -> list[tuple[int, int]]:
    """(chunks, ns): the stretches of its model, `wcet_ns` together."""
    ends_ns = list(accumulate((ns for _, ns in task.model.stretches), initial=0))
    scaled_ns = [wcet_ns * end_ns // ends_ns[-1] for end_ns in ends_ns]
    return [
        (-(-needed_bytes // CHUNK_BYTES), end_ns - begin_ns)
        for (needed_bytes, _), (begin_ns, end_ns) in zip(
            task.model.stretches, pairwise(scaled_ns), strict=True
        )
    ]


def _device(case: Case) -> dict[str, Any]:
    return {
        "chunk_bytes": CHUNK_BYTES,
        "chunk_count": case.bank_chunks,
        "bytes_per_s": case.table.link_bytes_per_s,
    }


def _blocks_pass(case: Case, blocks_ns: list[int]) -> bool:
    """The test on known blocks. Each gets a round trip more: that of a set which fits."""
    tasks = planner_tasks(case, beside_copies=False)
    for task, block_ns in zip(tasks, blocks_ns, strict=True):
        task |= {"wcet_ns": block_ns, "arena_chunks": 1}
    config = _device(case) | {"chunk_count": len(tasks), "staging": False}
    return bool(_core.plan(config, tasks)["admitted"])
