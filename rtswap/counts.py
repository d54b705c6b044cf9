"""What became of the jobs of a task, as this process sees it."""

from __future__ import annotations

import statistics
import threading
from collections import deque
from typing import Any

from rtswap import _core

_KEPT_RESPONSES = 1024


class JobCounts:
    """Threads: any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(
            ("released", "met", "missed", "dropped", "skipped", "failed", "begun_on_prefix"), 0
        )
        self._memory_wait_ms = 0.0
        self._responses_ms: deque[float] = deque(maxlen=_KEPT_RESPONSES)

    def skipped(self, releases: int) -> None:
        """The clock passed over them."""
        with self._lock:
            self._counts["skipped"] += releases

    def ended(self, native: _core.Job) -> None:
        release_ns, ended_ns, deadline_ns, on_prefix, memory_wait_ns = native.outcome()
        counts = self._counts
        with self._lock:
            counts["released"] += 1
            if on_prefix:
                counts["begun_on_prefix"] += 1
                self._memory_wait_ms += memory_wait_ns / 1e6
            if ended_ns:
                self._responses_ms.append((ended_ns - release_ns) / 1e6)
                if deadline_ns is not None:
                    counts["met" if ended_ns <= deadline_ns else "missed"] += 1

    def not_started(self, *, dropped: bool) -> None:
        with self._lock:
            self._counts["released"] += 1
            self._counts["dropped" if dropped else "failed"] += 1

    def figures(self) -> dict[str, Any]:
        """With the names of :class:`rtswap.TaskStats`."""
        with self._lock:
            responses = sorted(self._responses_ms)
            counts = dict(self._counts)
            memory_wait_ms = self._memory_wait_ms
        return {
            **counts,
            "memory_wait_ms": memory_wait_ms,
            "response_min_ms": responses[0] if responses else None,
            "response_median_ms": statistics.median(responses) if responses else None,
            "response_max_ms": responses[-1] if responses else None,
        }
