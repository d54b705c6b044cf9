"""The device that a set is planned for."""

from __future__ import annotations

from dataclasses import dataclass

from rtswap import _core
from rtswap.errors import InvalidArgument
from rtswap.units import parse_bandwidth, parse_bytes, show_bytes

GRANULARITY_BYTES = 2 << 20  # of device memory, as rtswapd sees it on every GPU


@dataclass(frozen=True)
class Device:
    """A bank of whole chunks behind a link."""

    chunk_bytes: int
    chunk_count: int
    bytes_per_s: int  # 0: not known; nothing that has to be restored can be promised

    @property
    def budget_bytes(self) -> int:
        return self.chunk_bytes * self.chunk_count


def parse_device(
    budget: str, link: str | None, chunk: str | None, measured_bytes_per_s: int = 0
) -> Device:
    """The device of three options; without ``link``, one as fast as was measured."""
    budget_bytes = parse_bytes(budget, "--budget")
    chunk_bytes = (
        parse_bytes(chunk, "--chunk") if chunk else _core.default_chunk_bytes(budget_bytes)
    )
    if chunk_bytes % GRANULARITY_BYTES:
        raise InvalidArgument(f"--chunk={chunk!r} is not a multiple of 2MiB.")
    if budget_bytes < chunk_bytes:
        raise InvalidArgument(
            f"--budget={budget!r} is less than one chunk of {show_bytes(chunk_bytes)}."
        )
    bytes_per_s = parse_bandwidth(link, "--link") if link else measured_bytes_per_s
    return Device(chunk_bytes, budget_bytes // chunk_bytes, bytes_per_s)
