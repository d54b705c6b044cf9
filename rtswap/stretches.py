"""From observed passes to what the stretches of a job need and cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

MOST_STRETCHES = 64
"""More tell little, and each is a term of the schedulability test."""


@dataclass(frozen=True)
class Pass:
    """One pass through a model. Instants in ns of one clock."""

    begun_ns: int
    uses: list[tuple[int, int]]
    """(chunks, instant): from then on the pass used memory up to there. Both ascend."""
    ended_ns: int

    @property
    def execution_ns(self) -> int:
        return self.ended_ns - self.begun_ns

    def left_ns(self, chunks: int) -> int:
        """What was left to do when the pass first used more than the chunks before these."""
        return next((self.ended_ns - at for need, at in self.uses if need >= chunks), 0)


def stretches(passes: list[Pass], worst_ns: int) -> list[tuple[int, int]]:
    """(chunks, ns): with the arena's first ``chunks`` there, a job can execute for so long.

    In order of execution, with ascending chunks. Together they last ``worst_ns``, which is at least
    what any of the passes took. From each stretch on they last as long as the pass that had most
    left to do there; what ``worst_ns`` has beyond that is added to the last (`longer`). Empty where
    one stretch needs all memory.
    """
    needs = sorted({chunks for observed in passes for chunks, _ in observed.uses})
    if not needs:
        return []
    longest_ns = max(observed.execution_ns for observed in passes)
    # What comes before the first use needs no memory; it counts with the first stretch.
    left = [longest_ns, *(max(observed.left_ns(need) for observed in passes) for need in needs[1:])]
    costs = [here - after for here, after in pairwise([*left, 0])]
    found = [(need, ns) for need, ns in zip(needs, costs, strict=True) if ns > 0]
    return longer(_coarser(found), worst_ns - longest_ns)


def longer(found: list[tuple[int, int]], by_ns: int) -> list[tuple[int, int]]:
    """Time that may be lost anywhere, with the last of the stretches, where no restore hides it."""
    return [*found[:-1], *((chunks, ns + by_ns) for chunks, ns in found[-1:])]


def _coarser(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbours together: they need what the last of them needs."""
    size = -(-len(found) // MOST_STRETCHES)
    groups = [found[first : first + size] for first in range(0, len(found), max(size, 1))]
    joined = [(group[-1][0], sum(ns for _, ns in group)) for group in groups]
    return joined if len(joined) > 1 else []
