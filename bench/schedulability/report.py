"""The figures as text: Markdown tables for docs/schedulability.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.schedulability.disciplines import DISCIPLINES
from bench.schedulability.drawing import FAMILIES
from bench.schedulability.intervals import wilson
from bench.schedulability.profiles import TABLES, read_table
from bench.schedulability.sweep import CLAIMED_DEMAND, Outcome

SHOWN_DEMANDS = (1.2, CLAIMED_DEMAND, 3.0)

# What is aimed at on measured models, at the demand RT-Swap claims: a share of what unlimited
# memory admits, and multiples of what RT-Swap's discipline and whole-model swapping admit.
GOALS_OF_UNLIMITED = {"vision": 0.92, "language": 0.78, "mixed": 0.58, "edge": 0.72}
GOALS_TIMES_RT_SWAP = {"vision": 1.5, "language": 5.0, "mixed": 3.5}
GOAL_TIMES_WHOLE_MODELS = 4.0


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def share_table(
    table: str, outcomes: Sequence[Outcome], demands: Sequence[float] = SHOWN_DEMANDS
) -> str:
    """Shares of admitted sets at some demands, the load of each set drawn evenly."""
    rows = []
    for family in FAMILIES:
        for demand in demands:
            outcome = _at(outcomes, table, family, demand)
            rows.append(
                [family, f"{demand:g}"]
                + [_share(outcome.admitted[name], outcome.sets) for name in DISCIPLINES]
            )
    heads = ["family", "memory / budget", *(entry.label for entry in DISCIPLINES.values())]
    return _markdown(heads, rows)


def ratio_table(table: str, ours: str, outcomes: Sequence[Outcome]) -> str:
    """How `ours` compares at the demand RT-Swap claims, with the goals where there are any."""
    goals = read_table(table).origin == "measured"
    rows = []
    for family in FAMILIES:
        admitted = _at(outcomes, table, family, CLAIMED_DEMAND).admitted
        of_unlimited = _part(admitted[ours], admitted["unlimited"])
        of_most = _ratio(admitted[ours], admitted["at_most"])
        times_rt_swap = _ratio(admitted[ours], admitted["rt_swap"])
        times_whole = _ratio(admitted[ours], admitted["whole_models"])
        if goals:
            of_unlimited += f", goal {GOALS_OF_UNLIMITED[family]:.2f}"
            times_whole += f" (goal {GOAL_TIMES_WHOLE_MODELS:g})"
            if family in GOALS_TIMES_RT_SWAP:
                times_rt_swap += f" (goal {GOALS_TIMES_RT_SWAP[family]:g})"
        rows.append([family, of_unlimited, of_most, times_rt_swap, times_whole])
    labels = [DISCIPLINES[name].label for name in ("at_most", "rt_swap", "whole_models")]
    return _markdown(["family", "/ unlimited", *(f"/ {label}" for label in labels)], rows)


def watched_sentence(outcomes: Sequence[Outcome]) -> str:
    watched = [outcome.watched for outcome in outcomes]
    jobs = sum(w.promised_jobs for w in watched)
    return (
        f"Simulated: {sum(w.sets for w in watched)} sets. Of "
        f"{sum(w.promised_sets for w in watched)} the arbiter admitted all tasks; of their {jobs} "
        f"jobs {sum(w.promised_late for w in watched)} were late and "
        f"{sum(w.promised_above_bound for w in watched)} took longer than promised. Invariants "
        f"broken: {sum(w.violations for w in watched)}."
    )


def short_report(outcomes: Sequence[Outcome]) -> str:
    """The measured table at the demand RT-Swap claims."""
    return share_table(TABLES[0], outcomes, (CLAIMED_DEMAND,))


def full_report(ours: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    """`ours`: the disciplines that are compared with the others."""
    parts = []
    for table in TABLES:
        parts += [f"**{read_table(table).name}**", share_table(table, outcomes)]
        for name in ours:
            label = DISCIPLINES[name].label
            parts += [f"*{label}*, at {CLAIMED_DEMAND} times:", ratio_table(table, name, outcomes)]
    return "\n\n".join([*parts, watched_sentence(outcomes)])


def _at(outcomes: Sequence[Outcome], table: str, family: str, demand: float) -> Outcome:
    [outcome] = [
        outcome
        for outcome in outcomes
        if (outcome.point.table, outcome.point.family) == (table, family)
        and (outcome.point.demand, outcome.point.load) == (demand, None)
    ]
    return outcome


def _share(successes: int, trials: int) -> str:
    low, high = wilson(successes, trials)
    return f"{successes / trials:.0%} ({100 * low:.0f} to {100 * high:.0f})"


def _part(count: int, of: int) -> str:
    """A share with its interval: of sets that the other discipline admits, too."""
    low, high = wilson(count, of)
    return f"{_ratio(count, of)} ({low:.2f} to {high:.2f})"


def _ratio(count: int, of: int) -> str:
    return f"{count / of:.2f}" if of else f"{count} : 0"
