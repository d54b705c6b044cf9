"""Random task sets. Pure: equal seeds draw equal sets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from bench.schedulability.profiles import Model, Table

MS = 10**6  # ns
FAMILIES = ("vision", "language", "mixed", "edge")
LEAST_LOAD, MOST_LOAD = 0.1, 0.9  # execution over period, summed over a set

FEWEST_TASKS, MOST_TASKS = 4, 12

# The family "edge": small models at the pace of a sensor beside large ones that come seldom.
SMALL_BYTES = 10**9  # below: small
SMALL_TASKS = (2, 6)
LARGE_TASKS = (2, 6)
SMALL_PERIOD_NS = (33 * MS, 150 * MS)
LARGE_PERIOD_NS = (600 * MS, 4000 * MS)
WIDEST_SHIFT = 4.0  # of the logarithm of a period: from one end of a range beyond the other
SMALLEST_SHIFT = 1e-6


@dataclass(frozen=True)
class DrawnTask:
    """A model of its own with a period, which is its deadline, too."""

    model: Model
    period_ns: int

    @property
    def load(self) -> float:
        return self.model.execution_ns / self.period_ns


TaskSet = tuple[DrawnTask, ...]


def load_of(tasks: TaskSet) -> float:
    return sum(task.load for task in tasks)


def largest_demand(tasks: TaskSet) -> float:
    """All memory over that of the largest model: at more, the budget cannot hold that model."""
    sizes = [task.model.weights_bytes for task in tasks]
    return sum(sizes) / max(sizes)


def sets_for(
    table: Table, family: str, seed: int, demand: float, load: float | None = None
) -> Iterator[TaskSet]:
    """Endless: sets whose largest model fits a budget of `demand` times less than all memory.

    load:
        of every set; None: drawn evenly from 0.1 to 0.9. A set depends on its number, not on
        `demand`, so that the same sets are asked at most demands.
    """
    number = 0
    while True:
        random = Random(f"{seed}/{table.name}/{family}/{number}")
        number += 1
        drawn_load = random.uniform(LEAST_LOAD, MOST_LOAD)
        tasks = draw_set(random, table, family, drawn_load if load is None else load)
        if largest_demand(tasks) >= demand:
            yield tasks


def draw_set(random: Random, table: Table, family: str, load: float) -> TaskSet:
    if family == "edge":
        return _draw_edge(random, table, load)
    models = [model for model in table.models if family in ("mixed", model.family)]
    chosen = [random.choice(models) for _ in range(random.randint(FEWEST_TASKS, MOST_TASKS))]
    shares = uunifast_discard(random, len(chosen), load)
    return tuple(
        DrawnTask(model, max(1, round(model.execution_ns / share)))
        for model, share in zip(chosen, shares, strict=True)
    )


def uunifast_discard(random: Random, count: int, total: float) -> list[float]:
    """Shares of `total`, evenly over all that are at most 1 (Bini, Buttazzo 2005; Davis, Burns)."""
    while True:
        shares = []
        left = total
        for others in range(count - 1, 0, -1):
            rest = left * random.random() ** (1 / others)
            shares.append(left - rest)
            left = rest
        shares.append(left)
        if min(shares) > 0 and max(shares) <= 1:
            return shares


def _draw_edge(random: Random, table: Table, load: float) -> TaskSet:
    small = [model for model in table.models if model.weights_bytes < SMALL_BYTES]
    large = [model for model in table.models if model.weights_bytes >= SMALL_BYTES]
    while True:
        paced = [
            (random.choice(models), period_range, random.uniform(*map(math.log, period_range)))
            for models, count, period_range in (
                (small, SMALL_TASKS, SMALL_PERIOD_NS),
                (large, LARGE_TASKS, LARGE_PERIOD_NS),
            )
            for _ in range(random.randint(*count))
        ]
        if tasks := _at_load(paced, load):
            return tasks


def _at_load(paced: list[tuple[Model, tuple[int, int], float]], load: float) -> TaskSet | None:
    """All periods, given by their logarithms, changed by one factor, each within its range, so that
    the load is what it should be. None: there is no such factor.
    """

    def tasks_at(shift: float) -> TaskSet:
        return tuple(
            DrawnTask(model, round(min(max(math.exp(log_ns + shift), low_ns), high_ns)))
            for model, (low_ns, high_ns), log_ns in paced
        )

    shortest, longest = -WIDEST_SHIFT, WIDEST_SHIFT
    if not load_of(tasks_at(longest)) <= load <= load_of(tasks_at(shortest)):
        return None
    while longest - shortest > SMALLEST_SHIFT:
        middle = (shortest + longest) / 2
        if load_of(tasks_at(middle)) > load:
            shortest = middle
        else:
            longest = middle
    return tasks_at(longest)
