"""Measures what one job of a task costs when it has the device for itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from rtswap import _core
from rtswap.devices import synchronize
from rtswap.jobs import Job
from rtswap.raw_access import operators_may_be_bypassed
from rtswap.stretches import Pass, stretches

if TYPE_CHECKING:
    from rtswap.memory import Memory
    from rtswap.tasks import Task

log = logging.getLogger("rtswap")

WARM_UP_JOBS = 2
"""Jobs before the measurement: caches, algorithm choices, lazy initialisation."""
MEASURED_JOBS = 5
REHEARSED_JOBS = 3

_EVERYTHING = 2**32 - 1


@dataclass(frozen=True)
class Cost:
    worst_ns: int
    """Of any pass."""
    stretches: list[tuple[int, int]]
    """(chunks, ns), as of :func:`rtswap.stretches.stretches`; empty: needs all memory to start."""


def cost_of(
    task: Task, module: nn.Module, example_inputs: tuple[Any, ...], timeout: float | None
) -> Cost:
    """The worst device time of some passes, in exclusive jobs, and that of their stretches.

    Buffers and the random number generators are put back: measuring leaves no trace.
    """
    memory = task._memory
    inputs = pytree.tree_map_only(
        torch.Tensor, lambda tensor: tensor.to(task.device), example_inputs
    )

    def run() -> None:
        module(*inputs)

    cuda = [task.device] if task.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        with Job(task, 0, timeout, exclusive=True):
            kept = memory.copy_mutable()
        worst_ns = _measure(task, run, timeout)
        rehearsed = _rehearse(task, run, timeout)
        with Job(task, 0, timeout, exclusive=True):
            memory.assign_mutable(kept)
    worst_ns = max([worst_ns, *(ended_ns - begun_ns for begun_ns, ended_ns, _ in rehearsed)])
    passes = [Pass(uses, ended_ns) for _, ended_ns, uses in rehearsed]
    return Cost(worst_ns, stretches(passes, worst_ns) if passes else [])


def _measure(task: Task, run: Callable[[], None], timeout: float | None) -> int:
    worst_ns = 1
    for count in range(WARM_UP_JOBS + MEASURED_JOBS):
        with Job(task, 0, timeout, exclusive=True) as job:
            run()
        if count >= WARM_UP_JOBS:
            worst_ns = max(worst_ns, round(job.execution_ms * 1e6))
    return worst_ns


def _rehearse(
    task: Task, run: Callable[[], None], timeout: float | None
) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """(begin, end, uses) of some passes; none where a job must have all its memory to begin."""
    if operators_may_be_bypassed():
        return []
    found = []
    try:
        for _ in range(REHEARSED_JOBS):
            with Job(task, 0, timeout, exclusive=True), _Rehearsal(task._memory) as rehearsal:
                run()
            found.append((rehearsal.begun_ns, rehearsal.ended_ns, rehearsal.uses))
    except RuntimeError as error:
        if not task._memory.refused(error):
            raise
        log.info("task '%s' begins its jobs with all memory there: %s", task.name, error)
        return []
    return found


class _Rehearsal:
    """A pass during which memory seems to arrive just when it is used.

    The device is idle at each such point, as it is when a job really waits there: from then on the
    pass takes as long as a job takes from the arrival.
    """

    def __init__(self, memory: Memory) -> None:
        self.uses: list[tuple[int, int]] = []
        self.begun_ns = 0
        self.ended_ns = 0
        self._memory = memory
        self._gate = memory.gate(0, self._use)

    def __enter__(self) -> _Rehearsal:
        self._memory.close_beyond(0)
        self._gate.enter()
        self.begun_ns = self._now_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.ended_ns = self._now_ns()
        finally:
            self._gate.leave()
            self._memory.open_up_to(_EVERYTHING)

    def _use(self, chunks: int) -> int:
        self.uses.append((chunks, self._now_ns()))
        self._memory.open_up_to(chunks)
        return chunks

    def _now_ns(self) -> int:
        """Once everything queued so far has completed."""
        synchronize(self._memory.torch_devices)
        return _core.monotonic_now_ns()
