"""Periods of the demo: scaled with the costs, at most half of the device's time, sound test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtswap.demo.calibrate import (
    Link,
    Measured,
    Timing,
    calibrate,
    demand_is_met,
    total_load,
)

LINK = Link(bytes_per_s=1_000_000_000, chunk_bytes=2 << 20, chunk_cost_ns=400_000)
MS = 1_000_000


def measured(scale: float = 1.0) -> list[Measured]:
    return [
        Measured("camera", 20, round(25 * MS * scale), offset_ns=20 * MS),
        Measured("signs", 24, round(30 * MS * scale), pace=1.0),
        Measured("radar", 19, round(15 * MS * scale), pace=1.25),
        Measured("scene", 76, round(65 * MS * scale), pace=2.0),
    ]


def timing(name: str, block_ms: int, deadline_ms: int, period_ms: int) -> Timing:
    return Timing(name, period_ms * MS, deadline_ms * MS, block_ms * MS, block_ms * MS, 0)


def test_restore_counts_copy_and_chunk_cost() -> None:
    assert LINK.restore_ns(10) == 10 * (2_097_152 + 400_000)


@given(
    st.lists(st.integers(1 * MS, 5000 * MS), min_size=4, max_size=4),
    st.integers(50_000_000, 60_000_000_000),
    st.floats(1.0, 2.0),
)
def test_any_costs_give_at_most_half_load_and_pass_the_test(
    costs: list[int], bytes_per_s: int, stretch: float
) -> None:
    tasks = [
        Measured(m.name, m.chunks, cost, m.pace, m.offset_ns)
        for m, cost in zip(measured(), costs, strict=True)
    ]
    timings = calibrate(tasks, Link(bytes_per_s, 2 << 20, 400_000), stretch)
    assert total_load(timings) <= 0.5
    assert all(t.wcet_ns < t.block_ns < t.deadline_ns <= t.period_ns for t in timings)
    assert demand_is_met(timings)


def test_ten_times_slower_means_longer_periods_not_more_load() -> None:
    fast, slow = calibrate(measured(), LINK), calibrate(measured(10.0), LINK)
    assert all(s.period_ns > f.period_ns for f, s in zip(fast, slow, strict=True))
    assert total_load(slow) <= 0.5


@pytest.mark.parametrize(
    ("set_", "met"),
    [
        # A block of 60 ms in the way of a deadline of 50 ms.
        ([timing("a", 10, 50, 100), timing("b", 60, 200, 200)], False),
        # With a round trip for each block, and one until the release is seen.
        ([timing("a", 10, 73, 100), timing("b", 60, 200, 200)], True),
        # One more millisecond and the two cannot both be in time.
        ([timing("a", 11, 73, 100), timing("b", 60, 200, 200)], False),
        # More work than time.
        ([timing("a", 60, 100, 100), timing("b", 50, 100, 100)], False),
    ],
)
def test_demand_of_known_sets(set_: list[Timing], met: bool) -> None:
    assert demand_is_met(set_) is met


def test_releases_keep_their_distance_and_their_deadlines_inside_the_horizon() -> None:
    task = Timing("a", 100 * MS, 60 * MS, 10 * MS, 10 * MS, 20 * MS)
    assert task.releases_ns(300 * MS) == [20 * MS, 120 * MS, 220 * MS]
