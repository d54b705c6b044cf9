"""Tasks: models with their release pattern."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import nn

from rtswap import _core
from rtswap.admission import Late, Layers, OnRefusal, Timing, open_native, open_options
from rtswap.clock import JobClock
from rtswap.counts import JobCounts
from rtswap.errors import Closed, InvalidArgument
from rtswap.hooks import RootHooks
from rtswap.jobs import Job
from rtswap.measure import Cost
from rtswap.memory import Memory
from rtswap.prefix import wait_for_all_arriving
from rtswap.raw_access import make_graphs_wait
from rtswap.report import Promise, TaskStats
from rtswap.stamps import release_instant
from rtswap.units import limit_ns

if TYPE_CHECKING:
    from rtswap.runtime import Runtime


class Task:
    """A registered model. Made by :func:`rtswap.register` and :meth:`share`."""

    def __init__(
        self,
        runtime: Runtime,
        memory: Memory,
        native: _core.Task,
        modules: Sequence[nn.Module],
        layers: Layers,
    ) -> None:
        self._runtime = runtime
        self._memory = memory
        self._native: _core.Task | None = native
        self._modules = tuple(modules)
        self._name = native.name
        self._strict = runtime.strict
        self._hooks: list[RootHooks] = []
        self._cost: Cost | None = None
        """As it was measured last, here or for the task that shares its memory."""
        self._end = "was closed. Register its model again to run it in jobs."
        self._running: set[Job] = set()
        self._job_counts = JobCounts()
        self._layered = False
        """Whether its cost may be known by stretches, so that its jobs may begin on a prefix."""
        self._prepare_to_begin_on_prefix(layers)

    # --- what it is -------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Unique in this process."""
        return self._name

    @property
    def device(self) -> torch.device:
        """Where its tensors live and its inputs belong; the first of :attr:`devices`."""
        return self.devices[0]

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All that hold a part of the model, in the order in which ``register()`` was given them;
        ``cpu`` for a simulated one."""
        return tuple(self._memory.torch_devices)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """As they were registered; the first is the one that is measured."""
        return self._modules

    @property
    def closed(self) -> bool:
        """Whether the task has ended, by :meth:`close` or because its context was lost."""
        return self._native is None

    @property
    def state(self) -> str:
        """``loading``, ``warming``, ``admitted``, ``best_effort``, ``refused``, ``paused`` or
        ``closed``."""
        native = self._native
        return "closed" if native is None else str(native.verdict()["state"])

    @property
    def period_ms(self) -> float | None:
        """The period in force (a daemon's task file may override the one declared)."""
        return self._period_ns / 1e6 if self._period_ns else None

    @property
    def _period_ns(self) -> int:
        native = self._native
        return 0 if native is None else int(native.verdict()["period_ns"])

    @property
    def promise(self) -> Promise:
        """What admission promised and on which costs it rests."""
        verdict = self._native_open().verdict()
        cost = self._cost
        if cost is not None and cost.wcet_ns != verdict["wcet_ns"]:
            cost = None  # another one was declared since, or by a daemon's task file

        def milliseconds(nanoseconds: int) -> float | None:
            return nanoseconds / 1e6 if nanoseconds else None

        return Promise(
            state=verdict["state"],
            reason=verdict["reason"],
            response_bound_ms=milliseconds(verdict["response_bound_ns"]),
            wcet_ms=milliseconds(verdict["wcet_ns"]),
            measured_ms=None if cost is None else cost.worst_ns / 1e6,
            margin=1.0 if cost is None else cost.margin,
            begins_on_prefix=bool(verdict["layers"]),
            block_ms=milliseconds(verdict["block_ns"]),
            mode=verdict["mode"],
            lead_ms=milliseconds(verdict["lead_ns"]),
            importance=verdict["importance"],
            suspended=verdict["suspended"],
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"Task '{self._name}' cannot be copied or pickled: its memory is this process's. In "
            "another process call rtswap.enable() and register the model there."
        )

    def __repr__(self) -> str:
        return f"<rtswap.Task '{self._name}', {self.state}>"

    # --- running ----------------------------------------------------------------------------------

    def job(self, stamp_ns: int | None = None, timeout: float | None = None) -> Job:
        """A job released now, or at ``stamp_ns``: the instant its input came into being.

        ``stamp_ns`` may be of CLOCK_MONOTONIC or CLOCK_REALTIME (``time.time_ns()``, ROS stamps);
        they are told apart by magnitude. ``timeout``: seconds to wait for the grant.

        A job of a promised task that is released less than a period after the one before waits, and
        counts its deadline, from the end of that period.
        """
        self._native_open()
        return Job(self, release_instant(stamp_ns), timeout)

    def jobs(self) -> JobClock:
        """A drift-free clock: ``for job in task.jobs(): with job: ...`` (or ``async for``).

        A late job raises :class:`rtswap.JobDropped` where it is entered, unless the task was
        registered with ``late="run"``. Two clocks in one thread make each other skip releases, as
        one sleeps or runs its job while the other's pass: give each task a thread, or an asyncio
        task with ``async for``.
        """
        self._native_open()
        return JobClock(self)

    # --- changing ---------------------------------------------------------------------------------

    def share(
        self,
        *,
        name: str,
        period_ms: float | None = None,
        rate_hz: float | None = None,
        deadline_ms: float | None = None,
        wcet_ms: float | None = None,
        late: Late = "drop",
        on_refusal: OnRefusal = "raise",
        importance: int = 0,
        timeout: float | None = 30.0,
    ) -> Task:
        """Another task with its own release pattern on the same memory.

        Without ``wcet_ms`` it has this task's cost.
        """
        native = self._native_open()
        timing = Timing(period_ms, rate_hz, deadline_ms, wcet_ms)
        timing.take_cost(native.verdict())
        self._runtime.check_name(name)
        options = open_options(
            name, timing, late, on_refusal, importance=importance, resident=False
        )
        shared = open_native(self._runtime, self._memory, options, timeout)
        task = Task(self._runtime, self._memory, shared, self._modules, timing.layers)
        task._cost = self._cost
        self._runtime.add_task(task)
        return task

    def set_period(
        self,
        period_ms: float | None = None,
        *,
        rate_hz: float | None = None,
        deadline_ms: float | None = None,
        wcet_ms: float | None = None,
        timeout: float | None = 30.0,
    ) -> None:
        """New timing, tested again. When it is refused the old one stays.

        Without ``deadline_ms`` the deadline becomes the new period; without ``wcet_ms`` the cost
        stays. A timing that needs memory which is on its way to the device waits for it. One that
        needs other memory there than is planned is refused while the task runs: :meth:`pause` it,
        set the period, then :meth:`resume`, which waits for that memory. ``Timeout`` takes nothing
        back: the new timing may still come into force.
        """
        native = self._native_open()
        if period_ms is None and rate_hz is None:
            raise InvalidArgument("Give period_ms or rate_hz.")
        timing = Timing(period_ms, rate_hz, deadline_ms, wcet_ms)
        timing.take_cost(native.verdict())
        native.update(
            timing.period_ns,
            timing.deadline_ns,
            timing.wcet_ns,
            timing.layers,
            limit_ns(timeout),
        )

    def pause(self, timeout: float | None = 30.0) -> None:
        """Ends its promise, which leaves room for others; jobs are refused until ``resume()``."""
        native = self._native_open()
        limit = limit_ns(timeout)
        native.pause()
        native.wait_verdict(limit)  # only then is the share free

    def resume(self, timeout: float | None = 30.0) -> None:
        """Tested again like a new task; raises ``AdmissionRefused`` when others took the room."""
        self._native_open().resume(limit_ns(timeout))

    def close(self) -> None:
        """Ends the task. The model goes on as an ordinary one, with the bytes it has now.

        Its tensors get ordinary memory where they came from: a model registered from the CPU
        returns to the CPU, one registered on the GPU stays there. Neither waits for a grant nor
        needs the daemon. Idempotent.
        """
        native = self._native
        if native is None:
            return
        if self._running:
            raise InvalidArgument(
                f"Task '{self._name}' cannot be closed while one of its jobs runs: end that first."
            )
        native.close()
        self._native = None
        self._runtime.remove_task(self)
        heirs = self._runtime.tasks_of(self._memory)
        if heirs:
            heirs[0]._inherit(self)
            return
        for hooks in self._hooks:
            hooks.remove()
        self._hooks.clear()
        self._memory.release()

    def _inherit(self, closed: Task) -> None:
        """Calls outside jobs, and messages, are about this task from now on."""
        self._memory.rename(f"task '{self._name}'")
        self._hooks += closed._hooks
        closed._hooks = []
        for hooks in self._hooks:
            hooks.serve(self)

    def stats(self) -> TaskStats:
        """Counts since registration, of this process's side."""
        state = self._native_open().verdict()["state"]
        memory = self._memory.stats()
        return TaskStats(name=self._name, state=state, **self._job_counts.figures(), **memory)

    # --- for the other modules of the package -----------------------------------------------------

    def _session(self) -> _core.Session:
        self._native_open()
        return self._memory.session

    def _native_open(self) -> _core.Task:
        native = self._native
        if native is None:
            raise Closed(f"Task '{self._name}' {self._end}")
        return native

    def _forsake(self, why: str) -> _core.Task | None:
        """Ends it without telling the arbiter. The caller keeps what is returned for ever."""
        native, self._native = self._native, None
        self._end = f"cannot be used: {why}"
        return native

    def _install_hooks(self) -> None:
        for module in self._modules:
            self._hooks.append(RootHooks(self, module))

    def _declare_measured(self, cost: Cost, timeout: float | None) -> None:
        """Tested with the measured cost times the margin."""
        self._cost = cost
        self._declare(cost.wcet_ns, cost.layers, timeout)

    def _declare(self, wcet_ns: int, layers: Layers, timeout: float | None) -> None:
        self._prepare_to_begin_on_prefix(layers)
        native = self._native_open()
        verdict = native.verdict()
        native.update(
            verdict["period_ns"], verdict["deadline_ns"], wcet_ns, layers, limit_ns(timeout)
        )

    def _prepare_to_begin_on_prefix(self, layers: Layers) -> None:
        self._layered = self._layered or bool(layers)
        if layers and self.device.type == "cuda":
            make_graphs_wait(wait_for_all_arriving)
