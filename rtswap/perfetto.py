"""A trace of rtswapd for Perfetto (ui.perfetto.dev): `rtswap trace`.

The format is the JSON of Chrome's trace events, which Perfetto opens. Each device is a process of
it, with one track for each task, one for each direction of the link, and one that shows when
promises were suspended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rtswap.timeline import Interval, build

TO_DEVICE, TO_HOST = "link to the device", "link to the host"
INSTANTS = ("released", "dropped", "missed", "overrun", "suspended")
PROMISES = "promises"


def suspensions(events: Sequence[dict[str, Any]]) -> list[Interval]:
    """When the bounds of one device did not hold; at the end, to the last event."""
    found: list[Interval] = []
    begin_ns: int | None = None
    for event in events:
        if event["kind"] == "suspended":
            begin_ns = event["at_ns"]
        elif event["kind"] == "resumed" and begin_ns is not None:
            found.append(Interval(begin_ns, event["at_ns"]))
            begin_ns = None
    if begin_ns is not None:
        found.append(Interval(begin_ns, events[-1]["at_ns"]))
    return found


def convert(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The lines of a trace file, in order, as one object to be written as JSON."""
    start_ns = min((event["at_ns"] for event in events), default=0)
    by_device: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        by_device.setdefault(event["device"], []).append(event)
    converted: list[dict[str, Any]] = []
    for device, own in sorted(by_device.items()):
        converted += _Device(device, start_ns).convert(own)
    return {"displayTimeUnit": "ms", "traceEvents": converted}


class _Device:
    def __init__(self, index: int, start_ns: int) -> None:
        self._pid = index + 1  # 0 is Perfetto's own
        self._start_ns = start_ns
        self._tracks = {TO_DEVICE: 1, TO_HOST: 2}

    def convert(self, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        timeline = build(events, name=str)
        body = [*self._instants(events)]
        for task, runs in timeline.runs.items():
            body += self._slices(task, "run", runs)
        body += self._slices(PROMISES, "suspended", suspensions(events))
        for task, moves in timeline.restores.items():
            body += self._slices(TO_DEVICE, f"restore {task}", moves)
        for task, moves in timeline.evictions.items():
            body += self._slices(TO_HOST, f"evict {task}", moves)
        return [*self._names(), *body]

    def _names(self) -> Iterator[dict[str, Any]]:
        title = {"name": f"device {self._pid - 1}"}
        yield {"ph": "M", "name": "process_name", "pid": self._pid, "args": title}
        for name, track in self._tracks.items():
            yield {
                "ph": "M",
                "name": "thread_name",
                "pid": self._pid,
                "tid": track,
                "args": {"name": name},
            }

    def _instants(self, events: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for event in events:
            if event["kind"] in INSTANTS and event["task"]:
                yield {
                    "ph": "i",
                    "s": "t",
                    "name": event["kind"],
                    **self._at(event["task"], event["at_ns"]),
                    "args": {"job": event["job"], "detail": event["detail"]},
                }

    def _slices(
        self, track: str, name: str, intervals: Sequence[Interval]
    ) -> Iterator[dict[str, Any]]:
        for interval in intervals:
            yield {
                "ph": "X",
                "name": name,
                **self._at(track, interval.begin_ns),
                "dur": (interval.end_ns - interval.begin_ns) / 1e3,
                "args": {"bytes": interval.bytes} if interval.bytes else {},
            }

    def _at(self, track: str, instant_ns: int) -> dict[str, Any]:
        tid = self._tracks.setdefault(track, len(self._tracks) + 1)
        return {"pid": self._pid, "tid": tid, "ts": (instant_ns - self._start_ns) / 1e3}
