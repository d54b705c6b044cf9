"""Memory for activations out of a task's arena: lent to other tasks between its jobs."""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Any

import torch
from torch import nn

from rtswap import _core, runtime
from rtswap.arena import Arena
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

    A ``scratch`` region is free of copies as long as nothing in it is alive when a job ends: copy
    results out (``.clone()`` outside the block, ``.cpu()``). The chunks under what is alive then
    are kept as those of a ``mutable`` region, until nothing is at the end of a later job; promises
    count bringing them in, but not writing them back. A ``mutable`` one keeps all contents, as
    captured graphs need it.

    The workspaces that cuBLAS keeps for each thread and stream stay outside, for the stream that is
    current at the entry. On another stream use cuBLAS once before you enter.
    """

    def __init__(self, task: Task, arena: Arena, segment: _core.Segment, kind: Kind) -> None:
        self._task = task
        self._arena = arena
        self._segment = segment
        self._kind = kind
        self._native = _core.Region(segment.address, segment.bytes)
        self._local = threading.local()
        self._pools: set[tuple[int, int]] = set()
        """Ids of all threads' pools; of those that have ended, too, while they have segments."""
        self._kept_bytes = 0
        self._warned = False

    @property
    def bytes(self) -> int:
        """Its size, in whole chunks."""
        return self._native.bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of segments that torch keeps, used or cached."""
        return self._native.held_bytes

    @property
    def peak_bytes(self) -> int:
        """The most of ``held_bytes`` so far."""
        return self._native.peak_bytes

    @property
    def kept_bytes(self) -> int:
        """Bytes of tensors in a scratch region that outlived its last job and keep their contents.
        ``TaskStats.kept_scratch_bytes`` says what is copied for them."""
        return self._kept_bytes

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

    def keep(self) -> None:
        """The job is about to end: what is alive in scratch memory keeps its contents."""
        if self._kind is not Kind.SCRATCH:
            return
        try:
            live = self._live_blocks()
            if live or self._kept_bytes:
                self._arena.keep_scratch(self._segment, live)
        except Exception as error:  # the device must be given back in any case
            self._report_lost(error)
            return
        self._kept_bytes = sum(size for _, size in live)
        if live:
            self._report_kept()

    def settle(self) -> None:
        """The job is over: freed segments may serve any stream."""
        self._native.settle()

    def give_back(self) -> None:
        """The task is closed. Torch goes on naming segments in which something is alive, or was
        when their thread ended: nothing else may come to lie there."""
        self._end_pools()
        if self._native.held_bytes:
            self._arena.keep_addresses(self._segment)

    def retire(self) -> None:
        """Its task was closed: nothing can be allocated in it any more."""
        self._end_pools()
        self._kept_bytes = 0
        self._native.retire()

    def _end_pools(self) -> None:
        self._local = threading.local()
        self._pools.clear()

    def _report_kept(self) -> None:
        if self._warned:
            return
        self._warned = True
        log.warning(
            "task '%s': %s of tensors in a scratch region are alive after its job. They keep their "
            "contents: their chunks (%s now) are copied to the host when they leave the device, "
            "which promises do not count, and back for the next job; the region has %s of pinned "
            "host memory from now on. Copy results out of the region and drop the rest "
            "before the job ends, or make the region with kind='mutable'. Touching such a tensor "
            "outside jobs ends the context of a GPU.",
            self._task.name,
            show_bytes(self._kept_bytes),
            show_bytes(self._arena.stats()["kept_scratch_bytes"]),
            show_bytes(self.bytes),
        )

    def _report_lost(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        log.error(
            "task '%s': the contents of tensors in a scratch region that are alive after its job "
            "are lost: %s. Copy results out of the region and drop the rest before the job ends.",
            self._task.name,
            error,
        )

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
        self._pools.add(pool.id)
        context = torch.cuda.use_mem_pool(pool, self._task.device)
        context.__enter__()
        return context

    def _live_blocks(self) -> list[tuple[int, int]]:
        """Addresses and sizes of what tensors use, in the pools of all threads."""
        live = []
        for pool in tuple(self._pools):
            segments = torch.cuda.memory_snapshot(pool)  # type: ignore[no-untyped-call]
            if not segments:  # it is named again when it is entered again
                self._pools.discard(pool)
            for segment in segments:
                for block in segment["blocks"]:
                    if block["state"] == "active_allocated":
                        live.append((int(block["address"]), int(block["size"])))
        return live


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
    made = Region(owner, arena, segment, chosen)
    owner._memory.regions.append(made)
    runtime.require().limit_static_memory()
    return made
