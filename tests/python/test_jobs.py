"""Jobs on models that do not fit together: bytes, counters, stamps, nesting, exceptions."""

from __future__ import annotations

import time

import pytest
import torch
from models import ALL, cnn, same_state, transformer, twin

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")


def test_three_models_at_twice_the_budget_are_bit_exact_over_50_cycles(arbiter):
    made = [make() for make in ALL]
    plain = [twin(model) for model, _ in made]
    tasks = [rtswap.register(model, name=f"m{i}") for i, (model, _) in enumerate(made)]
    needed = sum(task.stats().arena_bytes for task in tasks)
    assert needed > 1.3 * arbiter.budget_bytes
    with torch.no_grad():
        for _ in range(50):
            for (model, x), other, task in zip(made, plain, tasks, strict=True):
                with task.job():
                    y = model(x)
                assert torch.equal(y, other(x))
    assert all(task.stats().evicted_bytes > 0 for task in tasks)
    for (model, _), other, task in zip(made, plain, tasks, strict=True):
        task.close()
        assert same_state(model, other)


def test_a_job_tells_what_happened():
    model, x = cnn()
    task = rtswap.register(model, period_ms=2000, deadline_ms=1500, wcet_ms=20)
    assert task.name == "cnn"
    assert task.state == "admitted"
    assert task.promise.response_bound_ms
    for index, job in zip(range(2), task.jobs(), strict=False):
        assert job.met is None
        for fact in ("index", "deadline_ns", "waited_ms", "restored_bytes", "response_ms"):
            with pytest.raises(rtswap.InvalidArgument, match="not known yet"):
                getattr(job, fact)
        with job:
            model(x)
            assert rtswap.current_job() is job
        assert job.index == index
        assert job.met
        assert job.deadline_ns - job.release_ns == 1_500_000_000
        assert job.response_ms >= job.execution_ms > 0
        assert job.waited_ms >= 0
    assert rtswap.current_job() is None
    stats = task.stats()
    assert (stats.released, stats.met, stats.missed, stats.dropped) == (2, 2, 0, 0)
    assert stats.response_min_ms <= stats.response_median_ms <= stats.response_max_ms
    assert [t.name.split("@")[0] for t in rtswap.stats().tasks] == ["cnn"]


def test_what_is_there_is_not_restored_again():
    model, x = cnn()
    task = rtswap.register(model)
    with task.job():
        model(x)
    restored = task.stats().restored_bytes
    assert restored > 0
    with task.job() as second:
        model(x)
    assert second.restored_bytes == 0
    assert task.stats().restored_bytes == restored


def test_measured_costs_leave_no_trace_in_the_model():
    model, x = cnn()
    plain = twin(model)
    before = torch.random.get_rng_state()
    task = rtswap.register(model, period_ms=5000, example_inputs=(x,))
    assert torch.equal(before, torch.random.get_rng_state())
    promise = task.promise
    assert promise.state == "admitted"
    assert promise.wcet_ms == pytest.approx(promise.measured_ms * promise.margin, rel=1e-3)
    with task.job():
        assert same_state(model, plain)


def test_a_promise_names_the_measurement_that_its_cost_rests_on():
    model, x = cnn()
    task = rtswap.register(model, name="a", period_ms=50_000, example_inputs=(x,))
    measured = task.promise
    assert measured.measured_ms is not None
    shared = task.share(name="b", period_ms=50_000)
    assert (shared.promise.measured_ms, shared.promise.margin) == (
        measured.measured_ms,
        measured.margin,
    )
    task.set_period(60_000)
    assert task.promise.measured_ms == measured.measured_ms
    task.set_period(60_000, wcet_ms=900)
    assert (task.promise.wcet_ms, task.promise.measured_ms) == (900, None)
    assert task.promise.margin == 1
    assert shared.promise.measured_ms == measured.measured_ms


def test_stamps_of_either_clock_set_the_release():
    model, _ = cnn()
    task = rtswap.register(model)
    for now_ns in (time.monotonic_ns(), time.time_ns()):
        expected = time.monotonic_ns() - 5_000_000
        job = task.job(stamp_ns=now_ns - 5_000_000)
        assert abs(job.release_ns - expected) < 1_000_000_000
        with job:
            pass
    for stamp in (time.monotonic_ns() + 10**9, time.time_ns() + 10**9):
        with pytest.raises(rtswap.InvalidArgument, match="future"):
            task.job(stamp_ns=stamp)
    for stamp in (-1, 0, 1.5, True):
        with pytest.raises(rtswap.InvalidArgument):
            task.job(stamp_ns=stamp)


def test_a_stamp_too_old_to_meet_its_deadline_is_dropped():
    model, _ = cnn()
    task = rtswap.register(model, period_ms=500, wcet_ms=20)
    stamp_ns = time.monotonic_ns() - 10**9  # or one in seconds, or of a recording
    told = r"asked for 1\d\d\d\.\d ms after its release.*Stamps are nanoseconds"
    with pytest.raises(rtswap.JobDropped, match=told), task.job(stamp_ns=stamp_ns):
        pytest.fail("ran")
    assert task.stats().dropped == 1
    with task.job():  # the next is served
        pass


def test_a_call_outside_a_job_is_a_job():
    model, x = transformer()
    plain = twin(model)
    task = rtswap.register(model)
    assert torch.equal(model(x), plain(x))
    assert task.stats().released == 1
    with pytest.raises(IndexError):
        model(torch.full((1, 3), 10**6))
    assert task.stats().released == 2
    assert torch.equal(model(x), plain(x))


def test_nested_jobs_are_refused_at_once():
    a, x = cnn()
    b, tokens = transformer()
    task_a, task_b = rtswap.register(a), rtswap.register(b)
    with task_a.job():
        with pytest.raises(rtswap.NestedJob, match="tiedtransformer"), task_b.job():
            pytest.fail("entered")
        with pytest.raises(rtswap.NestedJob):
            b(tokens)
        with pytest.raises(rtswap.NestedJob), rtswap.resident(b):
            pytest.fail("entered")
        with rtswap.resident(a):  # already held
            a(x)
    with task_b.job():
        b(tokens)


@pytest.mark.parametrize("place", ["a job", r"rtswap\.resident\(\)"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_job_inside_a_block_of_its_own_model_is_told_to_do_without(place, shared):
    model, x = cnn()
    plain = twin(model)
    task = rtswap.register(model, name="outer")
    inner = task.share(name="inner") if shared else task
    whose = "task 'outer'" if shared else "the same task"
    outer = task.job() if place == "a job" else rtswap.resident(model)
    told = f"'{inner.name}' was entered inside {place} of {whose}.*without a job of its own"
    with outer:
        with pytest.raises(rtswap.NestedJob, match=told) as caught, inner.job():
            pytest.fail("entered")
        assert "as one task" not in str(caught.value)
        assert torch.equal(model(x), plain(x))  # as it was told
    with inner.job():
        assert torch.equal(model(x), plain(x))


def test_an_exception_gives_the_grant_back():
    model, x = cnn()
    task = rtswap.register(model)
    with pytest.raises(ZeroDivisionError), task.job():
        _ = 1 / 0
    assert rtswap.current_job() is None
    with task.job(timeout=5):
        model(x)
