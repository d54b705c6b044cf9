"""Memory of a job that began while the rest of it was still on the way.

The storages that have not arrived stay closed. The first operator of torch that uses one of them
waits for it and opens it; nothing has to be known about the model, the order of its layers, or how
it is called.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rtswap import _core

if TYPE_CHECKING:
    from rtswap.memory import Memory

_arriving: set[Prefix] = set()
"""Of all running jobs of the process."""


class Prefix:
    """What has arrived of one job's memory. Threads: any, with the GIL."""

    def __init__(self, native: _core.Job, memory: Memory, landed: int, total: int) -> None:
        self._native = native
        self._memory = memory
        self._total = total
        self._over = False
        self._lock = threading.Lock()
        self._gate = memory.gate(landed, self.wait_for)

    def enter(self) -> None:
        """From now on operators of the calling thread wait for the memory they use."""
        _arriving.add(self)
        self._gate.enter()

    def wait_for(self, chunks: int) -> int:
        """Waits until the arena's first ``chunks`` are there, opens them, and tells how many are.

        Raises what keeps them from coming: the job can only be ended then.
        """
        landed = self._native.wait_for_chunks(chunks)
        with self._lock:
            if not self._over:
                self._memory.open_up_to(landed)
        if landed >= self._total:
            self.leave()
        return landed

    def wait_for_all(self) -> None:
        self.wait_for(self._total)

    def leave(self) -> None:
        """Everything is there, or the job is over. Idempotent."""
        with self._lock:
            self._over = True
        _arriving.discard(self)
        self._gate.leave()


def wait_for_all_arriving() -> None:
    """Waits until all running jobs have all their memory."""
    for prefix in list(_arriving):
        prefix.wait_for_all()
