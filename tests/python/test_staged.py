"""Models that are restored while others run, before they take the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from models import twin
from torch import nn

import rtswap
from tests.support.daemon import Daemon
from tests.support.worker import Worker


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


@pytest.mark.usefixtures("slow_link")
def test_a_timing_that_needs_another_plan_comes_into_force_after_a_pause():
    camera = rtswap.register(nn.Linear(800, 800), name="camera", period_ms=20_000, wcet_ms=5)
    large = [
        rtswap.register(nn.Linear(1400, 1400), name=f"large{i}", period_ms=20_000, wcet_ms=5)
        for i in range(2)
    ]
    assert {task.promise.mode for task in large} == {"direct"}
    for task in (large[0], camera, large[1]):  # which takes the place of the camera
        with task.job():
            pass
    with pytest.raises(rtswap.AdmissionRefused, match=r"pause\(\) it, set the timing, and resume"):
        camera.set_period(60)
    assert (camera.period_ms, camera.promise.state) == (20_000, "admitted")
    camera.pause()
    camera.set_period(60)
    camera.resume()
    assert (camera.period_ms, camera.promise.state) == (60, "admitted")
    assert {task.promise.mode for task in large} == {"staged"}


@pytest.mark.skipif(
    not (Path(rtswap.__file__).parent / "bin" / "rtswapd").exists(),
    reason="built without the daemon",
)
def test_so_they_are_in_processes_of_their_own():
    # Eleven chunks: five stay, and of two models of five each one lead fits beside them.
    with Daemon("--simulate", "22MiB", "--link-bandwidth", "60MB") as daemon, ExitStack() as stack:
        workers = [stack.enter_context(Worker(OMP_NUM_THREADS="1")) for _ in range(3)]
        for worker in workers:
            worker.call("enable", socket=daemon.socket)
        camera, first, second = workers
        camera.call(
            "register",
            model="small",
            name="camera",
            period_ms=60,
            wcet_ms=5,
            resident=True,
            late="run",
        )
        for worker, name in ((first, "first"), (second, "second")):
            worker.call("register", model="small", name=name, period_ms=20_000, wcet_ms=5)
        assert camera.call("mode") == "direct"
        assert [first.call("mode"), second.call("mode")] == ["staged", "staged"]
        camera.send("jobs", count=20)
        results = [job for worker in (first, second) for job in worker.call("jobs")]
        results += camera.receive()
        assert all(job["exact"] for job in results)
        assert sum(job["restored_bytes"] for job in results) > 0
        second.kill()
        assert all(job["exact"] for job in camera.call("jobs", count=3))
