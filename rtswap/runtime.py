"""The process's connection to its arbiter: ``enable()``, ``disable()`` and what they keep."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import torch

from rtswap import _core, lost
from rtswap.choices import (
    CONTEXT_BYTES,
    Arguments,
    choices_of,
    connect,
    process_name,
    refuse_backend,
    socket_path,
)
from rtswap.devices import default_device, synchronize, torch_device, uuid_of
from rtswap.errors import Closed, DuplicateName, InvalidArgument, quietly
from rtswap.jobs import current_job
from rtswap.report import Info, Snapshot
from rtswap.units import Size, limit_ns, show_bytes

if TYPE_CHECKING:
    from rtswap.memory import Memory
    from rtswap.tasks import Task

log = logging.getLogger("rtswap")


class Runtime:
    """One session and its tasks. There is at most one per process."""

    def __init__(self, session: _core.Session, given: Arguments, static_bytes: int) -> None:
        """``static_bytes``: what this process announced beside the bank."""
        self.session = session
        self.given = given
        self.strict = given.strict
        self.verify = given.verify
        self.static_bytes = static_bytes
        self.device_index = (
            default_device(session.devices)
            if given.device is None
            else self._index_of(given.device)
        )
        self.torch_device = torch_device(self.device)
        session.use_device(self.device_index)
        self._tasks: dict[str, Task] = {}
        self._forsaken: list[Any] = []
        self._lock = threading.RLock()

    @property
    def device(self) -> dict[str, Any]:
        return self.session.devices[self.device_index]

    def find_device(self, device: torch.device | str | int | None) -> tuple[int, torch.device]:
        """(index in the session, where torch sees it) of a device that the arbiter manages; None:
        the one that was enabled."""
        if device is None:
            return self.device_index, self.torch_device
        index = self._index_of(device)
        return index, torch_device(self.session.devices[index])

    def _index_of(self, device: torch.device | str | int) -> int:
        return self.session.find_device(uuid_of(device, self.session.devices))

    def tasks(self) -> list[Task]:
        with self._lock:
            return list(self._tasks.values())

    def check_name(self, name: str) -> None:
        """Of a new task: a text that logs and tables can show, and not taken yet."""
        if not isinstance(name, str) or not name.isprintable() or not name or "@" in name:
            raise InvalidArgument(f"name must be a printable text without '@', not {name!r}.")
        with self._lock:
            if name in self._tasks:
                raise DuplicateName(
                    f"This process has a task '{name}' already. Close it (task.close(), also "
                    "before a notebook's cell runs again; rtswap.disable() closes all), or choose "
                    "another name; a second release pattern on the same model is "
                    "task.share(name=...)."
                )

    def add_task(self, task: Task) -> None:
        with self._lock:
            self._tasks[task.name] = task

    def remove_task(self, task: Task) -> None:
        with self._lock:
            if self._tasks.get(task.name) is task:
                del self._tasks[task.name]

    def tasks_of(self, memory: Memory) -> list[Task]:
        return [task for task in self.tasks() if task._memory is memory]

    def memories(self) -> list[Memory]:
        return list({id(task._memory): task._memory for task in self.tasks()}.values())

    def info(self) -> Info:
        device = self.device
        return Info(
            arbiter=self.session.arbiter_name,
            embedded=self.session.embedded,
            connected=self.session.connected,
            device=str(self.torch_device),
            device_uuid=device["uuid"],
            device_name=device["name"],
            simulated=device["simulated"],
            budget_bytes=device["chunk_bytes"] * device["chunk_count"],
            chunk_bytes=device["chunk_bytes"],
            version=_core.version,
            torch_built_for=_core.torch_version,
        )

    def limit_static_memory(self) -> None:
        """Growth of torch's own pool becomes an OutOfMemoryError in this process, and only here."""
        if self.torch_device.type != "cuda" or self.given.static is None:
            return
        total = torch.cuda.get_device_properties(self.torch_device).total_memory
        # torch counts segments of pools over our regions, too.
        regions = [region for memory in self.memories() for region in memory.regions]
        region_bytes = sum(region.bytes for region in regions)
        allowed = max(0, self.static_bytes - CONTEXT_BYTES) + region_bytes
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), self.torch_device)

    def close(self) -> None:
        for task in self.tasks():
            task.close()
        self.session.close()

    def renew_locks(self) -> None:
        """In a forked child: other threads may have held them, and those threads are gone."""
        self._lock = threading.RLock()
        for memory in self.memories():
            memory.renew_lock()

    def forsake(self, why: str) -> None:
        """Ends without giving tensors their memory back: every access raises from now on."""
        for memory in self.memories():
            memory.forsake(why)
        for task in self.tasks():
            self._forsaken.append(task._forsake(why))


_runtime: Runtime | None = None
_enabling = threading.RLock()


def require() -> Runtime:
    if _runtime is None:
        raise Closed("rtswap is not enabled in this process. Call rtswap.enable() first.")
    return _runtime


def enable(
    socket: str | os.PathLike[str] | None = None,
    *,
    embedded: bool = False,
    budget: Size | float | None = None,
    device: torch.device | str | int | None = None,
    simulate: Size | bool | None = None,
    link_bandwidth: Size | None = None,
    static: Size | None = None,
    strict: bool = False,
    verify: bool = False,
    guard: bool = False,
    name: str | None = None,
) -> Info:
    """Connects this process to an arbiter and says which.

    ``socket=`` or ``RTSWAP_SOCKET``: that daemon, or ``DaemonUnavailable``. Else the daemon of the
    user or of the system where its socket exists. Else, or with ``embedded=True``, an arbiter
    inside this process with a bank of its own. Without a GPU: a simulated device, whose tensors
    are CPU tensors.

    budget:
        Bytes of the embedded arbiter's bank: ``"4GiB"``, bytes, ``"80%"`` or ``0.8`` of the device.
    device:
        A CUDA device (index, ``"cuda:1"``, UUID). Default: the arbiter's only one.
    simulate:
        ``True`` or the size of its bank: a simulated device even where there is a GPU.
    link_bandwidth:
        Bytes per second of the simulated device's link.
    static:
        Device memory this process needs outside the bank (CUDA context, torch's own pool), of which
        torch's pool gets what the context leaves. Default: 1 GiB.
    strict:
        A call outside any job raises ``NotResident`` instead of becoming a job of its own.
    verify:
        Compares read_only memory with the host copy before it is dropped; what jobs wrote there is
        kept, counted (``TaskStats.repaired_bytes``) and warned about once per task. Costs one
        copy of all weights per eviction: for tests.
    guard:
        Where evicted memory was, kernels read NaN instead of ending the CUDA context: for finding
        accesses outside jobs that no closed tensor stops (CUDA graphs, exported pointers). A write
        still ends it. Costs one chunk beside the bank on each device in use, and a mapping of each
        chunk at its eviction and its restore. Counted in ``TaskStats.guarded_bytes``.
    name:
        How others see this process; default: the program's name.

    Calling it again with equal arguments returns the same information.
    """
    global _runtime
    given = Arguments(
        socket=socket_path(socket),
        embedded=bool(embedded),
        budget=budget,
        device=str(device) if device is not None else None,
        simulate=simulate,
        link_bandwidth=link_bandwidth,
        static=static,
        strict=bool(strict),
        verify=bool(verify),
        guard=bool(guard),
        name=process_name(name),
    )
    with _enabling:
        if _runtime is not None:
            if _runtime.given != given:
                raise InvalidArgument(
                    f"rtswap is enabled already, with {_runtime.given.differences_to(given)}. Call "
                    "rtswap.disable() first."
                )
            return _runtime.info()
        refuse_backend()
        choices = choices_of(given)
        session = connect(given, choices)
        try:
            _runtime = Runtime(session, given, choices.static_bytes)
            _runtime.limit_static_memory()
        except BaseException:
            _runtime = None
            quietly(session.close, "closing the session")
            raise
        info = _runtime.info()
        _say(info, given)
        return info


def disable() -> None:
    """Closes all tasks (their models go on as ordinary ones) and leaves the arbiter. Idempotent."""
    global _runtime
    if current_job() is not None:
        raise InvalidArgument(
            "rtswap.disable() was called inside a job. Leave the block of `with task.job():` first."
        )
    with _enabling:
        if _runtime is None:
            return
        _runtime.close()
        _runtime = None


def info() -> Info:
    """What ``enable()`` chose, and whether the arbiter is connected now."""
    return require().info()


def stats(timeout: float | None = 5.0) -> Snapshot:
    """The arbiter's view of all devices and tasks, of all processes."""
    return Snapshot.of(require().session.snapshot(limit_ns(timeout)))


def describe_loss(message: str) -> str:
    """The message of a lost context, with the tensors that were not on the device."""
    state = _runtime
    return message if state is None else lost.described(message, state.memories())


def _say(chosen: Info, given: Arguments) -> None:
    line = (
        f"rtswap: {chosen.arbiter}, {chosen.device_name} ({chosen.device_uuid}), "
        f"budget {show_bytes(chosen.budget_bytes)}"
    )
    if log.hasHandlers():
        log.info(line)
    else:
        print(line, file=sys.stderr)
    if chosen.simulated and chosen.embedded and not given.wants_simulation:
        daemon = "" if given.embedded else " and no daemon"  # which was not looked for
        log.warning("no GPU%s here: models run on the simulated device, on the CPU.", daemon)
    if given.budget is not None and not chosen.embedded:
        log.warning("budget= has no effect: the bank is the daemon's.")
    if given.link_bandwidth is not None and not (chosen.simulated and chosen.embedded):
        log.warning("link_bandwidth= has no effect: it is for a simulated device in this process.")


# --- the end of the process ---------------------------------------------------------------------


@atexit.register
def _at_exit() -> None:
    """Giving every model its memory back would only delay the exit: they are closed instead."""
    global _runtime
    state, _runtime = _runtime, None
    if state is None:
        return
    used = {state.torch_device, *(at for memory in state.memories() for at in memory.torch_devices)}
    state.forsake("the interpreter is exiting.")
    try:
        synchronize(used)
    except RuntimeError as error:
        log.warning(
            "a device failed while the process was exiting: %s",
            lost.described(str(error).rstrip().rstrip("."), state.memories()),
        )
    quietly(state.session.close, "closing the session at exit")


def _after_fork() -> None:
    """The child has neither the threads nor the memory of its parent."""
    global _runtime
    state, _runtime = _runtime, None
    if state is not None:
        state.renew_locks()
        state.forsake(
            "this process is a fork of the one that registered it and has none of its memory. "
            "Start processes by spawn, or call rtswap.enable() and register in the child."
        )
        _keep_for_ever.append(state)


# Destructors must not run in the child: the session's connection is the parent's.
_keep_for_ever: list[Runtime] = []

os.register_at_fork(after_in_child=_after_fork)
