"""Periodic releases without drift: the k-th job is released at start + k * period."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from rtswap import _core
from rtswap.errors import Closed, InvalidArgument
from rtswap.jobs import Job

if TYPE_CHECKING:
    from rtswap.tasks import Task

# How often a clock that cannot tell its next release yet looks again.
_LOOK_S = 0.02
# For how long a clock is held back before it says so.
_QUIET_NS = 5_000_000_000

log = logging.getLogger("rtswap")


class JobClock(Iterator[Job], AsyncIterator[Job]):
    """Yields a job at each release; between them it holds neither memory nor the GPU.

    The clock never catches up: releases whose instant has passed while the caller was busy are
    skipped and counted. It ends when the task is closed and stands still while it is paused. With
    a daemon that holds tasks back (``rtswapd --wait-for``) it starts at their common instant.
    """

    def __init__(self, task: Task) -> None:
        if not task.period_ms:
            raise InvalidArgument(
                f"Task '{task.name}' has no period, so it has no clock. Give period_ms= or "
                "rate_hz= when registering it, or release jobs by task.job()."
            )
        self._task = task
        self._begun = False
        self._start_ns = 0
        self._last = -1
        self._target: int | None = None
        self._period_ns = 0
        self._told_from_ns: int | None = None
        self._released_ns: int | None = None
        self.skipped = 0

    def __iter__(self) -> JobClock:
        return self

    def __aiter__(self) -> JobClock:
        return self

    def __next__(self) -> Job:
        while True:
            wait_s, job = self._step()
            if job is not None:
                return job
            if wait_s is None:
                raise StopIteration
            time.sleep(wait_s)

    async def __anext__(self) -> Job:
        while True:
            wait_s, job = self._step()
            if job is not None:
                return job
            if wait_s is None:
                raise StopAsyncIteration
            await asyncio.sleep(wait_s)

    def _step(self) -> tuple[float | None, Job | None]:
        """(how long to wait, None), (None, job now), or (None, None) at the end."""
        if self._task.closed:
            return None, None
        if self._task.state == "paused":
            self._begun = False
            return _LOOK_S, None
        now_ns = _core.monotonic_now_ns()
        goes_on = self._begun and self._period_ns == self._task._period_ns
        if not goes_on and not self._begin(now_ns):
            return _LOOK_S, None
        if self._target is None:
            self._target = max(self._last + 1, self._index_from(now_ns))
        release_ns = self._start_ns + self._target * self._period_ns
        if release_ns > now_ns:
            # In slices, so that close(), pause() and set_period() are noticed.
            return min((release_ns - now_ns) / 1e9, _LOOK_S), None
        skipped = self._target - self._last - 1
        self.skipped += skipped
        self._task._job_counts.skipped(skipped)
        self._last, self._target = self._target, None
        self._released_ns = release_ns
        return None, Job(self._task, release_ns, None)

    def _begin(self, now_ns: int) -> bool:
        """Or begins anew: then, as the arbiter counts, at least a period after the last release.

        What has passed before is not skipped: nobody was kept from it. False while the arbiter
        still waits for other tasks.
        """
        period_ns = self._task._period_ns
        earliest_ns = now_ns
        if self._released_ns is not None:
            earliest_ns = max(now_ns, self._released_ns + period_ns)
        try:
            common_ns = self._task._session().common_start_ns
        except Closed:
            common_ns = None
        if common_ns == 0:
            self._say_that_it_is_held_back(now_ns)
            return False
        self._begun = True
        self._start_ns = earliest_ns if common_ns is None else common_ns
        self._period_ns = period_ns
        self._target = self._index_from(earliest_ns)
        self._last = self._target - 1
        return True

    def _say_that_it_is_held_back(self, now_ns: int) -> None:
        """Once, and not to those who come in time: a task that never comes looks like a hang."""
        if self._told_from_ns is None:
            self._told_from_ns = now_ns + _QUIET_NS
        if now_ns >= self._told_from_ns:
            self._told_from_ns = sys.maxsize
            log.warning(
                "task '%s': its clock stands still until as many tasks are there as rtswapd was "
                "told to wait for (--wait-for); rtswap top shows those that are.",
                self._task.name,
            )

    def _index_from(self, instant_ns: int) -> int:
        """Of the first release that is not before that instant."""
        return max(0, -(-(instant_ns - self._start_ns) // self._period_ns))
