"""Stamps of either clock of the host, as instants of the one that jobs are released by."""

from __future__ import annotations

from rtswap import _core
from rtswap.errors import InvalidArgument

# CLOCK_MONOTONIC starts at boot, CLOCK_REALTIME in 1970: no machine has been up for 15 years, and
# no stamp is of before 1985.
_REALTIME_FROM_NS = 5 * 10**17
# Clocks of one host, read one after the other.
_STAMP_TOLERANCE_NS = 1_000_000


def release_instant(stamp_ns: int | None) -> int:
    """CLOCK_MONOTONIC instant of a stamp of either clock; 0 (now) for None."""
    if stamp_ns is None:
        return 0
    if isinstance(stamp_ns, bool) or not isinstance(stamp_ns, int) or stamp_ns <= 0:
        raise InvalidArgument(
            f"stamp_ns must be an integer of nanoseconds (CLOCK_MONOTONIC or CLOCK_REALTIME), "
            f"not {stamp_ns!r}."
        )
    now_ns = _core.monotonic_now_ns()
    if stamp_ns >= _REALTIME_FROM_NS:
        stamp_ns += now_ns - _core.realtime_now_ns()
    if stamp_ns > now_ns + _STAMP_TOLERANCE_NS:
        raise InvalidArgument(
            f"stamp_ns lies {(stamp_ns - now_ns) / 1e6:.3f} ms in the future. A job is released by "
            "something that has happened; for releases at future instants use task.jobs()."
        )
    return max(1, min(stamp_ns, now_ns))
