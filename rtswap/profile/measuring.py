"""Measures a model on the device that is there, with an arbiter of its own."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from rtswap import _core, runtime
from rtswap.choices import CONTEXT_BYTES
from rtswap.collect import Kind
from rtswap.errors import Error, InvalidArgument
from rtswap.measure import WARM_UP_JOBS, cost_of, execution_ns, job_after_idling, margin_of
from rtswap.profile.file import Profile, Stretch, first_bytes
from rtswap.register import register
from rtswap.stretches import longer
from rtswap.tasks import Task

SPARE_BYTES = 64 << 20
"""Of the bank beside the model: each kind of memory has chunks of its own."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and how many steps of it are done, of how many."""


@dataclass(frozen=True)
class Request:
    """What to measure, and where."""

    model: nn.Module
    inputs: tuple[Tensor, ...]
    target: str  # as the user named them
    shapes: Sequence[str]
    passes: int
    simulate: bool  # a simulated device even where there is a GPU


def measure(request: Request, progress: Progress) -> Profile:
    """Enables rtswap for the time of the measurement: nothing else of it may be in use here."""
    size_bytes = sum(
        tensor.numel() * tensor.element_size()
        for tensor in (*request.model.parameters(), *request.model.buffers())
    )
    if not size_bytes:
        raise InvalidArgument(f"{request.target} has neither parameters nor buffers.")
    progress("preparing the device", 0, 1)
    bank_bytes = size_bytes + SPARE_BYTES
    if request.simulate or not torch.cuda.is_available():
        runtime.enable(embedded=True, simulate=bank_bytes)
    else:
        runtime.enable(embedded=True, budget=bank_bytes, device=torch.cuda.current_device())
    try:
        task = register(request.model, name="profile", timeout=None)
        return _measured(request, task, progress)
    finally:
        runtime.disable()


def _measured(request: Request, task: Task, progress: Progress) -> Profile:
    _try_inputs(request, task)
    device = runtime.require().device
    chunk_bytes = device["chunk_bytes"]
    simulated = bool(device["simulated"])
    meter = _core.DeviceMeter(
        cuda_uuid="" if simulated else device["uuid"],
        simulated_bytes_per_s=device["simulated_bytes_per_s"],
    )
    progress("the link and the cost of chunks", 0, 1)
    figures: dict[str, Any] = meter.measure(chunk_bytes)
    progress("stretches of the execution", 0, 1)
    cost = cost_of(task, request.model, request.inputs, None)
    passes = _Passes(task, request, progress)
    alone_ns = passes.times_ns("passes alone")
    meter.start_copies()
    try:
        beside_copies_ns = passes.times_ns("passes beside copies")
    finally:
        meter.stop_copies()
    worst_ns = max(cost.worst_ns, *alone_ns, *beside_copies_ns)
    read_only_bytes, mutable_bytes = (
        _bytes_of(task, kind) for kind in (Kind.READ_ONLY, Kind.MUTABLE)
    )
    return Profile(
        model=request.target,
        inputs=" ".join(request.shapes),
        read_only_bytes=read_only_bytes,
        mutable_bytes=mutable_bytes,
        passes=request.passes,
        alone_ns=max(cost.worst_ns, *alone_ns),
        alone_median_ns=round(median(alone_ns)),
        beside_copies_ns=max(beside_copies_ns),
        beside_copies_median_ns=round(median(beside_copies_ns)),
        margin=round(margin_of(worst_ns), 4),
        scratch_bytes=passes.scratch_bytes,
        static_bytes=_static_bytes(task.device),
        device=device["name"],
        device_uuid=device["uuid"],
        chunk_bytes=chunk_bytes,
        **figures,
        **_provenance(),
        stretches=tuple(
            Stretch(first_bytes(chunks, chunk_bytes, mutable_bytes, read_only_bytes), ns)
            for chunks, ns in longer(cost.stretches, worst_ns - cost.worst_ns)
        ),
    )


def _try_inputs(request: Request, task: Task) -> None:
    """One pass; ``InvalidArgument`` says why there is none."""
    inputs = [tensor.to(task.device) for tensor in request.inputs]
    try:
        with task.job(), torch.no_grad():
            request.model(*inputs)
    except Error:
        raise
    except Exception as error:
        given = " ".join(f"--input {shape}" for shape in request.shapes) or "no --input"
        raise InvalidArgument(
            f"{request.target} does not run with {given}: {type(error).__name__}: {error}"
        ) from error


class _Passes:
    """Passes of the model in jobs that have the device to themselves."""

    def __init__(self, task: Task, request: Request, progress: Progress) -> None:
        self.scratch_bytes = 0
        self._task = task
        self._model = request.model
        self._inputs = [tensor.to(task.device) for tensor in request.inputs]
        self._count = request.passes
        self._progress = progress

    def times_ns(self, what: str) -> list[int]:
        times_ns = []
        with torch.no_grad():
            for count in range(-WARM_UP_JOBS, self._count):
                self._progress(what, max(0, count), self._count)
                job = job_after_idling(self._task, self._run, None)
                if count >= 0:
                    times_ns.append(execution_ns(job))
        return times_ns

    def _run(self) -> None:
        device = self._task.device
        if device.type != "cuda":
            self._model(*self._inputs)
            return
        before_bytes = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        self._model(*self._inputs)
        peak_bytes = torch.cuda.max_memory_allocated(device) - before_bytes
        self.scratch_bytes = max(self.scratch_bytes, peak_bytes)


def _bytes_of(task: Task, kind: Kind) -> int:
    return sum(tensors.bytes(int(kind)) for tensors in task._memory._sets)


def _static_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    return CONTEXT_BYTES + torch.cuda.max_memory_reserved(device)


def _provenance() -> dict[str, Any]:
    return {
        "host": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "torch": torch.__version__,
        "rtswap": _core.version,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }
