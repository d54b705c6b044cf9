"""The daemon's trace file as a timeline.

One line is one JSON object (`daemon/trace_file.cc`). Lines of kinds that are not needed here are
skipped.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtswap.errors import InvalidArgument

_NUMBERS = ("at_ns", "device", "job", "bytes")
_TEXTS = ("kind", "task", "detail")
_MOST = 2**64 - 1  # of every number that rtswapd writes


@dataclass(frozen=True)
class Interval:
    begin_ns: int
    end_ns: int
    bytes: int = 0


@dataclass
class Timeline:
    """Per task name: when it ran, when it was restored, when it was evicted."""

    runs: dict[str, list[Interval]] = field(default_factory=lambda: defaultdict(list))
    restores: dict[str, list[Interval]] = field(default_factory=lambda: defaultdict(list))
    evictions: dict[str, list[Interval]] = field(default_factory=lambda: defaultdict(list))
    resident_bytes_max: int = 0  # the most memory that tasks held at one time


def load(path: Path) -> list[dict[str, Any]]:
    """The events of a trace file. A last line that is not complete yet is left out."""
    events: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            break
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):  # the latter of thousands of brackets
            event = None
        if not isinstance(event, dict) or not _is_event(event):
            raise InvalidArgument(
                f"{path}:{number}: this is not a line of a trace that rtswapd wrote."
            )
        events.append(event)
    return events


def _is_event(line: dict[str, Any]) -> bool:
    numbers, texts = ([line.get(name) for name in names] for names in (_NUMBERS, _TEXTS))
    return all(isinstance(text, str) for text in texts) and all(
        type(number) is int and abs(number) <= _MOST for number in numbers
    )


def task_name(shown: str) -> str:
    """ "camera" of "camera@1234"."""
    return shown.rpartition("@")[0] or shown


@dataclass
class _Transfer:
    """Pieces of one restore or eviction that may overlap: one interval from first to last."""

    begin_ns: int
    begun_bytes: int = 0
    ended_bytes: int = 0


class _Transfers:
    """The restores, or the evictions, of all tasks; those that have ended go into ``ended``."""

    def __init__(self, ended: dict[str, list[Interval]], name: Callable[[str], str]) -> None:
        self._ended = ended
        self._name = name
        self._open: dict[str, _Transfer] = {}

    def begin(self, event: dict[str, Any]) -> None:
        transfer = self._open.setdefault(event["task"], _Transfer(event["at_ns"]))
        transfer.begun_bytes += event["bytes"]

    def end(self, event: dict[str, Any]) -> None:
        task, at_ns = event["task"], event["at_ns"]
        transfer = self._open.get(task, _Transfer(at_ns))
        transfer.ended_bytes += event["bytes"]
        if event["bytes"] and transfer.ended_bytes < transfer.begun_bytes:
            return
        self._open.pop(task, None)
        interval = Interval(transfer.begin_ns, at_ns, transfer.ended_bytes)
        self._ended[self._name(task)].append(interval)


def build(
    events: Iterable[dict[str, Any]],
    until_ns: int | None = None,
    name: Callable[[str], str] = task_name,
) -> Timeline:
    """`until_ns`: when the tasks began to leave. Memory given back at the end of a task is not in
    the trace, so nothing is counted after that. `name`: of a task in the timeline.
    """
    timeline = Timeline()
    running: dict[str, int] = {}
    restores = _Transfers(timeline.restores, name)
    evictions = _Transfers(timeline.evictions, name)
    held_bytes: dict[str, int] = defaultdict(int)
    for event in events:
        if until_ns is not None and event["at_ns"] > until_ns:
            break
        kind, task, at_ns = event["kind"], event["task"], event["at_ns"]
        if kind == "run_begin":
            running[task] = at_ns
        elif kind == "run_end" and task in running:
            timeline.runs[name(task)].append(Interval(running.pop(task), at_ns))
        elif kind == "restore_begin":
            restores.begin(event)
            held_bytes[task] += event["bytes"]
            now_bytes = sum(held_bytes.values())
            timeline.resident_bytes_max = max(timeline.resident_bytes_max, now_bytes)
        elif kind == "restore_end":
            restores.end(event)
        elif kind == "evict_begin":
            evictions.begin(event)
        elif kind == "evict_end":
            evictions.end(event)
            held_bytes[task] -= event["bytes"]
        elif kind == "session_closed":
            # A dead process holds nothing; the event names the process, so match by pid.
            for holder in held_bytes:
                if _same_process(holder, event):
                    held_bytes[holder] = 0
    return timeline


def _same_process(task: str, event: dict[str, Any]) -> bool:
    if "lives" in event.get("detail", ""):  # only the link is gone
        return False
    pid = task.rpartition("@")[2]
    return pid in re.findall(r"\d+", f"{event.get('task', '')} {event.get('detail', '')}")
