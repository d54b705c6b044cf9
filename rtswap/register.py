"""Making models and tensors swappable."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rtswap import runtime
from rtswap.admission import Late, OnRefusal, Timing, open_native, open_options
from rtswap.collect import (
    Collected,
    Kinds,
    collect_modules,
    collect_tensor,
    kind_named,
    warn_unseen,
)
from rtswap.contents import tensor_set
from rtswap.errors import AdmissionRefused, InvalidArgument, Unsupported
from rtswap.measure import cost_of
from rtswap.memory import Memory
from rtswap.placement import Devices, parts_of
from rtswap.profile.use import declared_cost
from rtswap.residency import task_of
from rtswap.safetensors import Weights
from rtswap.tasks import Task
from rtswap.units import limit_ns
from rtswap.weights import Source, match

log = logging.getLogger("rtswap")


def register(
    module: nn.Module | Sequence[nn.Module],
    *,
    name: str | None = None,
    period_ms: float | None = None,
    rate_hz: float | None = None,
    deadline_ms: float | None = None,
    wcet_ms: float | None = None,
    example_inputs: tuple[Any, ...] | None = None,
    profile: str | os.PathLike[str] | None = None,
    weights: Weights | None = None,
    resident: bool = False,
    late: Late = "drop",
    on_refusal: OnRefusal = "raise",
    importance: int = 0,
    kinds: Kinds | None = None,
    device: Devices = None,
    timeout: float | None = 30.0,
) -> Task:
    """Hands the memory of one or several modules to rtswap, as one task.

    The modules may still be on the CPU: their tensors move to the task's device and keep their
    identity. Registering needs no device memory outside a grant. When it is refused, nothing has
    happened to the modules.

    period_ms, rate_hz:
        Time between two releases; for events, the shortest. Without either: best effort.
    deadline_ms:
        From the release; default: the period.
    wcet_ms, example_inputs:
        Cost of one job alone on the device: declared, or measured by running the (first) module on
        these inputs, after pauses as between releases; then the worst time seen counts with a
        margin (``task.promise``: 1.2, and more for short jobs). A measured
        task may begin a job while a part of its memory is still on the way; declared, a job begins
        with all of it.
    profile:
        A file of ``rtswap profile`` instead of both: cost and stretches measured beforehand.
    weights:
        The module's state_dict in safetensors: a file, a list of files, an index file of shards, or
        a folder with one of these. The bytes go straight into the host image, so the module may be
        on the meta device and nothing needs its memory twice.
    resident:
        Never swapped out once it is in.
    late:
        What becomes of a job that can no longer meet its deadline: ``"drop"`` or ``"run"``.
    importance:
        A whole number from -1000 to 1000; a larger one is more important. When promises that were
        given cannot all be kept any more (the link turns out to be slower), those of the least
        important tasks end; and jobs without a promise run in the order of importance, so that the
        less important may wait without end. It never takes a promise from another task so that this
        one gets it, and never changes the order of promised jobs.
    kinds:
        ``"mutable"``, or ``{pattern: kind}`` on the names of tensors, of which the first that
        matches counts. Parameters default to ``read_only`` (dropped at eviction), buffers to
        ``mutable`` (written back).
    device:
        Where the model lives: index, ``"cuda:1"`` or UUID; default: that of ``enable()``. A model
        that is spread over several: ``{"encoder": 0, "decoder": 1}``, paths of modules with their
        devices. The longest path that leads to a tensor counts, ``""`` leads to all, and every
        tensor needs one. The model itself moves activations from one to the next. Its jobs get all
        devices at one instant or none, with all memory there; it is best effort on each, so a
        period needs ``on_refusal="best_effort"``.
    timeout:
        Seconds to wait for the arbiter's answers; None: no limit.
    """
    state = runtime.require()
    limit_ns(timeout)
    modules = _modules(module)
    timing = Timing(period_ms, rate_hz, deadline_ms, wcet_ms)
    _check_cost(timing, profile, example_inputs)
    name = _name(state, modules, name)
    label = f"task '{name}'"
    collected = collect_modules(modules, kinds)
    parts = parts_of(collected, device, state.find_device)
    if len(parts) > 1:
        _refuse_on_several(profile=profile, example_inputs=example_inputs)
    sources = _sources(modules, collected, weights)
    # Refuses before anything is made.
    sets = [
        tensor_set(part.collected, part.torch_device, label, meta_allowed=weights is not None)
        for part in parts
    ]
    if profile is not None:
        timing.wcet_ns, timing.layers = declared_cost(
            Path(profile), sets[0], state.session.devices[parts[0].device], name
        )
    options = open_options(name, timing, late, on_refusal, importance=importance, resident=resident)

    memory = Memory(state.session, label, verify=state.verify)
    try:
        for part, tensors in zip(parts, sets, strict=True):
            arena = memory.add_arena(part.device, part.torch_device)
            arena.prepare(tensors, timeout, part.own(sources))
        native = open_native(state, memory, options, timeout)
    except BaseException:
        memory.discard()
        raise
    memory.adopt(sets, collected)
    task = Task(state, memory, native, modules, timing.layers)
    state.add_task(task)
    try:
        task._install_hooks()
        warn_unseen(collected, name)
        if example_inputs is not None and not timing.wcet_ns:
            _measure(task, modules[0], example_inputs, on_refusal, timeout)
    except BaseException:
        task.close()  # gives the modules their memory back
        raise
    return task


def _check_cost(
    timing: Timing,
    profile: str | os.PathLike[str] | None,
    example_inputs: tuple[Any, ...] | None,
) -> None:
    """A promise needs one cost, from one of its three sources."""
    if not isinstance(profile, str | os.PathLike | None):
        raise InvalidArgument(f"profile= takes the path of a file, not {profile!r}.")
    if profile is not None and (timing.wcet_ns or example_inputs is not None):
        raise InvalidArgument("profile= says what a job costs: leave out wcet_ms, example_inputs.")
    if timing.period_ns and not timing.wcet_ns and example_inputs is None and profile is None:
        raise InvalidArgument(
            "A promise needs a cost: give wcet_ms=, profile=, or example_inputs= to have it "
            "measured."
        )
    if example_inputs is not None and not isinstance(example_inputs, tuple):
        raise InvalidArgument("example_inputs must be a tuple of positional inputs, e.g. (x,).")


def _measure(
    task: Task,
    module: nn.Module,
    example_inputs: tuple[Any, ...],
    on_refusal: OnRefusal,
    timeout: float | None,
) -> None:
    try:
        task._declare_measured(cost_of(task, module, example_inputs, timeout), timeout)
    except AdmissionRefused as error:
        if on_refusal != "best_effort":
            raise
        log.warning("task '%s' runs without a promise: %s", task.name, error)


def swappable(
    target: torch.Tensor | nn.Module,
    kind: str = "mutable",
    *,
    task: Task | nn.Module,
    timeout: float | None = 30.0,
) -> None:
    """Adds a tensor, or all tensors of a module, to a task's memory. Outside its jobs.

    A tensor on the CPU whose task computes on a GPU moves there; it keeps its identity. The larger
    memory is tested like a new task; when it is refused, nothing has happened. From then on jobs of
    the task begin with all their memory there. ``timeout``: seconds to wait for the arbiter's
    answer.
    """
    owner = task_of(task)
    owner._native_open()
    arena = owner._memory.single_arena("swappable()")
    kind_named(kind)
    _outside_jobs(owner)
    if isinstance(target, nn.Module):
        collected = collect_modules([target], kind)
    elif isinstance(target, torch.Tensor):
        collected = collect_tensor(target, kind)
    else:
        raise InvalidArgument(
            f"swappable() takes a tensor or a module, not a {type(target).__name__}."
        )
    tensors = tensor_set(collected, arena.torch_device, owner._memory.label)
    arena.prepare(tensors, timeout)
    owner._memory.adopt([tensors], collected)


def _outside_jobs(task: Task) -> None:
    if task._memory.busy:
        raise InvalidArgument(
            f"The memory of task '{task.name}' cannot grow while one of its jobs is running. "
            "Call this outside jobs."
        )


def _refuse_on_several(**given: object) -> None:
    """What a model that is spread over several devices cannot have."""
    for name, value in given.items():
        if value is not None:
            raise Unsupported(
                f"{name}= is not offered for a model on several devices. It tells what a promise "
                "needs, and such a model gets none: leave it out, or declare wcet_ms= so that the "
                "model can use gaps of promised work."
            )


def _modules(module: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    if isinstance(module, nn.Module):
        return [module]
    modules = list(module) if isinstance(module, Iterable) else [module]
    for entry in modules:
        if not isinstance(entry, nn.Module):
            raise InvalidArgument(
                f"register() takes modules, not a {type(entry).__name__}. For single tensors: "
                "rtswap.swappable(tensor, task=...)."
            )
    if not modules:
        raise InvalidArgument("register() needs at least one module.")
    return modules


def _sources(
    modules: list[nn.Module], collected: Collected, weights: Weights | None
) -> list[Source]:
    if weights is None:
        return []
    if len(modules) > 1:
        raise InvalidArgument(
            "weights= is about one module: the files have the names of its state_dict(). Put "
            "several into one, e.g. nn.ModuleDict."
        )
    return match(modules[0], collected, weights)


def _name(state: runtime.Runtime, modules: list[nn.Module], name: str | None) -> str:
    if name is None:
        base = type(modules[0]).__name__.lower()
        taken = {task.name for task in state.tasks()}
        names = itertools.chain([base], (f"{base}-{count}" for count in itertools.count(2)))
        return next(candidate for candidate in names if candidate not in taken)
    state.check_name(name)
    return name
