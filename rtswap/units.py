"""Quantities that people write, as the integers the core uses."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from rtswap.errors import InvalidArgument

# As daemon/sizes.cc has them. "Gb" and "Gib" are bits elsewhere.
_FACTORS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
# No more digits than any size has.
_SIZE = re.compile(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]*)\s*")

# Of one size: more is a mistake of units, and more than chunks are counted.
LARGEST_BYTES = 2**44
# Of one link: below, a unit was meant otherwise.
_SLOWEST_LINK_BYTES_PER_S = 10**6

Size = int | str


def read_size(text: str) -> Fraction | None:
    """Bytes of ``"4GiB"``, ``"1.5 MB"`` or ``"4096"``, exactly; none for what is not a size."""
    match = _SIZE.fullmatch(text)
    factor = _FACTORS.get(match[2]) if match else None
    return Fraction(match[1]) * factor if match and factor else None


def parse_bytes(size: Size, what: str) -> int:
    """Bytes of ``4294967296``, ``"4GiB"`` or ``"500 MB"``; more than zero, at most 16 TiB."""
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise InvalidArgument(f"{what} must be bytes or a text such as '4GiB', not {size!r}.")
    number = read_size(size) if isinstance(size, str) else size
    if number is None:
        raise InvalidArgument(f"{what}={size!r} is not a size. Write '4GiB', '500MB' or bytes.")
    if not 1 <= number <= LARGEST_BYTES:
        raise InvalidArgument(f"{what}={size!r} is not between 1 byte and 16 TiB.")
    return int(number)


def parse_bandwidth(speed: Size, what: str) -> int:
    """Bytes a second of ``"24GB/s"``, ``"24GB"`` or ``24000000000``."""
    size = speed.strip().removesuffix("/s") if isinstance(speed, str) else speed
    bytes_per_s = parse_bytes(size, what)
    if bytes_per_s < _SLOWEST_LINK_BYTES_PER_S:
        raise InvalidArgument(
            f"{what}={speed!r} is {bytes_per_s / 1e9:g} GB/s. A number without a unit counts bytes "
            "a second: write '24GB/s'."
        )
    return bytes_per_s


def parse_share(size: Size | float, total_bytes: int, what: str) -> int:
    """Like :func:`parse_bytes`; ``"80%"`` and floats up to 1.0 are a share of the total."""
    if isinstance(size, str) and size.strip().endswith("%"):
        try:
            size = float(size.strip()[:-1]) / 100
        except ValueError:
            raise InvalidArgument(f"{what}={size!r} is not a share. Write '80%'.") from None
    if isinstance(size, float):
        if not 0 < size <= 1:
            raise InvalidArgument(f"{what}={size!r} is not a share of the device (0 < share <= 1).")
        return int(size * total_bytes)
    return parse_bytes(size, what)


def positive_ns(milliseconds: float, what: str) -> int:
    """Nanoseconds of a duration that must be positive and finite."""
    if (
        isinstance(milliseconds, bool)
        or not isinstance(milliseconds, int | float)
        or not math.isfinite(milliseconds)
        or milliseconds <= 0
    ):
        raise InvalidArgument(f"{what} must be a positive, finite number, not {milliseconds!r}.")
    nanoseconds = round(milliseconds * 1e6)
    if not 0 < nanoseconds < 2**62:
        raise InvalidArgument(f"{what}={milliseconds!r} is outside what a clock can count.")
    return nanoseconds


def whole_within(value: int, most: int, what: str) -> int:
    """A whole number between ``-most`` and ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > most:
        raise InvalidArgument(
            f"{what} must be a whole number from -{most} to {most}, not {value!r}."
        )
    return value


_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|min)")
_NS = {"us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}


def parse_duration_ns(text: str, what: str) -> int:
    """Nanoseconds of ``"60s"``, ``"2.5ms"``, ``"1min"``; at most a day."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or float(match[1]) * _NS[match[2]] > 86_400 * 10**9:
        raise InvalidArgument(f"{what}={text!r} is not a duration of at most a day. Write '60s'.")
    return round(float(match[1]) * _NS[match[2]])


def limit_ns(seconds: float | None) -> int:
    """A time limit for the core: nanoseconds, -1 for none."""
    if seconds is None:
        return -1
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise InvalidArgument(f"timeout must be seconds >= 0 or None, not {seconds!r}.")
    return min(int(min(seconds, 1e9) * 1e9), 2**62)


def show_bytes(size: int) -> str:
    """``1.5 GiB``: for people."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
