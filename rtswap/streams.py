"""The streams that a job queues work on: its end waits for all of them.

Memory that is taken away is ordered with no stream, so a job has ended when its work has. The
streams that are current when a job begins and ends can be asked for. What it makes current in
between, with ``torch.cuda.stream()``, ``torch.cuda.set_stream()`` or ``with stream:``, is noted
where it does so. Streams of other threads and libraries have to be joined by the job's body, as
torch asks for anyway before their results are used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import torch

from rtswap import _core

Streams = set[tuple[int, int]]
"""Which of a task's devices, by its index, and a stream there, as the driver knows it."""


def note_current(noted: Streams, cuda_devices: Iterable[tuple[int, int]]) -> None:
    """Where this thread queues work now. ``cuda_devices``: index among the task's devices, and
    torch's. Simulated devices compute in the calling thread."""
    for place, index in cuda_devices:
        noted.add((place, torch._C._cuda_getCurrentRawStream(index)))


def note_when_current(note: Callable[[torch.cuda.Stream], None]) -> None:
    """From now on ``note(stream)`` is called when a thread makes a stream of torch current, in that
    thread; once for the process. Not for an ``ExternalStream``, whose owner may destroy it."""
    cuda: Any = torch.cuda
    set_stream, enter = cuda.set_stream, cuda.Stream.__enter__
    if getattr(set_stream, "_rtswap_notes", False):
        return

    def look(stream: Any) -> None:
        if stream is not None and not isinstance(stream, cuda.ExternalStream):
            note(stream)

    def set_noted_stream(stream: Any) -> None:
        look(stream)
        set_stream(stream)

    def enter_noted(stream: Any) -> Any:
        look(stream)
        return enter(stream)

    set_noted_stream._rtswap_notes = True  # type: ignore[attr-defined]
    cuda.set_stream = set_noted_stream
    cuda.Stream.__enter__ = enter_noted


async def completed(work: _core.QueuedWork) -> None:
    """Until it has. Polls: the event loop goes on."""
    while not work.completed():
        await asyncio.sleep(0.0005)
