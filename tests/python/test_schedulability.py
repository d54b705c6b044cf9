"""The schedulability benchmark: how sets are drawn, and that no discipline is judged wrongly."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product
from random import Random

import pytest

from bench.schedulability.disciplines import (
    CHUNK_BYTES,
    DISCIPLINES,
    Case,
    chunks_of,
    copy_out_ns,
    least_link_load,
    restore_ns,
)
from bench.schedulability.documents import replace_part
from bench.schedulability.drawing import (
    FAMILIES,
    LARGE_PERIOD_NS,
    SMALL_BYTES,
    SMALL_PERIOD_NS,
    DrawnTask,
    TaskSet,
    largest_demand,
    load_of,
    sets_for,
    uunifast_discard,
)
from bench.schedulability.intervals import wilson
from bench.schedulability.observed import watch_cases
from bench.schedulability.profiles import TABLES, Model, Table, read_table
from bench.schedulability.sweep import Point, evaluate
from rtswap import _core

MS = 10**6
ROUND_TRIP_NS = _core.daemon_round_trip_ns


def draw(family: str, demand: float, count: int, load: float | None = None) -> list[TaskSet]:
    return list(islice(sets_for(read_table(TABLES[0]), family, 7, demand, load), count))


def test_equal_seeds_draw_equal_sets_at_every_demand() -> None:
    for family in FAMILIES:
        at_two = draw(family, 2.0, 30)
        assert at_two == draw(family, 2.0, 30)
        assert all(largest_demand(tasks) >= 2.0 for tasks in at_two)
        at_three = [tasks for tasks in at_two if largest_demand(tasks) >= 3.0]
        assert at_three == draw(family, 3.0, len(at_three))
        assert 0 < len(at_three) < len(at_two)


def test_sets_have_the_load_and_the_models_that_were_asked_for() -> None:
    for family in FAMILIES:
        for tasks in draw(family, 1.0, 30, load=0.5):
            assert load_of(tasks) == pytest.approx(0.5, abs=1e-3)
            if family in ("vision", "language"):
                assert {task.model.family for task in tasks} == {family}
            if family != "edge":
                continue
            for task in tasks:
                small = task.model.weights_bytes < SMALL_BYTES
                low_ns, high_ns = SMALL_PERIOD_NS if small else LARGE_PERIOD_NS
                assert low_ns <= task.period_ns <= high_ns


def test_uunifast_discards_what_no_task_can_have() -> None:
    random = Random(3)
    for _ in range(50):
        shares = uunifast_discard(random, 3, 2.5)
        assert sum(shares) == pytest.approx(2.5)
        assert max(shares) <= 1


def test_wilson_intervals() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I.
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)
    for trials in range(1, 60):
        for successes in range(trials + 1):
            low, high = wilson(successes, trials)
            assert 0 <= low <= successes / trials <= high <= 1


# --- the disciplines against definitions ----------------------------------------------------------

TINY = Table("tiny", "none", "scaled", (), 10**9, 1.0, ())


def tiny_case(random: Random) -> Case:
    """Two or three models of a few chunks, each of which takes 34 ms to copy, and two stretches."""

    def model() -> Model:
        size_bytes, run_ns = random.randint(1, 5) * CHUNK_BYTES, random.randint(5, 90) * MS
        halves = ((size_bytes // 2, run_ns // 2), (size_bytes, run_ns - run_ns // 2))
        return Model("m", "vision", size_bytes, run_ns, halves)

    tasks = tuple(
        DrawnTask(model(), random.randint(60, 900) * MS) for _ in range(random.randint(2, 3))
    )
    return Case.at_demand(tasks, TINY, min(random.uniform(1, 2.5), largest_demand(tasks)))


def passes(case: Case, blocks_ns: list[int]) -> bool:
    """The test by its definition, at every deadline up to where demand stays below for good."""
    periods = [task.period_ns for task in case.tasks]
    load = sum(block / period for block, period in zip(blocks_ns, periods, strict=True))
    if load >= 1:
        return False
    horizon_ns = max(*periods, round((max(blocks_ns) + ROUND_TRIP_NS) / (1 - load)) + 1)
    points = {k * period for period in periods for k in range(1, horizon_ns // period + 1)}
    for point in points:
        due = sum(point // period * block for period, block in zip(periods, blocks_ns, strict=True))
        later = [b for period, b in zip(periods, blocks_ns, strict=True) if period > point]
        if due + max(later, default=0) + ROUND_TRIP_NS > point:
            return False
    return True


def volumes(case: Case) -> list[tuple[int, ...]]:
    """Every choice of how much of each model leaves and comes back that memory allows."""
    sizes = [chunks_of(task) for task in case.tasks]
    return [
        choice
        for choice in product(*(range(size + 1) for size in sizes))
        if sum(sizes) - sum(choice) + max(choice) <= case.bank_chunks
    ]


def swap_block(name: str, case: Case, task: DrawnTask, volume: int, others: int) -> int:
    """Of a job that has to restore `volume` chunks, when others may hold so many of theirs."""
    run_ns = task.model.execution_ns
    if not volume:
        return ROUND_TRIP_NS + run_ns
    if name == "rt_swap":
        out_ns = copy_out_ns(case.table, min(volume, others))
        return 2 * ROUND_TRIP_NS + restore_ns(case.table, volume) + out_ns + run_ns
    # A prefetch in flight is copied during the second round trip.
    first_ns = max(ROUND_TRIP_NS, restore_ns(case.table, 1))
    arrival_ns = first_ns + restore_ns(case.table, volume)
    if name == "direct":
        return ROUND_TRIP_NS + arrival_ns + run_ns
    # The first stretch needs the first half of the memory, the second all of it.
    first_half = -(-task.model.weights_bytes // (2 * CHUNK_BYTES))
    early = max(0, first_half - (chunks_of(task) - volume))
    early_ns = first_ns + restore_ns(case.table, early) if early else 0
    return ROUND_TRIP_NS + max(early_ns + run_ns // 2, arrival_ns) + run_ns - run_ns // 2


def test_whole_models_and_unlimited_memory_are_their_blocks() -> None:
    random = Random(5)
    verdicts = set()
    for _ in range(300):
        case = tiny_case(random)
        run = [task.model.execution_ns + ROUND_TRIP_NS for task in case.tasks]
        swapped = [
            block + ROUND_TRIP_NS + restore_ns(TINY, chunks) + copy_out_ns(TINY, chunks)
            for block, chunks in zip(run, map(chunks_of, case.tasks), strict=True)
        ]
        unlimited = DISCIPLINES["unlimited"].admits(case)
        whole = DISCIPLINES["whole_models"].admits(case)
        assert unlimited == passes(case, run)
        assert whole == passes(case, run if case.all_fits else swapped)
        verdicts.add((unlimited, whole))
    assert verdicts == {(True, True), (True, False), (False, False)}


@pytest.mark.parametrize("name", ["rt_swap", "direct", "overlap"])
def test_no_choice_of_volumes_admits_more(name: str) -> None:
    random = Random(6)
    found = possible = 0
    for _ in range(250):
        case = tiny_case(random)
        best = any(
            passes(
                case,
                [
                    swap_block(name, case, task, volume, sum(choice) - volume)
                    for task, volume in zip(case.tasks, choice, strict=True)
                ],
            )
            for choice in volumes(case)
        )
        admitted = DISCIPLINES[name].admits(case)
        assert best or not admitted
        found += admitted
        possible += best
    assert 30 < possible < 220
    assert found >= 0.97 * possible


def test_the_least_load_of_the_link_is_that_of_the_best_volumes() -> None:
    random = Random(8)
    for _ in range(200):
        case = tiny_case(random)
        loads = [
            sum(
                copy_out_ns(TINY, volume) / task.period_ns
                for task, volume in zip(case.tasks, choice, strict=True)
            )
            for choice in volumes(case)
        ]
        assert least_link_load(case) == pytest.approx(min(loads), rel=1e-6)


def test_disciplines_that_do_more_never_admit_what_none_can() -> None:
    table = read_table(TABLES[0])
    counts = dict.fromkeys(DISCIPLINES, 0)
    for family in FAMILIES:
        for tasks in draw(family, 1.5, 60):
            case = Case.at_demand(tasks, replace(table, slowdown_beside_copy=1.0), 1.5)
            admitted = {name: entry.admits(case) for name, entry in DISCIPLINES.items()}
            assert admitted["unlimited"] or not any(admitted.values())
            assert admitted["rt_swap"] or not admitted["whole_models"]
            assert admitted["overlap"] or not admitted["direct"]
            assert admitted["staged"] or not admitted["overlap"]
            assert admitted["at_most"] or not admitted["staged"]
            for name in counts:
                counts[name] += admitted[name]
    order = ("whole_models", "rt_swap", "direct", "overlap", "staged", "at_most", "unlimited")
    ascending = [counts[name] for name in order]
    assert ascending == sorted(set(ascending))


# --- the sweep ------------------------------------------------------------------------------------


def test_a_point_counts_sets_and_keeps_promises() -> None:
    point = Point(TABLES[1], "language", 1.96, None)
    outcome = evaluate(point, sets=20, watch=6, seed=1)
    assert outcome == evaluate(point, sets=20, watch=6, seed=1)
    assert 0 < outcome.admitted["whole_models"] < outcome.admitted["unlimited"] <= 20
    watched = outcome.watched
    assert watched.sets == 6
    assert 0 < watched.promised_sets <= watched.on_time["edf"] <= 6
    assert watched.promised_jobs > 100 * watched.promised_sets
    assert (watched.promised_late, watched.promised_above_bound, watched.violations) == (0, 0, 0)
    assert outcome.as_json()["family"] == "language"


def test_sets_that_are_too_much_are_seen_to_be_late() -> None:
    heavy = [
        Case.at_demand(tasks, read_table(TABLES[0]), 3.0) for tasks in draw("vision", 3.0, 3, 0.9)
    ]
    watched = watch_cases(heavy, seed=1)
    assert watched.on_time == {"edf": 0, "request-order": 0}
    assert watched.promised_sets == 0


def test_generated_parts_of_documents() -> None:
    text = "a\n<!-- n -->\nold\n<!-- end of n -->\nb\n"
    once = replace_part(text, "n", "new")
    assert once == "a\n<!-- n -->\n\nnew\n\n<!-- end of n -->\nb\n"
    assert replace_part(once, "n", "new") == once
    for wrong in ("a", "<!-- n -->", "<!-- end of n --> <!-- n -->", text + text):
        with pytest.raises(ValueError, match="once each"):
            replace_part(wrong, "n", "new")
