"""What belongs to a task, how it changes, and how it ends."""

from __future__ import annotations

import pytest
import torch
from models import cnn, recurrent, same_state, transformer, twin
from torch import nn

import rtswap
from rtswap.arena import Arena

pytestmark = pytest.mark.usefixtures("arbiter")


def test_several_modules_are_one_task():
    a, x = transformer()
    b, tokens = recurrent()
    plain_a, plain_b = twin(a), twin(b)
    task = rtswap.register([a, b], name="pair", kinds={"*": "mutable"})
    with task.job():
        assert torch.equal(a(x), plain_a(x))
        assert torch.equal(b(tokens), plain_b(tokens))


def test_shared_memory_two_release_patterns():
    model, x = transformer()
    plain = twin(model)
    fast = rtswap.register(model, name="fast", period_ms=1000, wcet_ms=10)
    slow = fast.share(name="slow", period_ms=4000)
    with slow.job():
        assert torch.equal(model(x), plain(x))
    fast.close()
    assert not slow.closed
    with slow.job():
        assert torch.equal(model(x), plain(x))
    assert torch.equal(model(x), plain(x))  # a job of the one that is left
    assert slow.stats().released == 3
    with pytest.raises(RuntimeError, match="task 'slow'"):
        model.head.weight.sum()
    slow.close()
    assert torch.equal(model(x), plain(x))


def test_swappable_tensors_and_modules_keep_what_jobs_write():
    model, x = recurrent()
    task = rtswap.register(model)
    cache = torch.zeros(1000)
    adapter = nn.Linear(32, 32)
    plain = twin(adapter)
    rtswap.swappable(cache, task=task)
    rtswap.swappable(adapter, "read_only", task=model)
    with pytest.raises(rtswap.InvalidArgument, match="belongs to task"):
        rtswap.swappable(cache, task=task)
    other, y = cnn()
    other_task = rtswap.register(other)
    for count in range(3):
        with task.job():
            model(x)
            cache += 1
            assert torch.equal(adapter(torch.ones(32)), plain(torch.ones(32)))
        with pytest.raises(RuntimeError, match="recurrent"):
            cache.sum()
        with other_task.job():
            other(y)
        with rtswap.resident(task):
            assert cache.eq(count + 1).all()
    task.close()
    assert cache.eq(3).all()
    assert torch.equal(adapter(torch.ones(32)), plain(torch.ones(32)))


def test_pause_resume_and_new_periods():
    model, _ = cnn()
    task = rtswap.register(model, period_ms=1000, wcet_ms=20)
    task.pause()
    assert task.state == "paused"
    with pytest.raises(rtswap.JobDropped, match=r"paused.*resume"), task.job(timeout=1):
        pytest.fail("entered")
    task.resume()
    assert task.state == "admitted"
    task.set_period(500)
    assert task.period_ms == 500
    with pytest.raises(rtswap.AdmissionRefused):
        task.set_period(15)
    assert task.period_ms == 500
    assert task.promise.state == "admitted"
    assert not task.promise.reason
    with task.job():
        pass


def test_disable_gives_every_model_its_memory_back():
    model, x = cnn()
    plain = twin(model)
    task = rtswap.register(model)
    assert torch.equal(model(x), plain(x))  # changes the buffers of both
    rtswap.disable()
    assert task.closed
    assert same_state(model, plain)
    assert torch.equal(model(x), plain(x))
    rtswap.disable()


def test_closing_needs_no_grant():
    model, x = cnn()
    plain = twin(model)
    other, _ = recurrent()
    task, other_task = rtswap.register(model), rtswap.register(other)
    assert torch.equal(model(x), plain(x))  # changes the buffers of both
    task.pause()
    with other_task.job():  # holds the device
        task.close()
    assert same_state(model, plain)


def test_memory_that_may_not_grow_is_as_it_was(arbiter):
    model, x = cnn()
    plain = twin(model)
    task = rtswap.register(model)
    before = task.stats()
    large = torch.zeros(arbiter.budget_bytes, dtype=torch.uint8)
    for _ in range(2):
        with pytest.raises(rtswap.ModelTooLarge):
            rtswap.swappable(large, task=task)
        with pytest.raises(rtswap.ModelTooLarge):
            rtswap.region(task, arbiter.budget_bytes)
    assert (task.stats().arena_bytes, task.stats().host_bytes) == (
        before.arena_bytes,
        before.host_bytes,
    )
    assert not large.any()
    small = torch.ones(8)
    rtswap.swappable(small, task=task)
    with task.job():
        assert torch.equal(model(x), plain(x))
        assert small.all()


def test_a_registration_that_fails_at_its_end_gives_the_model_back(arbiter, monkeypatch):
    model, x = cnn()
    plain = twin(model)

    class Broken:
        def __init__(self, task: rtswap.Task, module: nn.Module) -> None:
            raise OSError("no hooks today")

    with monkeypatch.context() as broken:
        broken.setattr("rtswap.tasks.RootHooks", Broken)
        with pytest.raises(OSError, match="no hooks today"):
            rtswap.register(model, name="model")
    assert same_state(model, plain)
    task = rtswap.register(model, name="model")
    with task.job():
        assert torch.equal(model(x), plain(x))


def test_memory_that_cannot_be_saved_is_given_back_to_the_bank(arbiter, monkeypatch):
    task = rtswap.register(recurrent()[0], name="model", resident=True)
    with task.job():
        pass
    assert rtswap.stats().devices[0].free_chunks < rtswap.stats().devices[0].chunk_count

    def fail(arena: Arena) -> None:
        raise rtswap.DriverError("the copy failed")

    monkeypatch.setattr(Arena, "save", fail)
    with pytest.raises(rtswap.DriverError, match="the copy failed"):
        task.close()
    assert rtswap.stats().devices[0].free_chunks == rtswap.stats().devices[0].chunk_count
