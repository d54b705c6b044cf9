"""Tables for the terminal and report.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from rtswap.demo.calibrate import Timing, total_load
from rtswap.demo.tally import TaskTally
from rtswap.demo.taskset import Memory, role_named

MB = 1_000_000


def task_table(timings: Sequence[Timing], memories: dict[str, Memory], bank_bytes: int) -> Table:
    """What will run: sizes, costs, periods."""
    total = sum(memory.total_bytes for memory in memories.values())
    table = _table(
        f"Four models, {total / MB:.0f} MB, on a device with {bank_bytes / MB:.0f} MB; "
        f"load {total_load(timings):.0%}"
    )
    for heading in ("task", "model"):
        table.add_column(heading)
    for heading in ("MB", "run\nms", "restore\nand run", "period\nms", "deadline\nms"):
        table.add_column(heading, justify="right")
    for timing in timings:
        table.add_row(
            timing.name,
            role_named(timing.name).what,
            f"{memories[timing.name].total_bytes / MB:.0f}",
            *(
                f"{value_ns / 1e6:.0f}"
                for value_ns in (
                    timing.wcet_ns,
                    timing.block_ns,
                    timing.period_ns,
                    timing.deadline_ns,
                )
            ),
        )
    return table


def result_table(results: Sequence[tuple[str, Sequence[TaskTally]]]) -> Table:
    """Both disciplines, one row per task."""
    table = _table("The same releases, twice")
    table.add_column("task", no_wrap=True)
    for heading in ("releases", "met", "missed", "dropped", "response ms\nmin/med/max"):
        table.add_column(heading, justify="right", overflow="fold")
    for heading in ("MB\nin", "MB\nout"):
        table.add_column(heading, justify="right")
    for title, rows in results:
        table.add_row(f"[bold]{title}[/]")
        for row in rows:
            responses = (row.response_min_ms, row.response_median_ms, row.response_max_ms)
            table.add_row(
                f"  {row.task}",
                str(row.releases),
                str(row.met),
                _warn(row.missed),
                _warn(row.dropped),
                "/".join("-" if value is None else f"{value:.0f}" for value in responses),
                f"{row.bytes_in / MB:.0f}",
                f"{row.bytes_out / MB:.0f}",
            )
    return table


def _table(title: str) -> Table:
    """Fits 80 columns: what a log has."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _warn(count: int) -> str:
    return f"[bold red]{count}[/]" if count else "0"


def machine_facts() -> dict[str, Any]:
    model = platform.processor()
    with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    facts: dict[str, Any] = {
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(0)
    return facts


def write(path: Path, report: dict[str, Any]) -> None:
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
