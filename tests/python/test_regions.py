"""Scratch regions in which something outlives its job.

Tensors of the simulated device lie in ordinary memory. What is alive in a region is told here by
the test, which writes into the region itself.
"""

from __future__ import annotations

import ctypes

import pytest
from eviction import Rival
from torch import nn

import rtswap
from rtswap import _core

BLOCK_BYTES = 4096


class Scene:
    """A task with a scratch region, and one block in it that may be alive."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.task = rtswap.register(nn.BatchNorm1d(8))
        self.region = rtswap.region(self.task, "6MiB")
        self.rival = Rival()
        self.alive = False
        self.address = self.region._segment.address + self.region.bytes // 2 + 512
        monkeypatch.setattr(
            self.region,
            "_live_blocks",
            lambda: [(self.address, BLOCK_BYTES)] if self.alive else [],
        )

    def read(self) -> bytes:
        """REQUIRES: in a job."""
        return ctypes.string_at(self.address, BLOCK_BYTES)

    def write(self, byte: int) -> None:
        """REQUIRES: in a job."""
        ctypes.memset(self.address, byte, BLOCK_BYTES)

    def written_back_bytes(self) -> int:
        before = self.task.stats().written_back_bytes
        self.rival.evict(self.task)
        return self.task.stats().written_back_bytes - before


@pytest.fixture
def scene(arbiter, monkeypatch) -> Scene:
    return Scene(monkeypatch)


def test_regions_may_be_left_in_any_order(arbiter):
    task = rtswap.register(nn.BatchNorm1d(8))
    first, second = rtswap.region(task, "2MiB"), rtswap.region(task, "2MiB")
    for left_first, left_last in ((first, second), (second, first)):
        with task.job():
            first.__enter__()
            second.__enter__()
            left_first.__exit__(None, None, None)
            left_last.__exit__(None, None, None)
    with task.job(), pytest.raises(rtswap.errors.Internal, match="has not entered it"):
        first.__exit__(None, None, None)


def test_what_is_alive_at_the_end_of_a_job_is_there_in_the_next_one(scene, caplog):
    with scene.task.job():
        scene.write(7)
    free_bytes = scene.written_back_bytes()
    with scene.task.job():
        scene.write(1)
        scene.alive = True
    assert scene.region.kept_bytes == BLOCK_BYTES
    for byte in range(2, 5):
        chunk_bytes = scene.task.stats().kept_scratch_bytes
        assert 0 < chunk_bytes < scene.region.bytes
        assert scene.written_back_bytes() == free_bytes + chunk_bytes
        with scene.task.job():
            assert scene.read() == bytes([byte - 1]) * BLOCK_BYTES
            scene.write(byte)
    assert caplog.text.count("keep their contents") == 1

    scene.alive = False
    with scene.task.job():
        pass
    assert scene.region.kept_bytes == scene.task.stats().kept_scratch_bytes == 0
    assert scene.written_back_bytes() == free_bytes
    assert caplog.text.count("scratch region") == 1


def test_a_task_that_waits_for_the_memory_takes_nothing_that_is_alive(scene):
    with scene.task.job():
        waiting = scene.rival.task._native_open().release(0, False, True)
        scene.write(5)
        scene.alive = True
    assert waiting.wait(-1)
    waiting.end(set())
    waiting.let_go()
    assert scene.task.stats().resident_bytes == 0
    with scene.task.job():
        assert scene.read() == bytes([5]) * BLOCK_BYTES


def test_a_job_that_raises_loses_nothing(scene):
    def fail() -> None:
        with scene.task.job():
            scene.write(3)
            scene.alive = True
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    scene.rival.evict(scene.task)
    with scene.task.job():
        assert scene.read() == bytes([3]) * BLOCK_BYTES


@pytest.mark.parametrize(
    "error", [rtswap.Error("no memory"), KeyError("no memory")], ids=["rtswap", "torch"]
)
@pytest.mark.parametrize("step", ["_live_blocks", "_arena.keep_scratch"])
def test_a_region_that_cannot_be_kept_costs_no_job(step, error, scene, monkeypatch, caplog):
    def refuse(*_: object) -> None:
        raise error

    owner: object = scene.region
    *path, name = step.split(".")
    for part in path:
        owner = getattr(owner, part)
    monkeypatch.setattr(owner, name, refuse)
    scene.alive = True
    for _ in range(2):
        with scene.task.job() as job:
            pass
        assert job.ended
        scene.rival.evict(scene.task)
    assert caplog.text.count("no memory") == 1
    assert scene.region.kept_bytes == scene.task.stats().kept_scratch_bytes == 0


def test_a_mutable_region_is_not_looked_at(arbiter, monkeypatch):
    task = rtswap.register(nn.BatchNorm1d(8))
    region = rtswap.region(task, "1MiB", kind="mutable")
    monkeypatch.setattr(region, "_live_blocks", lambda: pytest.fail("looked at"))
    with task.job() as job:
        pass
    assert job.ended
    assert region.kept_bytes == 0


def test_nothing_comes_to_lie_where_torch_still_names_segments(arbiter):
    torchs = ctypes.CDLL(_core.library_path()).rtswap_region_alloc
    torchs.restype = ctypes.c_void_p
    torchs.argtypes = ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p
    held: set[int] = set()
    for _ in range(5):
        task = rtswap.register(nn.BatchNorm1d(8))
        region = rtswap.region(task, "4MiB")
        with task.job(), region:
            address = torchs(2 << 20, 0, None)
        assert address is not None
        assert address not in held, "of a segment that was never given back"
        held.add(address)
        task.close()
