"""Every point of every plot: sets drawn, every discipline asked, some sets simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from typing import Any

from bench.schedulability.disciplines import DISCIPLINES, Case
from bench.schedulability.drawing import FAMILIES, sets_for
from bench.schedulability.observed import Watched, watch_cases
from bench.schedulability.profiles import TABLES, read_table

CLAIMED_DEMAND = 1.96  # of RT-Swap: "up to 96.2 % more memory"
DEMANDS = (1.0, 1.2, 1.4, 1.6, 1.8, CLAIMED_DEMAND, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0)
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Point:
    table: str
    family: str
    demand: float
    load: float | None  # None: each set has its own, drawn evenly


@dataclass(frozen=True)
class Outcome:
    """Counts of sets, but for the jobs of `Watched`."""

    point: Point
    sets: int
    admitted: dict[str, int]  # by discipline: the test passes
    watched: Watched

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        point: dict[str, Any] = values.pop("point")
        return point | values


def points() -> Iterator[Point]:
    for table in TABLES:
        for family in FAMILIES:
            for demand in DEMANDS:
                yield Point(table, family, demand, None)
            for load in LOADS:
                yield Point(table, family, CLAIMED_DEMAND, load)


def evaluate(point: Point, sets: int, watch: int, seed: int) -> Outcome:
    """`watch`: how many of the sets are simulated, too."""
    table = read_table(point.table)
    drawn = islice(sets_for(table, point.family, seed, point.demand, point.load), sets)
    cases = [Case.at_demand(tasks, table, point.demand) for tasks in drawn]
    return Outcome(
        point=point,
        sets=sets,
        admitted={
            name: sum(entry.admits(case) for case in cases) for name, entry in DISCIPLINES.items()
        },
        watched=watch_cases(cases[:watch], seed),
    )


def sweep(sets: int, watch: int, seed: int, jobs: int, done: Callable[[], object]) -> list[Outcome]:
    """All points, in `jobs` processes; `done` is called after each."""
    wanted = list(points())
    # Spawned, not forked: torch has threads.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(evaluate, point, sets, watch, seed): point for point in wanted}
        outcomes = {}
        for future in as_completed(futures):
            outcomes[futures[future]] = future.result()
            done()
    return [outcomes[point] for point in wanted]
