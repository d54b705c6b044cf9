"""From the arguments of ``enable()`` to a session: which arbiter, which device, how much memory."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import torch

from rtswap import _core
from rtswap.devices import cuda_index, uuid_of
from rtswap.errors import InvalidArgument, Unsupported
from rtswap.units import parse_bytes, parse_share

log = logging.getLogger("rtswap")

# A CUDA context (measured: 526 MiB) and torch's own pool, when nothing else is announced.
_DEFAULT_STATIC_BYTES = 1 << 30
CONTEXT_BYTES = 526 << 20
_SMALLEST_SIMULATION_BYTES = 64 << 20
_LARGEST_DEFAULT_SIMULATION_BYTES = 1 << 30


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


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments in the core's units; ``InvalidArgument`` where they contradict each other."""
    wants_embedded = given["embedded"] or wants_simulation(given)
    if given["socket"] is not None and wants_embedded:
        raise InvalidArgument(
            "socket= names a daemon; embedded= and simulate= ask for an arbiter in this process. "
            "Give one of them."
        )
    cuda = torch.cuda.is_available()
    simulated_bytes = _simulated_bytes(given, cuda)
    budget_bytes = 0
    if given["budget"] is not None and not simulated_bytes:
        total = torch.cuda.get_device_properties(cuda_index(given["device"])).total_memory
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


def wants_simulation(given: dict[str, Any]) -> bool:
    """A simulated device was asked for."""
    return given["simulate"] is not None and given["simulate"] is not False


def _simulated_bytes(given: dict[str, Any], cuda: bool) -> int:
    """Size of the simulated bank; 0: a real device."""
    simulate = given["simulate"]
    if simulate is not None and not isinstance(simulate, bool | int | str):
        raise InvalidArgument(
            f"simulate must be True, bytes or a text such as '1GiB': {simulate!r}."
        )
    if cuda and not wants_simulation(given):
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


def connect(given: dict[str, Any], options: dict[str, Any]) -> _core.Session:
    """Finds or makes the arbiter. Blocks."""
    device = given["device"]
    uuid = ""
    if device is not None and not options["simulated_bytes"]:
        uuid = uuid_of(device, [])
    return _core.Session.connect(
        choice=options["choice"],
        socket_path=given["socket"] or "",
        device_uuid=uuid,
        budget_bytes=options["budget_bytes"],
        chunk_bytes=0,
        simulated_bytes=options["simulated_bytes"],
        simulated_bytes_per_s=options["simulated_bytes_per_s"],
        process_name=given["name"],
        grpc_library=str(Path(__file__).parent / "librtswap_grpc.so"),
        static_bytes=options["static_bytes"],
        verify=given["verify"],
        guard=given["guard"],
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
