"""Memory for activations out of a task's arena: lent to other tasks between its jobs."""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Any

import torch
from torch import nn

from rtswap import _core, runtime
from rtswap.collect import Kind, kind_named
from rtswap.errors import InvalidArgument, NotResident
from rtswap.jobs import current_job
from rtswap.residency import task_of
from rtswap.tasks import Task
from rtswap.units import Size, parse_bytes, show_bytes

log = logging.getLogger("rtswap")


class Region:
    """``with task.job(), scratch: ...`` allocates CUDA tensors inside the block from the arena.

    On a GPU, through ``torch.cuda.MemPool``: torch's caching allocator stays on top. Each thread
    has a pool of its own. On the simulated device tensors stay in ordinary memory; only the space
    is accounted for.

    A ``scratch`` region is worthless after the job: copy what you keep (``.clone()`` outside the
    block, ``.cpu()``). A ``mutable`` one keeps its contents, as captured graphs need it.

    The workspaces that cuBLAS keeps for each thread and stream stay outside, for the stream that is
    current at the entry. On another stream use cuBLAS once before you enter.
    """

    def __init__(self, task: Task, segment: _core.Segment, kind: Kind) -> None:
        self._task = task
        self._kind = kind
        self._native = _core.Region(segment.address, segment.bytes)
        self._local = threading.local()
        self._warned = False

    @property
    def bytes(self) -> int:
        return self._native.bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of segments that torch keeps, used or cached."""
        return self._native.held_bytes

    @property
    def peak_bytes(self) -> int:
        return self._native.peak_bytes

    def __enter__(self) -> Region:
        job = current_job()
        if job is None or job.task._memory is not self._task._memory:
            raise NotResident(
                f"A region of task '{self._task.name}' was entered outside its jobs. "
                "Write `with task.job(), region: ...`."
            )
        job.wait_for_memory()  # scratch memory lies at the end of the arena
        self._native.enter()
        try:
            if self._task.device.type == "cuda":
                self._contexts().append(self._enter_pool())
        except BaseException:
            self._native.leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._task.device.type == "cuda":
                self._contexts().pop().__exit__(kind, error, trace)
        finally:
            self._native.leave()

    def settle(self) -> None:
        """The job is over: freed segments may serve any stream; live blocks are a mistake."""
        self._native.settle()
        if self._kind is Kind.SCRATCH and not self._warned and self._live_bytes():
            self._warned = True
            log.warning(
                "task '%s': %s of tensors in a scratch region are alive after its job. Their "
                "contents are lost, and touching them on a GPU ends its context: copy results "
                "out of the region, and drop the rest, before the job ends.",
                self._task.name,
                show_bytes(self._live_bytes()),
            )

    def retire(self) -> None:
        self._local = threading.local()
        self._native.retire()

    def _contexts(self) -> list[Any]:
        contexts: list[Any] | None = getattr(self._local, "contexts", None)
        if contexts is None:
            contexts = self._local.contexts = []
        return contexts

    def _enter_pool(self) -> Any:
        _make_workspaces(self._task.device)
        pool = getattr(self._local, "pool", None)
        if pool is None:
            with torch.cuda.device(self._task.device):
                pool = self._local.pool = torch.cuda.MemPool(_allocator())
        context = torch.cuda.use_mem_pool(pool, self._task.device)
        context.__enter__()
        return context

    def _live_bytes(self) -> int:
        pool = getattr(self._local, "pool", None)
        if pool is None:
            return 0
        return sum(int(segment["allocated_size"]) for segment in pool.snapshot())


_multiplied = threading.local()


def _make_workspaces(device: torch.device) -> None:
    """Lets torch allocate cuBLAS's workspaces of this thread and stream now, from its own pool.

    It does so at their first use and keeps them: in a region they would be lost with the job, and
    the next user of cuBLAS, in whatever job, would write to memory that is not there.
    """
    if torch.cuda.is_current_stream_capturing():
        return  # what is allocated now belongs to the graph
    with torch.cuda.device(device):
        torch.cuda.current_blas_handle()  # type: ignore[no-untyped-call]
        streams = _multiplied.__dict__.setdefault("streams", set())
        stream = torch.cuda.current_stream()
        if stream not in streams:  # cuBLASLt has another one, which only its use allocates
            two = torch.zeros(2, 2, device=device)
            torch.addmm(two[0], two, two)
            streams.add(stream)


_allocators: list[Any] = []


def _allocator() -> Any:
    """torch's view of the extern "C" pair; one for the process."""
    if not _allocators:
        pluggable = torch.cuda.memory.CUDAPluggableAllocator(
            _core.library_path(), "rtswap_region_alloc", "rtswap_region_free"
        )
        _allocators.append(pluggable.allocator())  # type: ignore[no-untyped-call]
    return _allocators[0]


def region(
    task: Task | nn.Module, size: Size, *, kind: str = "scratch", timeout: float | None = 30.0
) -> Region:
    """Adds ``size`` bytes for activations to a task's memory. Outside its jobs; kept until the
    task is closed. ``timeout``: seconds to wait for the arbiter's answer. See :class:`Region`."""
    owner = task_of(task)
    owner._native_open()
    chosen = kind_named(kind)
    if chosen is Kind.READ_ONLY:
        raise InvalidArgument("A region holds results: its kind is 'scratch' or 'mutable'.")
    arena = owner._memory.single_arena("region()")
    if owner._memory.busy:
        raise InvalidArgument(
            f"The memory of task '{owner.name}' cannot grow while one of its jobs is running."
        )
    segment = arena.add_space(parse_bytes(size, "size"), chosen, timeout)
    made = Region(owner, segment, chosen)
    owner._memory.regions.append(made)
    state = runtime.require()
    state.region_bytes += made.bytes
    state.limit_static_memory()
    return made
