"""What is told of repeated measurements."""

from __future__ import annotations

from statistics import median


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {"min": min(values), "median": median(values), "max": max(values)}
