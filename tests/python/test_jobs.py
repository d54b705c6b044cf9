"""Jobs on models that do not fit together: bytes, counters, errors, threads, asyncio."""

from __future__ import annotations

import asyncio
import copy
import io
import threading
import time

import pytest
import torch
from models import ALL, cnn, recurrent, same_state, transformer, twin
from torch import nn

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
    with pytest.raises(rtswap.JobDropped), task.job(stamp_ns=time.monotonic_ns() - 10**9):
        pytest.fail("ran")
    assert task.stats().dropped == 1
    with task.job():  # the next is served
        pass


def test_closed_storages_outside_jobs_and_nothing_lost():
    model, x = cnn()
    model.eval()
    plain = twin(model)
    task = rtswap.register(model, name="eyes")
    view = model.layers[0].weight.detach()[0]
    for _ in range(2):
        for access in (
            lambda: model.layers[0](x),
            lambda: model.layers[0].weight.sum(),
            lambda: view.clone(),
            lambda: copy.deepcopy(model),
            lambda: torch.save(model.state_dict(), io.BytesIO()),
            lambda: model.load_state_dict(plain.state_dict()),
            lambda: model.double(),
            lambda: print(model.layers[1].running_mean),
        ):
            with pytest.raises(RuntimeError, match=r"task 'eyes'.*resident"):
                access()
        with task.job():
            assert torch.equal(model(x), plain(x))
            assert torch.equal(view, plain.layers[0].weight[0])


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


def test_an_exception_gives_the_grant_back():
    model, x = cnn()
    task = rtswap.register(model)
    with pytest.raises(ZeroDivisionError), task.job():
        _ = 1 / 0
    assert rtswap.current_job() is None
    with task.job(timeout=5):
        model(x)


def test_a_wait_ends_at_its_time_limit():
    a, _ = cnn()
    b, _ = transformer()
    task_a, task_b = rtswap.register(a), rtswap.register(b)
    holding, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with task_a.job():
            holding.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(30)
    try:
        with pytest.raises(TimeoutError), task_b.job(timeout=0.05):
            pytest.fail("entered")
        with pytest.raises(rtswap.Timeout), task_b.job(timeout=0):
            pytest.fail("entered")
    finally:
        leave.set()
        thread.join()
    with task_b.job(timeout=30):
        pass
    assert task_b.stats().failed == 2


def test_threads_take_turns_and_stay_exact():
    made = [make() for make in ALL]
    plain = [twin(model.eval()) for model, _ in made]
    tasks = [rtswap.register(model) for model, _ in made]
    wrong: list[str] = []

    def work(index: int) -> None:
        model, x = made[index]
        with torch.no_grad():
            expected = plain[index](x)
            for _ in range(10):
                with tasks[index].job():
                    if not torch.equal(model(x), expected):
                        wrong.append(tasks[index].name)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(made))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert [task.stats().released for task in tasks] == [10, 10, 10]


def test_asyncio_waits_without_a_thread():
    a, x = cnn()
    b, tokens = transformer()
    a.eval()
    plain_a, plain_b = twin(a), twin(b)
    task_a, task_b = rtswap.register(a), rtswap.register(b)

    async def serve(task, model, data, expected):
        for _ in range(5):
            async with task.job():
                assert torch.equal(model(data), expected)
                await asyncio.sleep(0)

    async def both() -> None:
        threads = threading.active_count()
        await asyncio.gather(
            serve(task_a, a, x, plain_a(x)), serve(task_b, b, tokens, plain_b(tokens))
        )
        assert threading.active_count() == threads

    asyncio.run(both())


def test_asyncio_time_limit_and_cancellation():
    a, _ = cnn()
    b, _ = transformer()
    task_a, task_b = rtswap.register(a), rtswap.register(b)

    async def main() -> None:
        async with task_a.job():
            await asyncio.sleep(0)

            async def other(timeout: float | None) -> None:
                async with task_b.job(timeout=timeout):
                    pytest.fail("entered")

            loop = asyncio.get_running_loop()
            context = __import__("contextvars").Context()
            with pytest.raises(TimeoutError):
                await loop.create_task(other(0.05), **_context(context))
            waiting = loop.create_task(other(None), **_context(context))
            await asyncio.sleep(0.02)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with task_b.job(timeout=30):
            pass

    if _context(None) is None:
        pytest.skip("create_task takes a context from Python 3.11 on")
    asyncio.run(main())


def _context(context):
    import sys

    return {"context": context} if sys.version_info >= (3, 11) else None


def test_the_clock_never_drifts_and_never_catches_up():
    model, _ = cnn()
    task = rtswap.register(model, period_ms=40, wcet_ms=1, on_refusal="best_effort", late="run")
    clock = task.jobs()
    releases = []
    for job in clock:
        releases.append(job.release_ns)
        with job:
            if len(releases) == 2:
                time.sleep(0.1)
        if len(releases) == 5:
            break
    period = 40_000_000
    assert all((release - releases[0]) % period == 0 for release in releases)
    assert releases == sorted(set(releases))
    assert clock.skipped >= 2
    assert task.stats().skipped == clock.skipped


def test_the_clock_ends_when_its_task_is_closed():
    model, _ = cnn()
    task = rtswap.register(model, period_ms=50, wcet_ms=1, on_refusal="best_effort")
    count = 0
    for job in task.jobs():
        count += 1
        assert job.release_ns
        if count == 2:
            task.close()
    assert count == 2


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


def test_resident_reads_saves_loads_and_copies():
    model, x = transformer()
    other, _ = transformer()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    task = rtswap.register(model)
    filler, y = recurrent()
    filler_task = rtswap.register(filler)
    with rtswap.resident(model):
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        duplicate = copy.deepcopy(model)
        model.load_state_dict(other.state_dict())
    with filler_task.job():
        filler(y)
    with task.job():
        assert torch.equal(model(x), other(x))
    with pytest.raises(rtswap.NotRegistered, match="copy"):
        duplicate(x)
    rtswap.forget(duplicate)
    file.seek(0)
    assert same_state_dict(duplicate.state_dict(), torch.load(file))


def same_state_dict(a, b) -> bool:
    return all(torch.equal(a[key], b[key]) for key in b)


def test_a_copy_can_be_registered_itself():
    model, x = transformer()
    plain = twin(model)
    rtswap.register(model, name="first")
    with rtswap.resident(model):
        duplicate = copy.deepcopy(model)
    task = rtswap.register(duplicate, name="second")
    with task.job():
        assert torch.equal(duplicate(x), plain(x))


def test_escaped_tensors_are_named_at_the_next_job():
    model, x = cnn()
    task = rtswap.register(model, name="eyes")
    with task.job():
        model.layers[0].half()
    with pytest.raises(rtswap.EscapedTensor, match=r"layers\.0\.weight"), task.job():
        pytest.fail("entered")
    task.close()
    model.float()(x)


def test_pause_resume_and_new_periods():
    model, _ = cnn()
    task = rtswap.register(model, period_ms=1000, wcet_ms=20)
    task.pause()
    assert task.state == "paused"
    with pytest.raises(rtswap.Error), task.job(timeout=1):
        pytest.fail("entered")
    task.resume()
    assert task.state == "admitted"
    task.set_period(500)
    assert task.period_ms == 500
    with pytest.raises(rtswap.AdmissionRefused):
        task.set_period(15)
    assert task.period_ms == 500
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
