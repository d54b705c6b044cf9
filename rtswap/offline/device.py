"""The device that a set is planned for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rtswap import _core
from rtswap.errors import InvalidArgument
from rtswap.units import parse_bytes, read_size, show_bytes

GRANULARITY_BYTES = 2 << 20  # of device memory, as rtswapd sees it on every GPU
# Beyond these a unit was meant otherwise.
_SLOWEST_LINK_BYTES_PER_S = 10**6
_FASTEST_LINK_BYTES_PER_S = 10**14


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
    bytes_per_s = parse_link(link) if link else measured_bytes_per_s
    return Device(chunk_bytes, budget_bytes // chunk_bytes, bytes_per_s)


def parse_link(text: str) -> int:
    """Bytes per second of ``24`` (GB/s), ``"24GB/s"`` or ``"12.5GiB/s"``."""
    plain = text.strip()
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", plain):
        plain += "GB"
    bytes_per_s = read_size(plain.removesuffix("/s"))
    if bytes_per_s is None:
        raise InvalidArgument(f"--link={text!r} is no speed. Write 24 (GB/s), '12.5GiB/s'.")
    if not _SLOWEST_LINK_BYTES_PER_S <= bytes_per_s <= _FASTEST_LINK_BYTES_PER_S:
        raise InvalidArgument(
            f"--link={text!r} is {float(bytes_per_s) / 1e9:g} GB/s. A number without a unit counts "
            "GB/s: write 24, '24GB/s' or '800MB/s'."
        )
    return int(bytes_per_s)
