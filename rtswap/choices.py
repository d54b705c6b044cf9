"""From the arguments of ``enable()`` to a session: which arbiter, which device, how much memory."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from rtswap import _core
from rtswap.devices import cuda_index, uuid_of
from rtswap.errors import InvalidArgument, Unsupported
from rtswap.units import Size, parse_bandwidth, parse_bytes, parse_share

log = logging.getLogger("rtswap")

# A CUDA context (measured: 526 MiB) and torch's own pool, when nothing else is announced.
_DEFAULT_STATIC_BYTES = 1 << 30
CONTEXT_BYTES = 526 << 20
_SMALLEST_SIMULATION_BYTES = 64 << 20
_LARGEST_DEFAULT_SIMULATION_BYTES = 1 << 30
_SMALLEST_BANK_BYTES = 2 << 20  # what devices map at least


def socket_path(given: str | os.PathLike[str] | None) -> str | None:
    if given is None:
        return None
    path = os.fspath(given) if isinstance(given, str | os.PathLike) else given
    if not isinstance(path, str) or not path:
        raise InvalidArgument(f"socket must be the path of a daemon's socket, not {given!r}.")
    return path


def process_name(given: str | None) -> str:
    """As others see this process."""
    if given is None:
        return Path(sys.argv[0] or "python").name
    if not isinstance(given, str) or not given.isprintable() or not given:
        raise InvalidArgument(f"name must be a printable text, not {given!r}.")
    return given


@dataclass(frozen=True)
class Arguments:
    """Of ``enable()``, each checked by itself or not at all. Equal ones ask for the same."""

    socket: str | None
    embedded: bool
    budget: Size | float | None
    device: str | None
    simulate: Size | bool | None
    link_bandwidth: Size | None
    static: Size | None
    strict: bool
    verify: bool
    guard: bool
    name: str

    @property
    def wants_simulation(self) -> bool:
        """A simulated device was asked for."""
        return self.simulate is not None and self.simulate is not False

    def differences_to(self, other: Arguments) -> str:
        """What these were where the other ones are not the same: ``budget='4GiB', strict=True``."""
        mine, others = asdict(self), asdict(other)
        return ", ".join(f"{name}={mine[name]!r}" for name in mine if mine[name] != others[name])


@dataclass(frozen=True)
class Choices:
    """What the arguments come to on this machine, as the core takes it."""

    arbiter: Literal["daemon", "embedded", "automatic"]
    budget_bytes: int
    """0: the default share of the device."""
    simulated_bytes: int
    """Size of the simulated bank; 0: a real device."""
    simulated_bytes_per_s: int
    """0: the default."""
    static_bytes: int


def choices_of(given: Arguments) -> Choices:
    """``InvalidArgument`` where the arguments contradict each other."""
    wants_embedded = given.embedded or given.wants_simulation
    if given.socket is not None and wants_embedded:
        raise InvalidArgument(
            "socket= names a daemon; embedded= and simulate= ask for an arbiter in this process. "
            "Give one of them."
        )
    cuda = torch.cuda.is_available()
    simulated_bytes = _simulated_bytes(given, cuda)
    budget_bytes = 0
    if given.budget is not None and not simulated_bytes:
        total = torch.cuda.get_device_properties(cuda_index(given.device)).total_memory
        budget_bytes = _bank_bytes(
            parse_share(given.budget, total, "budget"), "budget", given.budget
        )
    simulated_bytes_per_s = 0
    if given.link_bandwidth is not None:
        simulated_bytes_per_s = parse_bandwidth(given.link_bandwidth, "link_bandwidth")
    static_bytes = _DEFAULT_STATIC_BYTES if cuda and not simulated_bytes else 0
    if given.static is not None:
        static_bytes = parse_bytes(given.static, "static")
    arbiter: Literal["daemon", "embedded", "automatic"] = "automatic"
    if given.socket is not None:
        arbiter = "daemon"
    elif wants_embedded:
        arbiter = "embedded"
    return Choices(
        arbiter, budget_bytes, simulated_bytes, simulated_bytes_per_s, static_bytes=static_bytes
    )


def _simulated_bytes(given: Arguments, cuda: bool) -> int:
    simulate = given.simulate
    if simulate is not None and not isinstance(simulate, bool | int | str):
        raise InvalidArgument(
            f"simulate must be True, bytes or a text such as '1GiB': {simulate!r}."
        )
    if cuda and not given.wants_simulation:
        return 0
    if isinstance(simulate, int | str) and not isinstance(simulate, bool):
        if given.budget is not None:
            raise InvalidArgument("simulate= with a size and budget= say the same thing twice.")
        return _bank_bytes(parse_bytes(simulate, "simulate"), "simulate", simulate)
    if given.budget is not None:
        size_bytes = parse_share(given.budget, _available_memory(), "budget")
        return _bank_bytes(size_bytes, "budget", given.budget)
    default = min(_LARGEST_DEFAULT_SIMULATION_BYTES, _available_memory() // 4)
    return max(_SMALLEST_SIMULATION_BYTES, default)


def _bank_bytes(size_bytes: int, what: str, given: object) -> int:
    """A size that is a chunk at least."""
    if size_bytes < _SMALLEST_BANK_BYTES:
        raise InvalidArgument(
            f"{what}={given!r} is {size_bytes} bytes, and a bank has {_SMALLEST_BANK_BYTES} "
            "at least. A number without a unit counts bytes: write '4GiB'."
        )
    return size_bytes


def _available_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def connect(given: Arguments, choices: Choices) -> _core.Session:
    """Finds or makes the arbiter. Blocks."""
    uuid = ""
    if given.device is not None and not choices.simulated_bytes:
        uuid = uuid_of(given.device, [])
    return _core.Session.connect(
        choice=choices.arbiter,
        socket_path=given.socket or "",
        device_uuid=uuid,
        budget_bytes=choices.budget_bytes,
        simulated_bytes=choices.simulated_bytes,
        simulated_bytes_per_s=choices.simulated_bytes_per_s,
        process_name=given.name,
        grpc_library=str(Path(__file__).parent / "librtswap_grpc.so"),
        static_bytes=choices.static_bytes,
        verify=given.verify,
        guard=given.guard,
        progress=_progress,
    )


def _progress(done: int, total: int) -> None:
    if done == total or done % max(1, total // 10) == 0:
        log.debug("preparing the bank: %d of %d chunks", done, total)


def refuse_backend() -> None:
    """``Unsupported`` when torch's allocator is one that rtswap cannot work beside."""
    if torch.cuda.is_available() and torch.cuda.get_allocator_backend() == "cudaMallocAsync":
        raise Unsupported(
            "torch uses the cudaMallocAsync backend (PYTORCH_CUDA_ALLOC_CONF or PYTORCH_ALLOC_CONF "
            "has backend:cudaMallocAsync). rtswap needs torch's native allocator: remove that "
            "setting."
        )
