"""Calls of modules that are jobs of their own, and whether they still run.

torch runs the hooks of a call that returned or raised an ``Exception``. After anything else, such
as the ``KeyboardInterrupt`` of an interrupted notebook cell, it runs none, and the job of the call
would hold the device until the process ends. So the stack frame of the call is remembered: the job
ends once the frame is on no stack any more. A thread looks for that a few times a second while such
a job is open, and whoever asks for the current job looks at once.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from types import CodeType, FrameType
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from rtswap.jobs import Job

log = logging.getLogger("rtswap")

_LOOK_S = 0.2
_CALL: CodeType = nn.Module.__call__.__code__


class _Call:
    """The call of a module that is running in this thread now, the innermost one."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code is not _CALL:
            frame = frame.f_back
        self._frame = frame  # None: it is called in a way that is not known

    def running(self) -> bool:
        """Threads: any."""
        if self._frame is None:
            return True
        frame = sys._current_frames().get(self._thread)
        while frame is not None:
            if frame is self._frame:
                return True
            frame = frame.f_back
        return False


_open: dict[Job, _Call] = {}
_wake = threading.Event()
_ending = threading.RLock()
_watcher: threading.Thread | None = None


def begin(job: Job) -> None:
    """Before it is entered, in the call that it is for."""
    global _watcher
    _open[job] = _Call()
    if _watcher is None or not _watcher.is_alive():  # none yet, or this process was forked
        _watcher = threading.Thread(target=_watch, name="rtswap-calls", daemon=True)
        _watcher.start()
    if not _wake.is_set():
        _wake.set()


def end(job: Job) -> None:
    """It was left, or was not entered."""
    _open.pop(job, None)


def end_abandoned(job: Job) -> bool:
    """Whether its call is over without having ended it. It has ended, then. Threads: any."""
    if job not in _open:
        return False
    with _ending:  # whoever comes second waits until it has ended
        call = _open.get(job)
        if call is None or call.running():
            return call is None
        try:
            job._abandon()
        except Exception as error:  # in a thread, or in somebody else's question
            log.error("%r was interrupted and could not be ended: %s", job, error)
        _open.pop(job, None)
    return True


def _watch() -> None:
    while _wake.wait():
        time.sleep(_LOOK_S)
        _wake.clear()
        _end_all_abandoned()
        if _open:
            _wake.set()


def _end_all_abandoned() -> None:
    """Apart from the loop, whose frame would keep the last job, and its task, until the next."""
    for job in list(_open):
        end_abandoned(job)


def _after_fork() -> None:
    """The child has neither the calls nor the threads of its parent."""
    global _ending
    _open.clear()
    _ending = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
