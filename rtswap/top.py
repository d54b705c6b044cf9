"""What a daemon does now, as `rtswap top` shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rtswap import _core
from rtswap.errors import DaemonUnavailable
from rtswap.report import ArbiterDevice, ArbiterTask, Snapshot
from rtswap.units import show_bytes

LIMIT_NS = 5_000_000_000


class Observer:
    """Looks at one daemon, and at the next one on its socket when that has ended."""

    def __init__(self, socket: str | None) -> None:
        """``socket``: default as for :func:`rtswap.enable`. Raises ``DaemonUnavailable``."""
        self._socket = socket or ""
        self._link: _core.Observer | None = self._connect()

    def _connect(self) -> _core.Observer:
        library = str(Path(__file__).parent / "librtswap_grpc.so")
        return _core.Observer(socket_path=self._socket, grpc_library=library)

    def look(self) -> Snapshot:
        if self._link is None:
            self._link = self._connect()
        try:
            return Snapshot.of(self._link.snapshot(LIMIT_NS))
        except DaemonUnavailable:
            self._link = None
            raise


def watch(look: Callable[[], Snapshot], console: Console, every_s: float) -> None:
    """Until it is interrupted. A daemon that is away is waited for."""
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            try:
                shown: RenderableType = tables(look())
            except DaemonUnavailable as error:
                shown = Text(f"waiting: {error}", style="yellow")
            live.update(shown, refresh=True)
            time.sleep(every_s)


def tables(snapshot: Snapshot) -> RenderableType:
    """One table for each device."""
    parts: list[RenderableType] = []
    if snapshot.recovering:
        parts.append(Text("recovering: nothing is granted yet", style="yellow"))
    for index, device in enumerate(snapshot.devices):
        tasks = [task for task in snapshot.tasks if task.device == index]
        parts.append(_device_table(device, tasks))
    return Group(*parts)


def _device_table(device: ArbiterDevice, tasks: list[ArbiterTask]) -> Table:
    bank_bytes = device.chunk_bytes * device.chunk_count
    free_bytes = device.chunk_bytes * device.free_chunks
    table = Table(
        title=f"{device.uuid}: {show_bytes(free_bytes)} of {show_bytes(bank_bytes)} free, "
        f"load {device.utilisation:.0%}, running: {device.running or 'nothing'}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("task", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for heading in ("resident\nMiB", "period\nms", "met", "missed", "dropped"):
        table.add_column(heading, justify="right")
    for heading in ("response ms\nmax / bound", "MiB in\n/ out"):
        table.add_column(heading, justify="right")
    for task in sorted(tasks, key=lambda task: (task.deadline_ns or 2**63, task.name)):
        running = task.name == device.running
        table.add_row(
            Text(task.name, style="bold" if running else ""),
            task.state,
            f"{_mib(task.resident_chunks * device.chunk_bytes)} / "
            f"{_mib(task.arena_chunks * device.chunk_bytes)}",
            _ms(task.period_ns),
            str(task.met),
            Text(str(task.missed), style="bold red" if task.missed else ""),
            Text(str(task.dropped), style="bold red" if task.dropped else ""),
            f"{_ms(task.response_max_ns)} / {_ms(task.response_bound_ns)}",
            f"{_mib(task.restored_bytes)} / {_mib(task.written_back_bytes)}",
        )
    return table


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.1f}" if nanoseconds else "-"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f}"
