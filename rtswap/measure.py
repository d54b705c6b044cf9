"""Measures what one job of a task costs when it has the device for itself."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from rtswap import _core
from rtswap.admission import Layers
from rtswap.devices import synchronize
from rtswap.errors import quietly
from rtswap.jobs import Job
from rtswap.raw_access import operators_may_be_bypassed
from rtswap.stretches import Pass, stretches

if TYPE_CHECKING:
    from rtswap.memory import Memory
    from rtswap.tasks import Task

log = logging.getLogger("rtswap")

WARM_UP_JOBS = 2
"""Jobs before the measurement: algorithm choices, lazy initialisation."""
FEWEST_JOBS = 5
MOST_JOBS = 20
ENOUGH_S = 0.5
"""Short jobs vary more: beyond the fewest, as many are measured as this time allows."""
REHEARSED_JOBS = 3
IDLE_S = 0.02
"""Before each job that is measured, as between releases. A host that has slept issues work several
times slower than one that runs pass after pass: 0.54 instead of 0.11 ms for three layers."""
WAIT_S = 0.001
"""For each piece of memory in a rehearsal, for the same reason."""
MARGIN = 1.2
HOST_NOISE_NS = 500_000
"""What a host takes from a job now and then, however short the job is."""

_EVERYTHING = 2**32 - 1


@dataclass(frozen=True)
class Cost:
    worst_ns: int
    """Of any pass."""
    stretches: list[tuple[int, int]]
    """(chunks, ns), as of :func:`rtswap.stretches.stretches`; empty: needs all memory to start."""

    @property
    def margin(self) -> float:
        return margin_of(self.worst_ns)

    @property
    def layers(self) -> Layers:
        """The stretches times the margin."""
        return [(chunks, max(1, round(ns * self.margin))) for chunks, ns in self.stretches]

    @property
    def wcet_ns(self) -> int:
        """What is declared: the worst that was seen times the margin."""
        return sum(ns for _, ns in self.layers) or round(self.worst_ns * self.margin)


def margin_of(worst_ns: int) -> float:
    """The declared cost is the worst that was seen times this. The worst case that was observed is
    not a proven one."""
    return MARGIN + HOST_NOISE_NS / worst_ns


def cost_of(
    task: Task, module: nn.Module, example_inputs: tuple[Any, ...], timeout: float | None
) -> Cost:
    """The worst device time of some passes, in exclusive jobs, and that of their stretches.

    Buffers and the random number generators are put back, also when it fails: measuring leaves no
    trace.
    """
    memory = task._memory
    inputs = pytree.tree_map_only(
        torch.Tensor, lambda tensor: tensor.to(task.device), example_inputs
    )

    def run() -> None:
        module(*inputs)

    gc.collect()  # tens of milliseconds where torch is loaded: seldom, and not the model's
    cuda = [task.device] if task.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        with Job(task, 0, timeout, exclusive=True):
            kept = memory.copy_mutable()

        def put_back() -> None:
            with Job(task, 0, timeout, exclusive=True):
                memory.assign_mutable(kept)

        try:
            worst_ns = _measure(task, run, timeout)
            rehearsed = _rehearse(task, run, timeout)
        except BaseException:
            quietly(put_back, f"task '{task.name}': its buffers keep what measuring wrote")
            raise
        put_back()
    worst_ns = max([worst_ns, *(observed.execution_ns for observed in rehearsed)])
    return Cost(worst_ns, stretches(rehearsed, worst_ns))


def _measure(task: Task, run: Callable[[], None], timeout: float | None) -> int:
    for _ in range(WARM_UP_JOBS):
        with Job(task, 0, timeout, exclusive=True):
            run()
    begun_s = time.monotonic()
    costs_ns: list[int] = []
    while len(costs_ns) < FEWEST_JOBS or (
        len(costs_ns) < MOST_JOBS and time.monotonic() - begun_s < ENOUGH_S
    ):
        costs_ns.append(execution_ns(job_after_idling(task, run, timeout)))
    return max(costs_ns)


def job_after_idling(task: Task, run: Callable[[], None], timeout: float | None) -> Job:
    """An exclusive job, ended, on a host that was idle before it."""
    time.sleep(IDLE_S)
    with Job(task, 0, timeout, exclusive=True) as job:
        run()
    return job


def execution_ns(job: Job) -> int:
    return max(1, round(job.execution_ms * 1e6))


def _rehearse(task: Task, run: Callable[[], None], timeout: float | None) -> list[Pass]:
    """What some jobs used when; none where a job must have all its memory to begin."""
    if operators_may_be_bypassed():
        return []
    found = []
    try:
        for _ in range(REHEARSED_JOBS):
            rehearsal = _Rehearsal(task._memory, run)
            job = job_after_idling(task, rehearsal.run, timeout)
            found.append(rehearsal.seen(job))
    except RuntimeError as error:
        if not task._memory.refused(error):
            raise
        log.info("task '%s' begins its jobs with all memory there: %s", task.name, error)
        return []
    return found


class _Rehearsal:
    """A pass during which memory seems to arrive just when it is used.

    The device is idle at each such point, as it is when a job really waits there: from then on the
    pass takes as long as a job takes from the arrival. So is the thread.
    """

    def __init__(self, memory: Memory, run: Callable[[], None]) -> None:
        self._memory = memory
        self._run = run
        self._uses: list[tuple[int, int]] = []
        self._waited_ns = 0  # for memory: not a part of the execution

    def run(self) -> None:
        self._memory.close_beyond(0)
        gate = self._memory.gate(0, self._use)
        gate.enter()
        try:
            self._run()
        finally:
            gate.leave()
            self._memory.open_up_to(_EVERYTHING)

    def seen(self, job: Job) -> Pass:
        """What the job, now over, used when, as if it had not waited."""
        begun_ns = job.ended_ns - execution_ns(job)
        return Pass(begun_ns, self._uses, job.ended_ns - self._waited_ns)

    def _use(self, chunks: int) -> int:
        synchronize(self._memory.torch_devices)
        used_ns = _core.monotonic_now_ns()
        self._uses.append((chunks, used_ns - self._waited_ns))
        time.sleep(WAIT_S)
        self._waited_ns += _core.monotonic_now_ns() - used_ns
        self._memory.open_up_to(chunks)
        return chunks
