"""What a job is said to cost: measured as jobs run, on a host that idles between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import rtswap
from rtswap import measure

CHUNKS = 4

pytestmark = pytest.mark.usefixtures("nothing_compiled")


class Layers(nn.Module):
    """A chunk each."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(512, 1024, bias=False) for _ in range(CHUNKS))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)[..., :512]
        return x


@pytest.fixture
def enabled() -> Iterator[None]:
    rtswap.enable(simulate="16MiB", name="measure")
    yield
    rtswap.disable()


def sleeping(monkeypatch: pytest.MonkeyPatch, wait_s: float) -> list[float]:
    """The pauses asked for; those for memory last so long."""
    asked: list[float] = []

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        time.sleep(wait_s if seconds == measure.WAIT_S else 0)

    fake = SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
    monkeypatch.setattr(measure, "time", fake)
    return asked


@pytest.mark.usefixtures("enabled")
def test_jobs_that_are_measured_come_after_a_pause_as_releases_do(monkeypatch):
    asked = sleeping(monkeypatch, 0)
    task = rtswap.register(Layers(), period_ms=60_000, example_inputs=(torch.ones(1, 512),))
    least = measure.FEWEST_JOBS + measure.REHEARSED_JOBS
    assert asked.count(measure.IDLE_S) >= least
    assert asked.count(measure.WAIT_S) == CHUNKS * measure.REHEARSED_JOBS
    assert task.promise.begins_on_prefix


@pytest.mark.usefixtures("enabled")
def test_waits_for_memory_are_not_execution(monkeypatch):
    wait_s = 1.0  # all of them: far longer than four small layers take on a busy machine
    sleeping(monkeypatch, wait_s)
    monkeypatch.setattr(measure, "REHEARSED_JOBS", 1)
    task = rtswap.register(Layers(), period_ms=60_000, example_inputs=(torch.ones(1, 512),))
    measured_ms = task.promise.measured_ms
    assert measured_ms is not None
    assert measured_ms < CHUNKS * wait_s * 1e3
    assert sum(ns for _, ns in task._native.verdict()["layers"]) == pytest.approx(
        task.promise.wcet_ms * 1e6
    )


def test_short_jobs_get_a_larger_margin():
    assert measure.margin_of(10**6) == pytest.approx(1.7)
    assert measure.margin_of(10**9) == pytest.approx(1.2005)


def test_a_measurement_that_fails_leaves_no_trace(enabled):
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 2:
                raise ValueError("enough")
            return x

    model = Counting()
    with pytest.raises(ValueError, match="enough"):
        rtswap.register(model, name="model", example_inputs=(torch.ones(1),))
    assert model.calls == 0
