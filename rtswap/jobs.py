"""One job: from the request through the grant to the end of its work on the device."""

from __future__ import annotations

import asyncio
import contextvars
import time
from types import TracebackType
from typing import TYPE_CHECKING

import torch

from rtswap import _core, calls, streams
from rtswap.errors import InvalidArgument, JobDropped, NestedJob, Timeout
from rtswap.prefix import Prefix
from rtswap.raw_access import operators_may_be_bypassed
from rtswap.units import limit_ns

if TYPE_CHECKING:
    from rtswap.tasks import Task

_current: contextvars.ContextVar[Job | None] = contextvars.ContextVar("rtswap_job", default=None)


def current_job() -> Job | None:
    """The job this thread (or asyncio task) is inside of."""
    job = _current.get()
    # An asyncio task that was made inside a job keeps its context longer than the job lasts.
    if job is None or calls.end_abandoned(job) or job._native is None:
        return None
    return job


def note_stream(stream: torch.cuda.Stream) -> None:
    """The job of this thread, if there is one, may queue work there from now on."""
    job = current_job()
    if job is not None and stream.device in job.task.devices:
        place = job.task.devices.index(stream.device)
        job._streams.add((place, int(stream.cuda_stream)))


class Job:
    """Made by ``task.job()`` and ``task.jobs()``; used once, with ``with`` or ``async with``.

    Entering waits for the grant: the memory of the model on the device, and the device to itself.
    A task whose cost was measured may get it while a part of its memory is still on the way: the
    first use of that part waits for it (``async with`` waits for all). Leaving waits until the work
    queued inside has completed and gives the grant back, also when the body raised.
    """

    def __init__(
        self,
        task: Task,
        release_ns: int,
        timeout: float | None,
        *,
        exclusive: bool = False,
    ) -> None:
        self._task = task
        self._release_ns = release_ns
        self._limit_ns = limit_ns(timeout)
        self._exclusive = exclusive
        self._native: _core.Job | None = None
        self._entered = False
        self._started = False
        self._prefix: Prefix | None = None
        self._previous: Job | None = None
        self._streams: streams.Streams = set()
        self._over: _core.Job | None = None
        """What is left of ``_native``: the facts."""

    # --- what it tells: InvalidArgument before it is known ----------------------------------------

    @property
    def task(self) -> Task:
        """Whose job it is."""
        return self._task

    @property
    def index(self) -> int:
        """Count of this task's jobs, from 0; known once it was entered."""
        return self._known().index

    @property
    def release_ns(self) -> int:
        """CLOCK_MONOTONIC instant from which the deadline counts; without a stamp it is known once
        the job was entered."""
        return self._release_ns or self._known().release_ns

    @property
    def deadline_ns(self) -> int | None:
        """CLOCK_MONOTONIC instant; None for best effort. Known once it was entered."""
        return self._known().deadline_ns

    @property
    def waited_ms(self) -> float:
        """From the request to the start; known once it has started."""
        return self._known_since_start().waited_ns / 1e6

    @property
    def restored_bytes(self) -> int:
        """Bytes brought to the device for this job since its request; known once it has started,
        and growing until it ends where it began on a prefix."""
        return self._known_since_start().restored_bytes

    @property
    def began_on_prefix(self) -> bool:
        """Whether a part of its memory was still on the way at its start; known from then on."""
        facts = self._known_since_start()
        return facts.first_chunks < facts.arena_chunks

    @property
    def memory_wait_ms(self) -> float:
        """What it waited for memory since its start, so far; known once it has started."""
        return self._known_since_start().chunks_waited_ns / 1e6

    @property
    def response_ms(self) -> float:
        """From the release to the end of its work on the device; known once it has ended."""
        facts = self._known_since_end()
        return (facts.ended_ns - facts.release_ns) / 1e6

    @property
    def execution_ms(self) -> float:
        """From when its thread went on after the start to the end of its work on the device, less
        :attr:`memory_wait_ms`: what its declared or measured cost is about. Known once it has
        ended."""
        return self._known_since_end().execution_ns / 1e6

    @property
    def met(self) -> bool | None:
        """Whether the deadline was met; None before the end, and for best effort."""
        facts = self._facts()
        if facts is None or not facts.ended_ns or facts.deadline_ns is None:
            return None
        return facts.ended_ns <= facts.deadline_ns

    @property
    def ended_ns(self) -> int:
        """CLOCK_MONOTONIC instant at which its work on the device had completed; known once it
        has ended."""
        return self._known_since_end().ended_ns

    @property
    def ended(self) -> bool:
        """Its work on the device has completed."""
        facts = self._facts()
        return facts is not None and bool(facts.ended_ns)

    def wait_for_memory(self) -> None:
        """Waits until all memory of the model is there. Inside the job, from any thread.

        Needed only before something that reaches tensors past torch's operators: ``data_ptr()``,
        kernels of other libraries, threads that the job starts.
        """
        if not self._started or self._native is None:
            raise InvalidArgument("Only a running job can wait for its memory: use it inside.")
        if self._prefix is not None:
            self._prefix.wait_for_all()

    def __repr__(self) -> str:
        state = "ended" if self.ended else "running" if self._started else "new"
        facts = self._facts()
        index = None if facts is None else facts.index
        return f"<rtswap.Job {index} of '{self._task.name}', {state}>"

    # --- with -------------------------------------------------------------------------------------

    def __enter__(self) -> Job:
        may_begin_on_prefix = self._task._layered and not self._exclusive
        native = self._request(whole=not may_begin_on_prefix or operators_may_be_bypassed())
        try:
            if not native.wait(self._limit_ns):
                raise self._timed_out()
            self._start(native)
        except BaseException as error:
            self._give_up(native, error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._leave()
        except KeyboardInterrupt:  # half left, it would keep the device from everybody
            if self._native is not None:
                self._leave()
            raise

    # --- async with -------------------------------------------------------------------------------

    async def __aenter__(self) -> Job:
        native = self._request(whole=True)  # the event loop may not be kept waiting by an operator
        try:
            await self._ready(native)
            self._start(native)
        except BaseException as error:
            self._give_up(native, error)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._close()
            assert self._native is not None
            await streams.completed(self._native.queued_work(self._streams))
        finally:
            self._leave()

    async def _ready(self, native: _core.Job) -> None:
        """Waits on the job's descriptor: no thread, and the event loop goes on."""
        loop = asyncio.get_running_loop()
        limit = None if self._limit_ns < 0 else self._limit_ns / 1e9
        end = None if limit is None else time.monotonic() + limit
        while not native.wait(0):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise self._timed_out()
            ready: asyncio.Future[None] = loop.create_future()
            descriptor = native.ready_descriptor()
            loop.add_reader(descriptor, _resolve, ready)
            try:
                await asyncio.wait((ready,), timeout=left)
            finally:
                loop.remove_reader(descriptor)

    # --- steps ------------------------------------------------------------------------------------

    def _abandon(self) -> None:
        """Its body is over and nobody will leave it. Threads: any."""
        if self._started and self._native is not None:
            self.__exit__(None, None, None)

    def _request(self, *, whole: bool) -> _core.Job:
        outer = current_job()
        if outer is not None:
            raise self._nested_in(outer)
        if self._entered:
            raise InvalidArgument("A job is used once. Make a new one with task.job().")
        self._entered = True
        native_task = self._task._native_open()
        self._task._memory.check()
        native = native_task.release(self._release_ns, self._exclusive, whole)
        self._native = native
        return native

    def _start(self, native: _core.Job) -> None:
        memory = self._task._memory
        landed, total = native.chunks()
        if landed < total and memory.busy:  # by a job that the arbiter has given up
            landed = native.wait_for_chunks(total)
        if landed < total:
            prefix = Prefix(native, memory, landed, total)
            self._prefix = prefix
            memory.open(self, landed)
            prefix.enter()
        else:
            memory.open(self)
        self._task._running.add(self)
        self._previous = _current.get()
        streams.note_current(self._streams, memory.cuda_devices)
        _current.set(self)
        self._started = True

    # Leaving may be interrupted anywhere: each step can be taken again.

    def _leave(self) -> None:
        native = self._native
        try:
            self._close()
        except Exception:
            if native is not None and self._started:
                self._end(native)
            raise
        assert native is not None
        self._end(native)

    def _close(self) -> None:
        """The body is over: nothing new may be queued on the model's memory."""
        if self._native is None or not self._started:
            raise InvalidArgument("This job was not entered.")
        _current.set(self._previous)
        streams.note_current(self._streams, self._task._memory.cuda_devices)
        self._close_memory()

    def _close_memory(self) -> None:
        if self._prefix is not None:
            self._prefix.leave()
        self._task._memory.close(self)

    def _end(self, native: _core.Job) -> None:
        try:
            # Before the arbiter hears of the end: from then on it may take the memory.
            if not native.info().ended_ns:
                self._task._memory.keep_regions()
            native.end(self._streams)
            self._task._memory.settle_regions()
        except Exception:
            self._finish(native)
            raise
        self._finish(native)

    def _finish(self, native: _core.Job) -> None:
        native.let_go()
        self._over = native
        self._task._running.discard(self)
        self._native = None
        if not self._exclusive:
            self._task._job_counts.ended(native)

    def _give_up(self, native: _core.Job, error: BaseException) -> None:
        _current.set(self._previous)
        self._close_memory()
        native.cancel()
        native.let_go()
        self._over = native
        self._native = None
        self._started = False
        self._task._running.discard(self)
        if not self._exclusive:
            self._task._job_counts.not_started(dropped=isinstance(error, JobDropped))

    def _nested_in(self, outer: Job) -> NestedJob:
        place = "rtswap.resident()" if outer._exclusive else "a job"
        entered = f"A job of task '{self._task.name}' was entered inside {place} of "
        if outer.task._memory is self._task._memory:
            whose = "the same task" if outer.task is self._task else f"task '{outer.task.name}'"
            return NestedJob(
                f"{entered}{whose}, which holds the device and the memory of the same model, so "
                "this would wait for itself: run the model there without a job of its own, or "
                "leave that block first."
            )
        return NestedJob(
            f"{entered}task '{outer.task.name}', which holds the whole device, so this would wait "
            "for itself: leave that block first, or register both models as one task."
        )

    def _timed_out(self) -> Timeout:
        return Timeout(
            f"Task '{self._task.name}' got no grant within {self._limit_ns / 1e9:g} s. The device "
            "was busy with other tasks, or the arbiter hangs; the request was withdrawn."
        )

    def _facts(self) -> _core.JobInfo | None:
        """None: it was not entered."""
        native = self._native or self._over
        return None if native is None else native.info()

    def _known(self) -> _core.JobInfo:
        facts = self._facts()
        if facts is None:
            raise self._not_known()
        return facts

    def _known_since_start(self) -> _core.JobInfo:
        facts = self._facts()
        if facts is None or not facts.started_ns:
            raise self._not_known()
        return facts

    def _known_since_end(self) -> _core.JobInfo:
        facts = self._facts()
        if facts is None or not facts.ended_ns:
            raise self._not_known()
        return facts

    def _not_known(self) -> InvalidArgument:
        return InvalidArgument(f"This is not known yet, or the job did not get so far: {self!r}.")


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
