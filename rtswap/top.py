"""What a daemon does now, as `rtswap top` shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rtswap import _core
from rtswap.errors import DaemonUnavailable
from rtswap.report import ArbiterDevice, ArbiterTask, Snapshot
from rtswap.units import show_bytes

LIMIT_NS = 5_000_000_000
WIDE = 120  # columns of a terminal that shows everything


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
        parts.append(_DeviceView(device, tasks))
    return Group(*parts)


@dataclass(frozen=True)
class _Column:
    heading: str
    cell: Callable[[ArbiterTask], str | Text]
    shown: bool = True
    justify: Literal["left", "right"] = "right"


class _DeviceView:
    """As many columns as the terminal has room for, of those that tell something."""

    def __init__(self, device: ArbiterDevice, tasks: list[ArbiterTask]) -> None:
        self._device = device
        self._tasks = sorted(tasks, key=lambda task: (task.deadline_ns or 2**63, task.name))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        device = self._device
        bank_bytes = device.chunk_bytes * device.chunk_count
        free_bytes = device.chunk_bytes * device.free_chunks
        yield Text(
            f"{device.uuid}: {show_bytes(free_bytes)} of {show_bytes(bank_bytes)} free, "
            f"load {device.utilisation:.0%}, running: {device.running or 'nothing'}",
            style="italic",
        )
        if device.suspensions:
            state = f"until it is idle: {device.suspended}" if device.suspended else "not now"
            times = "once" if device.suspensions == 1 else f"{device.suspensions} times"
            style = "yellow" if device.suspended else ""
            yield Text(f"promises suspended {times}, {state}", style=style)
        table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
        columns = self._columns(wide=options.max_width >= WIDE)
        for column in columns:
            table.add_column(column.heading, justify=column.justify, no_wrap=True)
        for task in self._tasks:
            table.add_row(*(column.cell(task) for column in columns))
        yield table
        yield Text()

    def _columns(self, *, wide: bool) -> list[_Column]:
        staged = any(task.mode == "staged" for task in self._tasks)
        columns = [
            _Column("task", self._name, justify="left"),
            _Column("state", lambda task: task.state, justify="left"),
            _Column(
                "mode\nlead ms" if wide else "mode",
                self._mode(wide=wide),
                wide or staged,
                justify="left",
            ),
            _Column(
                "import-\nance", lambda task: str(task.importance), wide and self._any("importance")
            ),
            _Column("resident\nMiB", self._resident),
            _Column("period\nms", lambda task: _ms(task.period_ns), wide),
            _Column("met", lambda task: str(task.met)),
            _Column("missed", lambda task: _count(task.missed)),
            _Column("dropped", lambda task: _count(task.dropped)),
            _Column("overruns", lambda task: _count(task.overruns), wide and self._any("overruns")),
            _Column("response ms\nmax/bound", self._response),
            _Column("GiB\nin/out", self._copied, wide),
        ]
        return [column for column in columns if column.shown]

    def _any(self, figure: str) -> bool:
        return any(getattr(task, figure) for task in self._tasks)

    def _name(self, task: ArbiterTask) -> Text:
        return Text(task.name, style="bold" if task.name == self._device.running else "")

    @staticmethod
    def _mode(*, wide: bool) -> Callable[[ArbiterTask], str]:
        def shown(task: ArbiterTask) -> str:
            if task.state != "admitted":
                return "-"
            return f"{task.mode} {_ms(task.lead_ns)}" if wide and task.lead_ns else task.mode

        return shown

    def _resident(self, task: ArbiterTask) -> str:
        chunk_bytes = self._device.chunk_bytes
        return f"{_mib(task.resident_chunks * chunk_bytes)}/{_mib(task.arena_chunks * chunk_bytes)}"

    @staticmethod
    def _response(task: ArbiterTask) -> str:
        return f"{_ms(task.response_max_ns)}/{_ms(task.response_bound_ns)}"

    @staticmethod
    def _copied(task: ArbiterTask) -> str:
        return f"{task.restored_bytes / 2**30:.1f}/{task.written_back_bytes / 2**30:.1f}"


def _count(count: int) -> Text:
    return Text(str(count), style="bold red" if count else "")


def _ms(nanoseconds: int) -> str:
    if not nanoseconds:
        return "-"
    milliseconds = nanoseconds / 1e6
    return f"{milliseconds:.1f}" if milliseconds < 1000 else f"{milliseconds:.0f}"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f}"
