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
# Of one period or cost, some eleven days: more is a mistake of units.
LONGEST_MS = 1e9
# Of one link: below, a unit was meant otherwise.
_SLOWEST_LINK_BYTES_PER_S = 10**6

_MOST_BITS_SHOWN = 128

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
        raise InvalidArgument(f"{what}={_given(size)} is not between 1 byte and 16 TiB.")
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
    share = size
    if isinstance(size, str) and size.strip().endswith("%"):
        try:
            share = float(size.strip()[:-1]) / 100
        except ValueError:
            raise InvalidArgument(f"{what}={size!r} is not a share. Write '80%'.") from None
    if isinstance(share, float):
        if not 0 < share <= 1:
            raise InvalidArgument(f"{what}={size!r} is not a share of the device (0 < share <= 1).")
        return int(share * total_bytes)
    return parse_bytes(share, what)


def positive_ns(milliseconds: float, what: str) -> int:
    """Nanoseconds of a duration that must be positive and finite."""
    return _counted_ns(_positive(milliseconds, what) * 1e6, milliseconds, what)


def period_ns(rate_hz: float, what: str) -> int:
    """Nanoseconds between releases of a rate that must be positive and finite."""
    return _counted_ns(1e9 / _positive(rate_hz, what), rate_hz, what)


def _positive(number: float, what: str) -> float:
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or not 0 < number < math.inf  # unlike isfinite(), of any whole number
    ):
        raise InvalidArgument(f"{what} must be a positive, finite number, not {_given(number)}.")
    try:
        return float(number)
    except OverflowError:
        raise _uncountable(number, what) from None


def _counted_ns(nanoseconds: float, given: float, what: str) -> int:
    if not 0.5 < nanoseconds < 2**62:
        raise _uncountable(given, what)
    return round(nanoseconds)


def _uncountable(given: float, what: str) -> InvalidArgument:
    return InvalidArgument(f"{what}={_given(given)} is outside what a clock can count.")


def _given(value: object) -> str:
    """As it was written; Python itself refuses to write very large numbers."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS_SHOWN:
        return f"(a number of {value.bit_length()} bits)"
    return repr(value)


def whole_within(value: int, most: int, what: str) -> int:
    """A whole number between ``-most`` and ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > most:
        raise InvalidArgument(
            f"{what} must be a whole number from -{most} to {most}, not {_given(value)}."
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
        raise InvalidArgument(f"timeout must be seconds >= 0 or None, not {_given(seconds)}.")
    return min(int(min(seconds, 1e9) * 1e9), 2**62)


def show_bytes(size: int) -> str:
    """``1.5 GiB``: for people."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
