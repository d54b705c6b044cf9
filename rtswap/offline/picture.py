"""Demand against time: where the curve crosses the line, the set fails."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from rtswap.offline.plan import Plan, demand_curve

# Okabe and Ito: told apart with any colour vision.
DEMAND = "#0072B2"
FAILURE = "#D55E00"
QUIET = "#8A8F98"
INK = "#22262B"

MOST_DEADLINES = 4000  # more steps than a picture can show


def draw_demand(plan: Plan, path: Path) -> None:
    """Writes a PNG of the demand in every window up to a few of the longest deadlines.

    REQUIRES: why_no_curve() is None.
    """
    points, demand = demand_curve(plan, _until_ns(plan))
    staged = any(task.mode == "staged" for task in plan.tasks)
    figure, axis = pyplot.subplots(figsize=(9, 5), layout="constrained")
    # Logarithmic: it is in the shortest windows that demand comes close.
    axis.set(xscale="log", yscale="log")
    start_ms, end_ms = max(points[0] / 1e6, 1e-3), points[-1] / 1e6
    axis.plot(
        [start_ms, end_ms],
        [start_ms, end_ms],
        color=QUIET,
        linestyle="--",
        label="what the GPU can do",
    )
    axis.step(
        [point / 1e6 for point in points],
        [value / 1e6 for value in demand],
        where="post",
        color=DEMAND,
        label=f"most that {'direct ' if staged else ''}jobs may ask of it, one block in the way",
    )
    if plan.failing_window_ns and plan.failing_demand_ns:
        window_ms = plan.failing_window_ns / 1e6
        axis.plot(
            window_ms,
            plan.failing_demand_ns / 1e6,
            marker="X",
            markersize=10,
            color=FAILURE,
            linestyle="",
            label=f"{plan.failing_task} fails first: {window_ms:.1f} ms",
        )
    axis.set_xlabel("length of a window, ms", color=INK)
    axis.set_ylabel("GPU time, ms", color=INK)
    axis.set_title("accepted" if plan.admitted else "refused", loc="left", color=INK)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        scale.set_major_formatter(ScalarFormatter())
        scale.set_minor_formatter(NullFormatter())
    axis.legend(frameon=False)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(path, dpi=130, facecolor="white")
    pyplot.close(figure)


def _until_ns(plan: Plan) -> int:
    promised = [task for task in plan.tasks if task.spec.period_ns]
    until_ns = max(3 * task.spec.deadline_ns for task in promised)
    if plan.failing_window_ns:
        until_ns = max(min(until_ns, 10 * plan.failing_window_ns), plan.failing_window_ns)
    rate = sum(1 / task.spec.period_ns for task in promised)
    first_ns = min(task.spec.deadline_ns for task in promised if task.mode == "direct")
    return max(min(until_ns, round(MOST_DEADLINES / rate)), first_ns)
