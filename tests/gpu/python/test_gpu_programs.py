"""Whole programs on a GPU: what ends or starts processes, and what would take all others down.

No arbiter in this process: a GPU has one.
"""

from __future__ import annotations

import pytest
import torch
from test_process import FORKED, finish, program, start
from test_soak import run_with_workers
from test_weights import memory_for_loading

import rtswap

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

EMBEDDED = 'embedded=True, budget="12MiB", device=0'


def test_a_forked_child_is_refused_and_the_parent_goes_on():
    assert "child refused 4" in finish(start(program(FORKED, EMBEDDED)))


@pytest.mark.parametrize("device", [64, "cuda:64", "GPU-0"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(device):
    with pytest.raises(rtswap.UnknownDevice, match="There are: GPU-"):
        rtswap.enable(embedded=True, budget="50%", device=device)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_neither_disturb_nor_inherit(method, tmp_path):
    run_with_workers(method, tmp_path, EMBEDDED)


def test_loading_needs_the_memory_of_the_model_once(tmp_path):
    arbiter = 'embedded=True, budget="1GiB", device=0'
    size, grown = memory_for_loading(tmp_path, arbiter, layers=58, share=0.9)
    assert 0.9 * size < grown < 1.05 * size + (64 << 20)  # with a second copy: 2 * size


# Where a job does not wait for its streams, the context of CUDA is lost.
SIDE_STREAMS = """
import asyncio
import torch, rtswap
from eviction import Rival
from torch import nn

rtswap.enable(embedded=True, budget="64MiB", device=0)
torch.set_default_device("cuda:0")
torch.manual_seed(1)
model = nn.Linear(2048, 2048)
x = torch.randn(8, 2048)
with torch.no_grad():
    expected = model(x)
counter = nn.Module()
counter.register_buffer("count", torch.zeros(1 << 20))
task, counting = rtswap.register(model), rtswap.register(counter)
rival = Rival()
sides = [torch.cuda.Stream(), torch.cuda.Stream(priority=-1)]

def enter_as_context(stream):
    return stream

def busy(work, enter=torch.cuda.stream, on=sides):
    # Queued behind a long kernel, on streams that the current one does not wait for.
    results = []
    for side in on:
        side.wait_stream(torch.cuda.current_stream())
        with enter(side):
            torch.cuda._sleep(200_000_000)
            results.append(work())
    return results

def count():
    counter.count.add_(1)

def check(results):
    torch.cuda.synchronize()
    assert all(torch.equal(y, expected) for y in results)

with torch.no_grad():
    torch.cuda._sleep(1)
    for enter in (torch.cuda.stream, enter_as_context):
        with task.job():
            results = busy(lambda: model(x), enter)
        assert all(side.query() for side in sides), "a job ended before its work"
        rival.evict(task)
        check(results)
        del results

        with counting.job():
            busy(count, enter, sides[:1])
        rival.evict(counting)

    try:
        with task.job():
            results = busy(lambda: model(x))
            raise ZeroDivisionError
    except ZeroDivisionError:
        rival.evict(task)
        check(results)

    async def serve():
        async with task.job():
            made = busy(lambda: model(x))
        rival.evict(task)
        return made
    check(asyncio.run(serve()))

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # around the whole job
        for _ in range(5):
            with task.job():
                y = model(x)
            rival.evict(task)
    check([y])

    with counting.job():
        assert counter.count.eq(2).all(), counter.count  # no write was lost
print("done")
"""


def test_a_job_ends_when_its_side_streams_have_ended():
    assert "done" in finish(start(SIDE_STREAMS))
