"""Models that are restored while others run, before they take the device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from models import twin
from torch import nn

import rtswap


@pytest.fixture
def slow_link() -> Iterator[None]:
    """Six chunks; restoring one takes longer than half of the camera's period."""
    rtswap.enable(simulate="12MiB", link_bandwidth="60MB", verify=True, name="staged")
    yield
    rtswap.disable()


@pytest.mark.usefixtures("slow_link")
def test_large_models_are_staged_beside_a_short_deadline():
    camera = rtswap.register(
        nn.Linear(16, 16), name="camera", period_ms=60, wcet_ms=5, resident=True, late="run"
    )
    assert (camera.promise.mode, camera.promise.lead_ms) == ("direct", None)
    large = [nn.Linear(1400, 1400) for _ in range(2)]
    plain = [twin(model) for model in large]
    tasks = [
        rtswap.register(model, name=f"large{i}", period_ms=20_000, wcet_ms=5)
        for i, model in enumerate(large)
    ]
    assert camera.promise.mode == "direct"
    for task in tasks:
        assert task.promise.state == "admitted"
        assert task.promise.mode == "staged"
        assert task.promise.lead_ms is not None
        assert task.promise.block_ms is not None
        assert task.promise.lead_ms > 60 > task.promise.block_ms
    x = torch.ones(1, 1400)
    for model, same, task in zip(large, plain, tasks, strict=True):
        with camera.job():
            pass
        with task.job():
            assert torch.equal(model(x), same(x))
    assert all(task.stats().restored_bytes > 0 for task in tasks)
