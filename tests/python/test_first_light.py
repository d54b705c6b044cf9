"""What the benchmark of the main path makes of its medians."""

from __future__ import annotations

import pytest

from bench.first_light import hand_over_parts


def test_the_parts_of_a_hand_over_add_up_to_its_wall_time():
    moved = {
        "restored_bytes": 4_000_000_000,
        "execution_ms": {"min": 0, "median": 5.0, "max": 99},
        "wait_ms": {"min": 0, "median": 84.0, "max": 99},
        "wall_ms": {"min": 0, "median": 90.0, "max": 99},
    }
    parts = hand_over_parts(moved, raw_ms=80.0)
    per_gb = parts.pop("neither_copy_nor_execution_ms_per_gb")
    assert parts == {
        "raw_copy_ms": 80.0,
        "execution_ms": 5.0,
        "wait_beyond_copy_ms": 4.0,
        "host_ms": 1.0,
    }
    assert sum(parts.values()) == moved["wall_ms"]["median"]
    assert per_gb == pytest.approx((4.0 + 1.0) / 4)
