"""Waiting for a grant: time limits, threads, asyncio."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from models import ALL, cnn, transformer, twin

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")


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


def test_an_asyncio_task_may_outlive_the_job_it_was_made_in():
    a, _ = cnn()
    b, tokens = transformer()
    task_a, task_b = rtswap.register(a), rtswap.register(b)

    async def main() -> None:
        over = asyncio.Event()

        async def later() -> None:
            with pytest.raises(rtswap.NestedJob):
                task_b.job().__enter__()
            await over.wait()
            assert rtswap.current_job() is None
            async with task_b.job(timeout=30):
                b(tokens)

        async with task_a.job():
            child = asyncio.create_task(later())
            await asyncio.sleep(0)
        over.set()
        await child

    asyncio.run(main())


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
