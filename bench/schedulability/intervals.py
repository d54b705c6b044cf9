"""How certain a share of draws is."""

from __future__ import annotations

from math import sqrt

Z_95 = 1.959963984540054  # of the normal distribution


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """The confidence interval of a share (Wilson 1927): sensible near 0 and 1, too."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    reach = z / scale * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # The share lies inside; that rounding could put it outside matters to those who draw it.
    return max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach))
