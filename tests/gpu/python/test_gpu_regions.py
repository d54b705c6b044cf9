"""Activations in the bank: results that outlive their jobs, and torch's allocator beside them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch
from eviction import Rival, same
from models import cnn, twin
from torch import Tensor, nn

import rtswap
from tests.gpu.python.conftest import embedded, exact_arithmetic, models_made_on_the_gpu


@dataclass
class Stage:
    """A model with a region, and its like in ordinary memory."""

    model: nn.Module
    plain: nn.Module
    x: Tensor
    task: rtswap.Task
    rival: Rival


@pytest.fixture
def stage() -> Iterator[Stage]:
    with embedded("512MiB", verify=False), exact_arithmetic(), models_made_on_the_gpu():
        model, x = cnn()
        plain = twin(model.eval())
        with torch.no_grad():
            yield Stage(model, plain, x, rtswap.register(model), Rival())


def test_results_that_leave_a_region_outlive_their_jobs(stage):
    scratch = rtswap.region(stage.task, "256MiB")
    kept = []
    for count in range(10):
        with stage.task.job():
            with scratch:
                y = stage.model(stage.x + count)
            kept.append(y.clone())
            del y
        stage.rival.evict(stage.task)
    for count, y in enumerate(kept):
        assert same(y, stage.plain(stage.x + count)), f"result {count} was overwritten"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_workspaces_of_cublas_stay_outside(dtype, stage):
    model = nn.Linear(1024, 1024, dtype=dtype).eval()
    x = torch.randn(64, 1024, dtype=dtype)
    plain = twin(model)
    task = rtswap.register(model)
    scratch = rtswap.region(task, "256MiB")
    torch.cuda.synchronize()

    def use_cublas_for_the_first_time() -> tuple[int, Tensor, Tensor]:
        with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
            with task.job():
                with scratch:
                    y = model(x)
                result = y.clone()
                del y
            left_bytes = scratch.kept_bytes
            stage.rival.evict(task)
            expected = plain(x)
            torch.cuda.synchronize()
        return left_bytes, result, expected

    with ThreadPoolExecutor(1) as thread:  # which has no workspaces yet
        left_bytes, result, expected = thread.submit(use_cublas_for_the_first_time).result()
    assert left_bytes == 0
    assert same(result, expected)


def test_a_result_in_a_scratch_region_is_kept_while_it_is_alive(stage, caplog):
    scratch = rtswap.region(stage.task, "256MiB")
    host_bytes = stage.task.stats().host_bytes
    with stage.task.job(), scratch:
        first = stage.model(stage.x)
    first_bytes = scratch.kept_bytes
    assert 0 < first_bytes <= scratch.held_bytes
    assert stage.task.stats().host_bytes == host_bytes + scratch.bytes
    for count in range(1, 6):
        stage.rival.evict(stage.task)
        with stage.task.job():
            with scratch:
                later = stage.model(stage.x + count)
            result, before = later.clone(), first.clone()
            del later
        assert scratch.kept_bytes == first_bytes
        assert same(result, stage.plain(stage.x + count))
        assert same(before, stage.plain(stage.x)), f"lost or overwritten in job {count}"
    kept = stage.task.stats()
    assert first_bytes <= kept.kept_scratch_bytes < scratch.bytes  # not all of the region
    assert caplog.text.count("keep their contents") == 1

    del first
    assert stage.task.stats().kept_scratch_bytes == kept.kept_scratch_bytes  # until a job ends
    with stage.task.job():
        pass
    assert scratch.kept_bytes == stage.task.stats().kept_scratch_bytes == 0
    before_bytes = written_back_of_one_eviction(stage)
    assert before_bytes == written_back_of_one_eviction(stage)
    with stage.task.job(), scratch:
        second = stage.model(stage.x)
    assert scratch.kept_bytes > 0
    stage.rival.evict(stage.task)
    with stage.task.job():
        result = second.clone()
    assert same(result, stage.plain(stage.x))
    assert written_back_of_one_eviction(stage) > before_bytes
    del second


def test_what_a_thread_that_has_ended_left_in_a_scratch_region_is_kept(stage):
    scratch = rtswap.region(stage.task, "256MiB")

    def compute() -> Tensor:
        with torch.no_grad(), stage.task.job(), scratch:
            return stage.model(stage.x)

    with ThreadPoolExecutor(1) as thread:
        y = thread.submit(compute).result()
    for _ in range(3):
        stage.rival.evict(stage.task)
        with stage.task.job():
            result = y.clone()
        assert scratch.kept_bytes > 0
        assert same(result, stage.plain(stage.x))
    del y
    with stage.task.job():
        pass
    assert scratch.kept_bytes == 0


def written_back_of_one_eviction(stage: Stage) -> int:
    with stage.task.job():
        pass
    before_bytes = stage.task.stats().written_back_bytes
    stage.rival.evict(stage.task)
    return stage.task.stats().written_back_bytes - before_bytes


def test_a_result_in_a_mutable_region_is_kept_while_it_is_alive(stage):
    lasting = rtswap.region(stage.task, "256MiB", kind="mutable")
    with stage.task.job(), lasting:
        first = stage.model(stage.x)
    for count in range(1, 6):
        stage.rival.evict(stage.task)
        with stage.task.job():
            with lasting:
                later = stage.model(stage.x + count)
            result, before = later.clone(), first.clone()
            del later
        assert same(result, stage.plain(stage.x + count))
        assert same(before, stage.plain(stage.x)), f"overwritten in job {count}"
    del first


def test_the_allocator_of_torch_is_its_usual_self_beside_a_region(stage):
    scratch = rtswap.region(stage.task, "256MiB")
    side = torch.cuda.Stream()
    expected = stage.plain(stage.x)
    torch.cuda.synchronize()
    gc.collect()  # models of other tests
    torch.cuda.empty_cache()
    before_bytes = torch.cuda.memory_allocated()
    for _ in range(5):
        with stage.task.job():
            with scratch:
                y = stage.model(stage.x)
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    doubled = y * 2
                y.record_stream(side)
                del y  # its memory is not reused before the side stream has read it
                again = stage.model(stage.x)
                now_bytes = torch.cuda.memory_stats()["allocated_bytes.all.current"]
                assert now_bytes > before_bytes
            torch.cuda.current_stream().wait_stream(side)
            results = doubled.clone(), again.clone()
            del doubled, again
            torch.cuda.empty_cache()
        stage.rival.evict(stage.task)
        assert same(results, (expected * 2, expected))
        del results
    assert torch.cuda.memory_allocated() == before_bytes
    assert 0 < scratch.peak_bytes <= scratch.bytes


def test_what_outlives_its_task_disturbs_no_later_region(stage):
    expected = stage.plain(stage.x)

    def compute(task: rtswap.Task, region: rtswap.Region) -> Tensor:
        with torch.no_grad(), task.job(), region:
            return task.modules[0](stage.x)

    survivors = []
    for count in range(4):
        model = twin(stage.plain)
        task = rtswap.register(model, name=f"task{count}")
        region = rtswap.region(task, "256MiB")
        with ThreadPoolExecutor(1) as thread:  # whose pool ends before the tensor
            survivors.append(thread.submit(compute, task, region).result())
        if count % 2:
            survivors.pop()
        task.close()
    torch.cuda.empty_cache()
    scratch = rtswap.region(stage.task, "256MiB")
    with stage.task.job(), scratch:
        y = stage.model(stage.x)
        del survivors[0]  # its memory is not the new region's, and goes nowhere
        torch.cuda.empty_cache()
        again = stage.model(stage.x)
        assert same(y, expected)
        assert same(again, expected)
        del y, again
