"""Jobs whose memory arrives when the test says: the native job of one that has all its memory, with
a part of it poisoned until then."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

import rtswap
from rtswap import jobs, measure
from rtswap.jobs import Job

PATIENCE_S = 30.0
"""Only a failing test waits so long."""


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process compile models, after which jobs begin with all their memory."""
    monkeypatch.setattr(jobs, "operators_may_be_bypassed", lambda: False)
    monkeypatch.setattr(measure, "operators_may_be_bypassed", lambda: False)


class Arrivals:
    """For the jobs of one task from here on that may begin on a prefix: they begin with
    ``at_start`` chunks. REQUIRES: a model without buffers."""

    def __init__(
        self, task: rtswap.Task, model: nn.Module, patch: pytest.MonkeyPatch, at_start: int = 1
    ) -> None:
        self.waited_for: list[int] = []
        """Chunks that were asked for, in order."""
        self.error: Exception | None = None
        """Raised instead of letting anything more arrive."""
        self._task = task
        self._at_start = at_start
        self._arrives_by_itself = False
        self._landed = 0
        self._changed = threading.Condition()
        self._weights = self._find(model)
        task._layered = True
        request = Job._request

        def request_arriving(job: Job, *, whole: bool) -> Any:
            native = request(job, whole=True)
            if whole or job.task is not task:
                return native
            self._begin(native)
            job._native = _ArrivingJob(native, self)  # type: ignore[assignment]
            return job._native

        patch.setattr(Job, "_request", request_arriving)

    def arrive(self, chunks: int) -> None:
        """As many are there, from any thread."""
        with self._changed:
            for weight in self._weights:
                if weight.chunks <= chunks:
                    weight.restore()
            self._landed = max(self._landed, chunks)
            self._changed.notify_all()

    @contextmanager
    def as_used(self) -> Iterator[None]:
        """Inside, each part arrives as soon as somebody waits for it."""
        self._arrives_by_itself = True
        yield
        self._arrives_by_itself = False

    def _find(self, model: nn.Module) -> list[_Weight]:
        with rtswap.resident(model):
            storages = {p.untyped_storage().data_ptr(): p for p in model.parameters()}
            base = min(storages)
            chunk = rtswap.info().chunk_bytes
            return [
                _Weight(address, size, (address - base + size - 1) // chunk + 1)
                for address, size in (
                    (address, p.untyped_storage().nbytes()) for address, p in storages.items()
                )
            ]

    def _begin(self, native: Any) -> None:
        self._landed = self._at_start

    def take_away(self) -> None:
        for weight in self._weights:
            if weight.chunks > self._at_start:
                weight.poison()

    def wait_for(self, chunks: int) -> int:
        self.waited_for.append(chunks)
        if self._arrives_by_itself:
            self.arrive(chunks)
        with self._changed:
            came = self._changed.wait_for(
                lambda: self.error is not None or self._landed >= chunks, PATIENCE_S
            )
            assert came, f"chunk {chunks} was waited for and never arrived"
            if self.error is not None:
                raise self.error
            return self._landed

    def fail(self, error: Exception) -> None:
        with self._changed:
            self.error = error
            self._changed.notify_all()

    @property
    def total(self) -> int:
        return max(weight.chunks for weight in self._weights)

    @property
    def landed(self) -> int:
        return self._landed


class _Weight:
    def __init__(self, address: int, size: int, chunks: int) -> None:
        self.chunks = chunks
        self._address = address
        self._size = size
        self._bytes: bytes | None = None

    def poison(self) -> None:
        self._bytes = ctypes.string_at(self._address, self._size)
        ctypes.memset(self._address, 0xFF, self._size)

    def restore(self) -> None:
        if self._bytes is not None:
            ctypes.memmove(self._address, self._bytes, self._size)
            self._bytes = None


class _ArrivingJob:
    def __init__(self, native: Any, arrivals: Arrivals) -> None:
        self._native = native
        self._arrivals = arrivals
        self._started = False

    def wait(self, limit_ns: int) -> bool:
        if not self._native.wait(limit_ns):
            return False
        self._arrivals.take_away()
        self._started = True
        return True

    def wait_for_chunks(self, chunks: int) -> int:
        return self._arrivals.wait_for(chunks)

    def chunks(self) -> tuple[int, int]:
        first, total = self._native.chunks()
        return (self._arrivals._at_start if self._started else first), total

    def info(self) -> Any:
        info = self._native.info()
        facts = {name: getattr(info, name) for name in dir(info) if not name.startswith("_")}
        if self._started:
            facts["first_chunks"] = self._arrivals._at_start
        return SimpleNamespace(**facts)

    def outcome(self) -> tuple[Any, ...]:
        info = self.info()
        on_prefix = info.first_chunks < info.arena_chunks
        return info.release_ns, info.ended_ns, info.deadline_ns, on_prefix, info.chunks_waited_ns

    def let_go(self) -> None:
        self._native.let_go()

    def end(self, streams: set[tuple[int, int]]) -> None:
        self._arrivals.arrive(2**32 - 1)
        self._native.end(streams)

    def cancel(self) -> None:
        self._native.cancel()
