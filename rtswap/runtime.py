"""The process's connection to its arbiter: ``enable()``, ``disable()`` and what they keep."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rtswap import _core
from rtswap.errors import Closed, DuplicateName, InvalidArgument, UnknownDevice, Unsupported
from rtswap.jobs import current_job, quietly
from rtswap.report import Info, Snapshot
from rtswap.units import Size, limit_ns, parse_bytes, parse_share, show_bytes

if TYPE_CHECKING:
    from rtswap.arena import Arena
    from rtswap.tasks import Task

log = logging.getLogger("rtswap")

# A CUDA context (measured: 526 MiB) and torch's own pool, when nothing else is announced.
_DEFAULT_STATIC_BYTES = 1 << 30
_CONTEXT_BYTES = 526 << 20
_SMALLEST_SIMULATION_BYTES = 64 << 20
_LARGEST_DEFAULT_SIMULATION_BYTES = 1 << 30


class Runtime:
    """One session and its tasks. There is at most one per process."""

    def __init__(self, session: _core.Session, options: dict[str, Any]) -> None:
        self.session = session
        self.options = options
        self.strict: bool = options["strict"]
        self.static_bytes: int = options["static_bytes"]
        self.limits_static: bool = options["limits_static"]
        self.region_bytes = 0
        self.device_index, self.torch_device = self.find_device(options["device"])
        session.use_device(self.device_index)
        self._tasks: dict[str, Task] = {}
        self._forsaken: list[Any] = []
        self._lock = threading.RLock()

    @property
    def device(self) -> dict[str, Any]:
        return self.session.devices[self.device_index]

    @property
    def chunk_bytes(self) -> int:
        return int(self.device["chunk_bytes"])

    def find_device(self, device: torch.device | str | int | None) -> tuple[int, torch.device]:
        """(index in the session, where torch sees it) of a device that the arbiter manages."""
        devices = self.session.devices
        if device is None:
            if hasattr(self, "device_index"):
                return self.device_index, self.torch_device
            index = _default_device(devices)
        else:
            index = self.session.find_device(_uuid_of(device, devices))
        return index, _torch_device(devices[index])

    def tasks(self) -> list[Task]:
        with self._lock:
            return list(self._tasks.values())

    def check_name(self, name: str) -> None:
        with self._lock:
            if name in self._tasks:
                raise DuplicateName(
                    f"This process has a task '{name}' already. Close it, or choose another name; "
                    "a second release pattern on the same model is task.share(name=...)."
                )

    def add_task(self, task: Task) -> None:
        with self._lock:
            self._tasks[task.name] = task

    def remove_task(self, task: Task) -> None:
        with self._lock:
            if self._tasks.get(task.name) is task:
                del self._tasks[task.name]

    def tasks_of(self, arena: Arena) -> list[Task]:
        return [task for task in self.tasks() if task._arena is arena]

    def arenas(self) -> list[Arena]:
        return list({id(task._arena): task._arena for task in self.tasks()}.values())

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
        if self.torch_device.type != "cuda" or not self.limits_static:
            return
        total = torch.cuda.get_device_properties(self.torch_device).total_memory
        # torch counts segments of pools over our regions, too.
        allowed = max(0, self.static_bytes - _CONTEXT_BYTES) + self.region_bytes
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), self.torch_device)

    def close(self) -> None:
        for task in self.tasks():
            task.close()
        self.session.close()

    def renew_locks(self) -> None:
        """In a forked child: other threads may have held them, and those threads are gone."""
        self._lock = threading.RLock()
        for arena in self.arenas():
            arena.renew_lock()

    def forsake(self, why: str) -> None:
        """Ends without giving tensors their memory back: every access raises from now on."""
        for arena in self.arenas():
            arena.forsake(why)
        for task in self.tasks():
            self._forsaken.append(task._native)
            task._native = None


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
        Memory this process needs beside the bank; torch's own pool is limited to it.
    strict:
        A call outside any job raises ``NotResident`` instead of becoming a job of its own.
    verify:
        Checksums weights before they are dropped; for tests.
    name:
        How others see this process; default: the program's name.

    Calling it again with equal arguments returns the same information.
    """
    global _runtime
    given = {
        "socket": os.fspath(socket) if socket is not None else None,
        "embedded": bool(embedded),
        "budget": budget,
        "device": str(device) if device is not None else None,
        "simulate": simulate,
        "link_bandwidth": link_bandwidth,
        "static": static,
        "strict": bool(strict),
        "verify": bool(verify),
        "name": name,
    }
    with _enabling:
        if _runtime is not None:
            if _runtime.options["given"] != given:
                raise InvalidArgument(
                    "rtswap is enabled already, with other arguments. Call rtswap.disable() first."
                )
            return _runtime.info()
        _refuse_backend()
        options = _options(given)
        session = _connect(given, options)
        try:
            _runtime = Runtime(session, options)
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
        raise InvalidArgument("rtswap.disable() was called inside a job.")
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


# --- choices ------------------------------------------------------------------------------------


def _options(given: dict[str, Any]) -> dict[str, Any]:
    wants_embedded = given["embedded"] or _wants_simulation(given)
    if given["socket"] is not None and wants_embedded:
        raise InvalidArgument(
            "socket= names a daemon; embedded= and simulate= ask for an arbiter in this process. "
            "Give one of them."
        )
    cuda = torch.cuda.is_available()
    simulated_bytes = _simulated_bytes(given, cuda)
    budget_bytes = 0
    if given["budget"] is not None and not simulated_bytes:
        total = torch.cuda.get_device_properties(_cuda_index(given["device"])).total_memory
        budget_bytes = parse_share(given["budget"], total, "budget")
    static = given["static"]
    on_cuda = cuda and not simulated_bytes
    return {
        "given": given,
        "choice": "daemon"
        if given["socket"] is not None
        else "embedded"
        if wants_embedded
        else "automatic",
        "device": given["device"],
        "strict": given["strict"],
        "budget_bytes": budget_bytes,
        "simulated_bytes": simulated_bytes,
        "simulated_bytes_per_s": 0
        if given["link_bandwidth"] is None
        else parse_bytes(given["link_bandwidth"], "link_bandwidth"),
        "static_bytes": parse_bytes(static, "static")
        if static is not None
        else _DEFAULT_STATIC_BYTES
        if on_cuda
        else 0,
        "limits_static": static is not None,
    }


def _wants_simulation(given: dict[str, Any]) -> bool:
    return given["simulate"] is not None and given["simulate"] is not False


def _simulated_bytes(given: dict[str, Any], cuda: bool) -> int:
    """Size of the simulated bank; 0: a real device."""
    simulate = given["simulate"]
    if cuda and not _wants_simulation(given):
        return 0
    if isinstance(simulate, int | str) and not isinstance(simulate, bool):
        if given["budget"] is not None:
            raise InvalidArgument("simulate= with a size and budget= say the same thing twice.")
        return parse_bytes(simulate, "simulate")
    default = min(_LARGEST_DEFAULT_SIMULATION_BYTES, _available_memory() // 4)
    if given["budget"] is not None:
        return parse_share(given["budget"], _available_memory(), "budget")
    return max(_SMALLEST_SIMULATION_BYTES, default)


def _available_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _connect(given: dict[str, Any], options: dict[str, Any]) -> _core.Session:
    device = given["device"]
    uuid = ""
    if device is not None and not options["simulated_bytes"]:
        uuid = _uuid_of(device, [])
    return _core.Session.connect(
        choice=options["choice"],
        socket_path=given["socket"] or "",
        device_uuid=uuid,
        budget_bytes=options["budget_bytes"],
        chunk_bytes=0,
        simulated_bytes=options["simulated_bytes"],
        simulated_bytes_per_s=options["simulated_bytes_per_s"],
        process_name=given["name"] or Path(sys.argv[0] or "python").name,
        grpc_library=str(Path(__file__).parent / "librtswap_grpc.so"),
        static_bytes=options["static_bytes"],
        verify=given["verify"],
        progress=_progress,
    )


def _progress(done: int, total: int) -> None:
    if done == total or done % max(1, total // 10) == 0:
        log.debug("preparing the bank: %d of %d chunks", done, total)


def _refuse_backend() -> None:
    if torch.cuda.is_available() and torch.cuda.get_allocator_backend() == "cudaMallocAsync":
        raise Unsupported(
            "torch uses the cudaMallocAsync backend (PYTORCH_CUDA_ALLOC_CONF or PYTORCH_ALLOC_CONF "
            "has backend:cudaMallocAsync). rtswap needs torch's native allocator: remove that "
            "setting."
        )


def _say(chosen: Info, given: dict[str, Any]) -> None:
    line = (
        f"rtswap: {chosen.arbiter}, {chosen.device_name} ({chosen.device_uuid}), "
        f"budget {show_bytes(chosen.budget_bytes)}"
    )
    if log.hasHandlers():
        log.info(line)
    else:
        print(line, file=sys.stderr)
    if chosen.simulated and chosen.embedded and not _wants_simulation(given):
        log.warning("no GPU and no daemon here: models run on the simulated device, on the CPU.")
    if given["budget"] is not None and not chosen.embedded:
        log.warning("budget= has no effect: the bank is the daemon's.")


# --- devices ------------------------------------------------------------------------------------


def _cuda_index(device: torch.device | str | int | None) -> int:
    """torch's index of a CUDA device given in any form."""
    if device is None:
        return torch.cuda.current_device()
    if isinstance(device, int) or (isinstance(device, str) and device.isdigit()):
        return int(device)
    text = str(device)
    for index in range(torch.cuda.device_count()):
        if text.lower() == _cuda_uuid(index).lower():
            return index
    try:
        parsed = torch.device(text)
    except RuntimeError:
        raise UnknownDevice(
            f"device {text!r} is no CUDA device of this process. There are: "
            + ", ".join(_cuda_uuid(index) for index in range(torch.cuda.device_count()))
        ) from None
    return torch.cuda.current_device() if parsed.index is None else parsed.index


def _cuda_uuid(index: int) -> str:
    return f"GPU-{torch.cuda.get_device_properties(index).uuid}"


def _uuid_of(device: torch.device | str | int, devices: list[dict[str, Any]]) -> str:
    """UUID of a device given as index, torch device or UUID."""
    text = str(device)
    known = {entry["uuid"].lower(): entry["uuid"] for entry in devices}
    if text.lower() in known:
        return str(known[text.lower()])
    simulated = [entry["uuid"] for entry in devices if entry["simulated"]]
    if text == "cpu" and len(simulated) == 1:
        return str(simulated[0])
    if text.upper().startswith(("GPU-", "SIM-", "MIG-")):
        return text
    if not torch.cuda.is_available():
        raise UnknownDevice(
            f"device {text!r}: there is no CUDA device in this process."
            + (f" The arbiter has {', '.join(known.values())}." if known else "")
        )
    index = _cuda_index(device)
    if not 0 <= index < torch.cuda.device_count():
        raise UnknownDevice(
            f"device {text!r}: this process sees {torch.cuda.device_count()} CUDA device(s)."
        )
    return _cuda_uuid(index)


def _default_device(devices: list[dict[str, Any]]) -> int:
    if len(devices) == 1:
        return 0
    if torch.cuda.is_available():
        current = _cuda_uuid(torch.cuda.current_device())
        for index, device in enumerate(devices):
            if device["uuid"] == current:
                return index
    raise UnknownDevice(
        "The arbiter manages several devices; say which by device=: "
        + ", ".join(device["uuid"] for device in devices)
    )


def _torch_device(device: dict[str, Any]) -> torch.device:
    if device["simulated"]:
        return torch.device("cpu")
    for index in range(torch.cuda.device_count()):
        if _cuda_uuid(index) == device["uuid"]:
            return torch.device("cuda", index)
    raise UnknownDevice(
        f"The arbiter manages {device['uuid']}, which torch does not see in this process "
        "(CUDA_VISIBLE_DEVICES, or a torch without CUDA)."
    )


# --- the end of the process ---------------------------------------------------------------------


@atexit.register
def _at_exit() -> None:
    """Giving every model its memory back would only delay the exit: they are closed instead."""
    global _runtime
    state, _runtime = _runtime, None
    if state is None:
        return
    state.forsake("the interpreter is exiting.")
    if state.torch_device.type == "cuda":
        try:
            torch.cuda.synchronize(state.torch_device)
        except RuntimeError as error:
            log.warning("the device failed while the process was exiting: %s", error)
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
