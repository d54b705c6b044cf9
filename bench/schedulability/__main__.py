"""Draws the sets, asks the disciplines, writes figures and pictures. Equal seeds, equal counts."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.machine import describe_machine
from bench.schedulability import plots
from bench.schedulability.documents import write_part
from bench.schedulability.profiles import TABLES, read_table
from bench.schedulability.report import full_report, short_report
from bench.schedulability.sweep import Outcome, points, sweep

COMPARED = ("overlap", "staged")  # direct tasks only, and all that the arbiter does


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench-schedulability", description=__doc__)
    parser.add_argument("--sets", type=int, default=1000, help="drawn for each point")
    parser.add_argument("--watch", type=int, default=10, help="of these, simulated, too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--results", type=Path, default=Path("bench/results/schedulability.json"))
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="gets pictures and tables")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="gets one table")
    return parser.parse_args()


def _draw(outcomes: list[Outcome], folder: Path) -> None:
    for name in TABLES:
        title = f"Sets that are admitted, {read_table(name).name}"
        chosen = [outcome for outcome in outcomes if outcome.point.table == name]
        curves = plots.admitted_curves()
        plots.draw_demand(title, chosen, curves, folder / f"schedulability-demand-{name}.png")
        plots.draw_load(title, chosen, curves, folder / f"schedulability-load-{name}.png")
    plots.draw_demand(
        f"Simulated sets, {read_table(TABLES[0]).name}",
        [outcome for outcome in outcomes if outcome.point.table == TABLES[0]],
        plots.watched_curves(),
        folder / "schedulability-simulated.png",
    )


def main() -> None:
    arguments = _arguments()
    console = Console(highlight=False, soft_wrap=True)
    begin_s = time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        bar = progress.add_task("points", total=len(list(points())))
        outcomes = sweep(
            arguments.sets,
            arguments.watch,
            arguments.seed,
            arguments.jobs,
            lambda: progress.advance(bar),
        )
    values = {
        "machine": describe_machine(),
        "seed": arguments.seed,
        "wall_s": round(time.monotonic() - begin_s, 1),
        "points": [outcome.as_json() for outcome in outcomes],
    }
    arguments.results.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    _draw(outcomes, arguments.docs / "images")
    report = full_report(COMPARED, outcomes)
    provenance = f"{arguments.sets} sets for each point, seed {arguments.seed}."
    write_part(arguments.docs / "schedulability.md", "figures", f"{provenance}\n\n{report}")
    write_part(arguments.readme, "schedulability", short_report(outcomes))
    console.print(report, markup=False)
    console.print(f"\nwritten: {arguments.results}, {arguments.docs}/schedulability.md and images/")


if __name__ == "__main__":
    main()
