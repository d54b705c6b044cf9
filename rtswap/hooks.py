"""Hooks on the root modules: a call outside any job becomes a job of its own.

They decide *when* memory is there; whether it may be touched is decided by the closed storages, so
nothing breaks where torch runs no hooks. Inside a job they do nothing.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from torch import nn

from rtswap import calls
from rtswap.copies import TOKEN, copy_without_hooks
from rtswap.errors import NestedJob, NotRegistered, NotResident
from rtswap.jobs import Job, current_job

if TYPE_CHECKING:
    from rtswap.tasks import Task


class RootHooks:
    """The hooks of one root module of one task."""

    def __init__(self, task: Task, module: nn.Module) -> None:
        import torch._dynamo  # slow to import, so only when something is registered

        remove_stale(module)
        copy_without_hooks(module)
        self.serve(task)
        self._module = weakref.ref(module)
        self._local = threading.local()  # job: the one that this thread's call has become
        # Compiled code must run them as they are: a traced call into the core would fail.
        before = torch._dynamo.disable(self._make_before())  # type: ignore[no-untyped-call]
        after = torch._dynamo.disable(self._make_after())  # type: ignore[no-untyped-call]
        setattr(before, TOKEN, self)
        setattr(after, TOKEN, self)
        self._handles = [
            module.register_forward_pre_hook(before, prepend=True),
            module.register_forward_hook(after, always_call=True),
        ]

    def serve(self, task: Task) -> None:
        """From now on calls outside jobs become jobs of this task."""
        self._task = weakref.ref(task)
        self._name = task.name

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    # A class with a __deepcopy__ of its own may copy the table of hooks but not the functions in
    # it; these therefore can tell the copy from the module they were made for. Their names appear
    # in torch's messages (torch.jit.script of a registered model).
    def _make_before(self) -> Any:
        def rtswap_enters_job(module: nn.Module, args: Any) -> None:
            self._before(module)

        return rtswap_enters_job

    def _make_after(self) -> Any:
        def rtswap_leaves_job(module: nn.Module, args: Any, output: Any) -> None:
            self._after(module)

        return rtswap_leaves_job

    def _before(self, module: nn.Module) -> None:
        task = self._task()
        if module is not self._module():
            raise NotRegistered(
                f"This {type(module).__name__} is a copy of the model of task '{self._name}' and "
                "is not registered itself. Register it, or call rtswap.forget(copy) to use it as "
                "an ordinary module."
            )
        if task is None:
            return
        job = current_job()
        if job is not None:
            if job.task._memory is not task._memory:
                raise NestedJob(
                    f"The model of task '{task.name}' was called inside a job of task "
                    f"'{job.task.name}', which holds the device for its own model. End that job "
                    "first, or register both models as one task."
                )
            return
        if task._strict:
            raise NotResident(
                f"The model of task '{task.name}' was called outside a job (strict mode). Enter "
                f"`with task.job():` first."
            )
        self._local.job = None  # of a call that was interrupted: this thread is in no job
        implicit = Job(task, 0, None)
        calls.begin(implicit)
        try:
            implicit.__enter__()
        finally:
            if not implicit._started:
                calls.end(implicit)
        self._local.job = implicit

    def _after(self, module: nn.Module) -> None:
        """May run without `_before`: torch calls it too when an earlier hook raised."""
        implicit: Job | None = getattr(self._local, "job", None)
        if implicit is None or module is not self._module() or implicit is not current_job():
            return
        self._local.job = None
        implicit.__exit__(None, None, None)
        calls.end(implicit)


def remove_stale(module: nn.Module) -> bool:
    """Removes hooks that a copied module inherited; True when there were some."""
    found = False
    for submodule in module.modules():
        for table in (submodule._forward_pre_hooks, submodule._forward_hooks):
            for key, hook in list(table.items()):
                owner = getattr(hook, TOKEN, None)
                if owner is not None and owner._module() is not submodule:
                    del table[key]
                    submodule._forward_hooks_always_called.pop(key, None)
                    found = True
    return found


def forget(module: nn.Module) -> None:
    """Makes a copy of a registered module an ordinary module again: drops the copied hooks.

    Only copies made by a class's own ``__deepcopy__`` may have some.
    """
    remove_stale(module)
