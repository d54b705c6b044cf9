"""Holding a model's memory outside its jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from rtswap import runtime
from rtswap.errors import NotRegistered
from rtswap.jobs import Job, current_job
from rtswap.tasks import Task


@contextmanager
def resident(model: nn.Module | Task, *, timeout: float | None = None) -> Iterator[Task]:
    """Brings the whole model in and lets everything touch it: read, print, save, load, copy.

    Waits for an exclusive grant, so other tasks wait meanwhile: keep it short. What is written to
    ``read_only`` tensors here is kept: what torch's version counters report as changed is written
    to the host image at the end (in-place operations and load_state_dict are; ``.data`` and numpy
    are not).
    """
    task = task_of(model)
    job = current_job()
    if job is not None and job.task._memory is task._memory:
        job.wait_for_memory()
        yield task
        return
    with Job(task, 0, timeout, exclusive=True):
        try:
            yield task
        finally:
            task._memory.save_changed()


def task_of(model: nn.Module | Task) -> Task:
    if isinstance(model, Task):
        return model
    for task in runtime.require().tasks():
        if any(module is model for module in task.modules):
            return task
    raise NotRegistered(
        f"This {type(model).__name__} is not registered. Give a module that was passed to "
        "rtswap.register(), or its task."
    )
