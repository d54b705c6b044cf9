"""What people see of plans and simulations."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rtswap.offline.plan import Plan, TaskPlan
from rtswap.offline.simulate import Simulated
from rtswap.units import show_bytes


def print_plan(plan: Plan, console: Console) -> None:
    device = plan.device
    verdict = "accepted" if plan.admitted else "refused"
    link = f"{device.bytes_per_s / 1e9:g} GB/s" if device.bytes_per_s else "of unknown speed"
    models = {spec.model: spec.size_bytes for spec in plan.specs}
    console.print(
        f"[bold]{verdict}[/bold]: {show_bytes(sum(models.values()))} of models in "
        f"{show_bytes(device.budget_bytes)}, chunks of {show_bytes(device.chunk_bytes)}, "
        f"link {link}"
    )
    if not plan.admitted:
        console.print(escape(plan.reason))
        if not device.bytes_per_s and any(task.restored_bytes for task in plan.tasks):
            console.print("Without --link nothing that must be restored can be promised.")
    if plan.tasks:
        _print_whole(_plan_table(plan), console)
        for task in plan.tasks:
            if plan.admitted or not task.spec.period_ns:
                console.print(f"  {escape(task.limited_by)}")
    if plan.admitted:
        console.print(f"  load of the GPU with all restores: {plan.utilisation:.0%}")


def _plan_table(plan: Plan) -> Table:
    table = _table(
        "task",
        "period\nms",
        "due\nms",
        "runs\nms",
        "memory\nMiB",
        "stays\nMiB",
        "restores\nMiB",
        "lead\nms",
        "block\nms",
        "bound\nms",
    )
    for task in plan.tasks:
        table.add_row(*_plan_row(task))
    return table


def _plan_row(task: TaskPlan) -> list[str]:
    spec = task.spec
    return [
        escape(spec.name),
        _ms(spec.period_ns),
        _ms(spec.deadline_ns),
        _ms(spec.wcet_ns),
        _mib(spec.size_bytes),
        _mib(task.resident_bytes),
        _mib(task.restored_bytes),
        _ms(task.lead_ns) if task.mode == "staged" else task.mode,
        "?" if task.block_ns is None else _ms(task.block_ns),
        _ms(task.bound_ns or 0),
    ]


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.1f}" if ns else "-"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f}"


def print_simulation(report: Simulated, console: Console) -> None:
    table = _table(
        "task",
        "state",
        "jobs",
        "met",
        "missed",
        "dropped",
        "median\nms",
        "longest\nms",
        "bound\nms",
        "above\nbound",
    )
    for task in report.tasks:
        counts = (task.released, task.met, task.missed, task.dropped)
        times = (task.response_median_ns, task.response_max_ns, task.bound_ns)
        table.add_row(
            escape(task.name),
            task.state,
            *map(str, counts),
            *map(_ms, times),
            str(task.above_bound),
        )
    _print_whole(table, console)
    for task in report.tasks:
        if task.reason:
            console.print(f"  {escape(f'{task.name}: {task.reason}')}")
    if report.suspensions:
        console.print(f"  promises were suspended, in all {report.suspensions} times")
    for violation in report.violations:
        console.print(f"  an invariant was broken, please report this: {escape(violation)}")
    if report.refused:
        console.print(f"  [bold]nothing was promised to {escape(', '.join(report.refused))}")
    console.print(
        "  every promise was kept" if report.kept else "  [bold]not every promise was kept"
    )
    if report.with_faults and not report.kept:
        console.print("  (none holds for tasks that faults meet, nor for whom they keep waiting)")


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print_whole(table: Table, console: Console) -> None:
    """Rich would cut names and figures to a width, and takes 80 columns for that of a pipe."""
    unlimited = console.options.update(max_width=10_000)
    table.width = console.measure(table, options=unlimited).maximum
    console.print(table)
