"""What of a model's memory its execution needs when, from observed passes."""

from __future__ import annotations

from rtswap.stretches import MOST_STRETCHES, Pass, longer, stretches


def test_one_pass_is_cut_where_it_uses_more() -> None:
    observed = Pass(100, [(1, 110), (3, 150), (4, 170)], 200)
    # What comes before the first use needs no memory and counts with it.
    assert stretches([observed], observed.execution_ns) == [(1, 50), (3, 20), (4, 30)]


def test_each_stretch_has_the_longest_that_any_pass_had_left_there() -> None:
    slow_start = Pass(0, [(1, 0), (2, 60)], 100)
    slow_end = Pass(0, [(1, 0), (2, 20)], 90)
    assert stretches([slow_start, slow_end], 100) == [(1, 30), (2, 70)]


def test_what_another_pass_took_longer_counts_where_no_restore_hides_it() -> None:
    observed = Pass(0, [(1, 0), (2, 60)], 100)
    assert stretches([observed], 130) == [(1, 60), (2, 70)]


def test_what_may_be_lost_anywhere_is_added_to_the_last() -> None:
    assert longer([(1, 60), (2, 40)], 30) == [(1, 60), (2, 70)]
    assert longer([], 30) == []


def test_passes_that_use_memory_in_other_steps() -> None:
    first = Pass(0, [(1, 0), (3, 50)], 100)
    other = Pass(0, [(2, 0), (3, 40)], 100)
    assert stretches([first, other], 100) == [(2, 40), (3, 60)]


def test_nothing_where_one_stretch_needs_it_all() -> None:
    assert stretches([], 10) == []
    assert stretches([Pass(0, [], 10)], 10) == []
    assert stretches([Pass(0, [(4, 1)], 10)], 10) == []


def test_many_stretches_are_joined_and_need_what_the_last_of_them_needs() -> None:
    count = 3 * MOST_STRETCHES + 1
    observed = Pass(0, [(n + 1, 10 * n) for n in range(count)], 10 * count)
    found = stretches([observed], observed.execution_ns)
    assert 1 < len(found) <= MOST_STRETCHES
    assert sum(ns for _, ns in found) == observed.execution_ns
    assert [need for need, _ in found] == sorted({need for need, _ in found})
    assert found[-1][0] == count
