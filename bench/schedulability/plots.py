"""Shares of sets as pictures: one file a question, one panel a family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.schedulability.disciplines import DISCIPLINES
from bench.schedulability.drawing import FAMILIES
from bench.schedulability.intervals import wilson
from bench.schedulability.sweep import CLAIMED_DEMAND, Outcome

INK = "#22262B"
QUIET = "#8A8F98"


@dataclass(frozen=True)
class Style:
    """Told apart by marker and dashes as well as by colour (Okabe and Ito)."""

    color: str
    marker: str
    dashes: str


STYLES = {
    "unlimited": Style("#22262B", "", ":"),
    "staged": Style("#56B4E9", "s", "-"),
    "overlap": Style("#0072B2", "o", "-"),
    "direct": Style("#009E73", "^", "--"),
    "rt_swap": Style("#D55E00", "D", "-."),
    "whole_models": Style("#CC79A7", "v", ":"),
}

# Successes and trials of one curve at one point.
Count = Callable[[Outcome], tuple[int, int]]


@dataclass(frozen=True)
class Curve:
    label: str
    style: Style
    count: Count


def admitted_curves() -> list[Curve]:
    return [
        Curve(DISCIPLINES[name].label, style, _admitted(name)) for name, style in STYLES.items()
    ]


def _admitted(name: str) -> Count:
    return lambda outcome: (outcome.admitted[name], outcome.sets)


def _on_time(discipline: str) -> Count:
    return lambda outcome: (outcome.watched.on_time[discipline], outcome.watched.sets)


def watched_curves() -> list[Curve]:
    """Of the sets that were simulated: what was promised beside what was seen."""
    return [
        Curve("rtswap: none late", STYLES["direct"], _on_time("edf")),
        Curve("rtswap: all tasks admitted", STYLES["staged"], _promised),
        Curve(
            "whole models as requested: none late",
            STYLES["whole_models"],
            _on_time("request-order"),
        ),
    ]


def _promised(outcome: Outcome) -> tuple[int, int]:
    return outcome.watched.promised_sets, outcome.watched.sets


def draw_demand(
    title: str, outcomes: Sequence[Outcome], curves: Sequence[Curve], path: Path
) -> None:
    """Over memory demand; the load of each set is drawn evenly."""
    chosen = [outcome for outcome in outcomes if outcome.point.load is None]

    def demand(outcome: Outcome) -> float:
        return outcome.point.demand

    _draw(title, "all memory of the models / budget", chosen, demand, curves, path)


def draw_load(title: str, outcomes: Sequence[Outcome], curves: Sequence[Curve], path: Path) -> None:
    """Over load, at the demand that RT-Swap claims."""
    chosen = [outcome for outcome in outcomes if outcome.point.load is not None]

    def load(outcome: Outcome) -> float:
        assert outcome.point.load is not None
        return outcome.point.load

    label = f"load: execution / period, summed (memory / budget {CLAIMED_DEMAND})"
    _draw(title, label, chosen, load, curves, path)


def _draw(
    title: str,
    x_label: str,
    outcomes: Sequence[Outcome],
    x_of: Callable[[Outcome], float],
    curves: Sequence[Curve],
    path: Path,
) -> None:
    figure, axes = pyplot.subplots(
        2, 2, figsize=(10, 7.2), sharex=True, sharey=True, layout="constrained"
    )
    for axis, family in zip(axes.flat, FAMILIES, strict=True):
        chosen = [outcome for outcome in outcomes if outcome.point.family == family]
        _draw_panel(axis, family, chosen, x_of, curves)
    figure.supxlabel(x_label, fontsize=10, color=INK)
    figure.supylabel("sets, % (bars: 95 % confidence)", fontsize=10, color=INK)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title=title,
        title_fontproperties={"size": 12, "weight": "bold"},
        alignment="left",
        loc="outside upper left",
        ncols=3,
        frameon=False,
        handlelength=3.2,
    )
    figure.savefig(path, dpi=100, facecolor="white")
    pyplot.close(figure)


def _draw_panel(
    axis: Axes,
    family: str,
    outcomes: Sequence[Outcome],
    x_of: Callable[[Outcome], float],
    curves: Sequence[Curve],
) -> None:
    for curve in curves:
        counts = [curve.count(outcome) for outcome in outcomes]
        shares = [successes / trials for successes, trials in counts]
        bounds = [wilson(*count) for count in counts]
        axis.errorbar(
            [x_of(outcome) for outcome in outcomes],
            [100 * share for share in shares],
            yerr=[
                [100 * (share - low) for share, (low, _) in zip(shares, bounds, strict=True)],
                [100 * (high - share) for share, (_, high) in zip(shares, bounds, strict=True)],
            ],
            label=curve.label,
            color=curve.style.color,
            marker=curve.style.marker,
            linestyle=curve.style.dashes,
            markersize=5,
            linewidth=1.5,
            elinewidth=0.7,
            capsize=2,
        )
    axis.set_title(family, loc="left", fontsize=11, color=INK)
    axis.set_ylim(-3, 103)
    axis.grid(color="#E4E7EB", linewidth=0.8)
    axis.tick_params(colors=INK)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axis.spines[side].set_color(QUIET)
