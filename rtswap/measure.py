"""Measures what one job of a task costs when it has the device for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from rtswap.jobs import Job

if TYPE_CHECKING:
    from rtswap.tasks import Task

WARM_UP_JOBS = 2
"""Jobs before the measurement: caches, algorithm choices, lazy initialisation."""
MEASURED_JOBS = 5


def worst_execution_ns(
    task: Task, module: nn.Module, example_inputs: tuple[Any, ...], timeout: float | None
) -> int:
    """The worst device time of some passes, in exclusive jobs.

    Buffers and the random number generators are put back: measuring leaves no trace.
    """
    arena = task._arena
    inputs = pytree.tree_map_only(
        torch.Tensor, lambda tensor: tensor.to(task.device), example_inputs
    )
    worst_ns = 1
    cuda = [task.device] if task.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        kept: list[list[torch.Tensor]] = []
        for count in range(WARM_UP_JOBS + MEASURED_JOBS):
            with Job(task, 0, timeout, exclusive=True) as job:
                if count == 0:
                    kept = arena.copy_mutable()
                module(*inputs)
            if count >= WARM_UP_JOBS:
                worst_ns = max(worst_ns, round(job.execution_ms * 1e6))
        with Job(task, 0, timeout, exclusive=True):
            arena.assign_mutable(kept)
    return worst_ns
