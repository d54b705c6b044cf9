"""Both timelines, one above the other, on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rtswap.demo.tally import JobRecord
from rtswap.timeline import Interval, Timeline

# Okabe and Ito: told apart with any colour vision, and by hatching in black and white.
RUN = "#0072B2"
RESTORE = "#56B4E9"
EVICT = "#E69F00"
MISS = "#D55E00"
QUIET = "#8A8F98"
WAIT = "#C3C9D1"
INK = "#22262B"

RUN_BAND = (0.08, 0.42)  # bottom and height within a row of height 1
MOVE_BAND = (-0.34, 0.30)


@dataclass(frozen=True)
class Panel:
    """One discipline: its title, what the daemon saw, what the clients saw."""

    title: str
    timeline: Timeline
    jobs: Sequence[JobRecord]
    start_ns: int  # instant 0 of the axis


def draw(panels: Sequence[Panel], tasks: Sequence[str], seconds: float, path: Path) -> None:
    """Writes a PNG of the first `seconds` of each panel."""
    height = 0.75 + len(panels) * (0.62 * len(tasks) + 0.75)
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(13, height), sharex=True, squeeze=False, layout="constrained"
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        _draw_panel(axis, panel, tasks, seconds)
    axes[-1, 0].set_xlabel("seconds since the common start", color=INK)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=8, frameon=False, fontsize=9)
    figure.savefig(path, dpi=130, facecolor="white")
    pyplot.close(figure)


def _draw_panel(axis: Axes, panel: Panel, tasks: Sequence[str], seconds: float) -> None:
    axis.set_title(panel.title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axis.set_xlim(0, seconds)
    axis.set_ylim(len(tasks) - 0.42, -0.62)
    axis.set_yticks(range(len(tasks)), tasks)
    axis.tick_params(axis="y", length=0, labelsize=10, colors=INK)
    axis.tick_params(axis="x", colors=INK)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(QUIET)
    for row, task in enumerate(tasks):
        axis.axhline(row, color="#E4E7EB", linewidth=0.8, zorder=0)
        late = [job for job in panel.jobs if job.task == task and job.outcome == "missed"]
        _draw_runs(axis, row, panel, task, late)
        _draw_moves(axis, row, panel.timeline.restores[task], panel.start_ns, RESTORE, "////")
        _draw_moves(axis, row, panel.timeline.evictions[task], panel.start_ns, EVICT, "....")
        _draw_deadlines(axis, row, panel, task, seconds)


def _draw_runs(axis: Axes, row: int, panel: Panel, task: str, late: Sequence[JobRecord]) -> None:
    bottom, height = RUN_BAND
    for run in panel.timeline.runs[task]:
        # The run that ends a late job is the last one to begin before that job's end.
        missed = any(run.begin_ns < job.end_ns and job.release_ns < run.end_ns for job in late)
        axis.broken_barh(
            [_span(run, panel.start_ns)],
            (row - bottom - height, height),
            facecolors=MISS if missed else RUN,
            zorder=3,
        )


def _draw_moves(
    axis: Axes, row: int, moves: Sequence[Interval], start_ns: int, colour: str, hatch: str
) -> None:
    bottom, height = MOVE_BAND
    if not moves:
        return
    axis.broken_barh(
        [_span(move, start_ns) for move in moves],
        (row - bottom - height, height),
        facecolors=colour,
        edgecolors="white",
        hatch=hatch,
        linewidth=0,
        zorder=2,
    )


def _draw_deadlines(axis: Axes, row: int, panel: Panel, task: str, seconds: float) -> None:
    for job in panel.jobs:
        if job.task != task:
            continue
        release_s = (job.release_ns - panel.start_ns) / 1e9
        deadline_s = (job.deadline_ns - panel.start_ns) / 1e9
        if release_s > seconds:
            continue
        colour = INK if job.outcome == "met" else MISS
        if job.end_ns:
            end_s = (job.end_ns - panel.start_ns) / 1e9
            axis.plot([release_s, end_s], [row, row], color=WAIT, linewidth=3.5, zorder=1)
        axis.plot(release_s, row + 0.02, marker=".", markersize=3.5, color=INK, zorder=4)
        if deadline_s > seconds:
            continue
        axis.plot([deadline_s] * 2, [row + 0.02, row - 0.56], color=colour, linewidth=1.1, zorder=4)
        if job.outcome != "met":
            mark = "X" if job.outcome == "missed" else "v"
            axis.plot(
                deadline_s,
                row - 0.56,
                marker=mark,
                markersize=6,
                color=MISS,
                markeredgecolor="white",
                markeredgewidth=0.5,
                zorder=5,
                clip_on=False,
            )


def _span(interval: Interval, start_ns: int) -> tuple[float, float]:
    begin_s = (interval.begin_ns - start_ns) / 1e9
    return begin_s, max((interval.end_ns - interval.begin_ns) / 1e9, 0.002)


def _legend() -> list[Patch | Line2D]:
    def mark(marker: str, label: str) -> Line2D:
        return Line2D([], [], marker=marker, color=MISS, linestyle="", label=label)

    return [
        Line2D([], [], color=WAIT, linewidth=3.5, label="release to end"),
        Patch(facecolor=RUN, label="runs"),
        Patch(facecolor=MISS, label="runs, too late"),
        Patch(facecolor=RESTORE, edgecolor="white", hatch="////", label="restored"),
        Patch(facecolor=EVICT, edgecolor="white", hatch="....", label="evicted"),
        Line2D([], [], marker="|", markersize=10, color=INK, linestyle="", label="deadline met"),
        mark("X", "deadline missed"),
        mark("v", "dropped"),
    ]
