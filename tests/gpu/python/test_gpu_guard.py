"""``enable(guard=True)`` on a GPU: graphs and pointers that reach for evicted memory read NaN.

What ends the context all the same is tried in processes of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from eviction import Rival, same
from models import ALL, twin
from test_guard import test_models_are_exact_over_50_evictions  # noqa: F401
from test_process import finish, program, start
from torch import Tensor

import rtswap
from tests.gpu.python.conftest import embedded, exact_arithmetic, models_made_on_the_gpu
from tests.gpu.python.test_gpu_graphs import Captured, convolutions, perceptron

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

GUARDED = 'embedded=True, budget="12MiB", device=0, guard=True'


@pytest.fixture
def guarded() -> Iterator[rtswap.Info]:
    """A bank of 12 MiB in chunks of 2 MiB, with write verification and the guard."""
    with (
        embedded("12MiB", guard=True) as info,
        exact_arithmetic(),
        models_made_on_the_gpu(),
    ):
        yield info


def raw(tensor: Tensor) -> Tensor:
    """The same memory by its address: no storage of a task says whether it may be read."""
    interface = {
        "shape": tuple(tensor.shape),
        "typestr": "<f4",
        "data": (tensor.data_ptr(), False),
        "version": 3,
    }
    return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=interface))


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("make", [perceptron, convolutions])
def test_a_graph_replayed_outside_a_job_gives_nan_and_the_context_lives(make):
    model, x = make()
    reference = Captured(twin(model), x)
    task = rtswap.register(model)
    with task.job():
        captured = Captured(model, x)
    rival = Rival()
    for count in range(50):
        rival.evict(task)
        assert captured(x + count).isnan().all(), f"stray replay {count}"
        torch.cuda.synchronize()  # the access has ended before the guard goes
        with task.job():
            y = captured(x + count)
        assert same(y, reference(x + count)), f"replay {count}"
    stats = task.stats()
    assert stats.repaired_bytes == 0
    assert stats.guard_failures == 0


@pytest.mark.usefixtures("guarded")
def test_an_exported_pointer_reads_nan_wherever_memory_was_evicted():
    model, x = perceptron()
    expected = [parameter.detach().clone() for parameter in model.parameters()]
    task = rtswap.register(model)
    with task.job():
        pointers = [raw(parameter) for parameter in model.parameters()]
        assert same(pointers, expected)
    rival = Rival()
    for _ in range(3):
        rival.evict(task)
        assert task.stats().guarded_bytes == task.stats().arena_bytes
        assert all(pointer.isnan().all() for pointer in pointers)
        with pytest.raises(RuntimeError, match="task "):
            model(x + next(model.parameters()).sum())
        torch.cuda.synchronize()
        with task.job():
            assert same(pointers, expected)


@pytest.mark.usefixtures("guarded")
def test_cycles_take_no_memory_of_the_device():
    model, x = ALL[0]()
    task = rtswap.register(model)
    rival = Rival()

    def cycle() -> None:
        with torch.no_grad():
            rival.evict(task)
            model(x)
        torch.cuda.synchronize()

    for _ in range(3):
        cycle()
    free_bytes = torch.cuda.mem_get_info()[0]
    for _ in range(100):
        cycle()
    assert torch.cuda.mem_get_info()[0] == free_bytes


STRAY_WRITE = """
import os
from eviction import Rival
from tests.gpu.python.test_gpu_guard import raw
model.eval()
with task.job():
    pointer = raw(next(model.parameters()))
Rival().evict(task)
assert pointer.isnan().all()
torch.cuda.synchronize()
try:
    pointer.fill_(0)
    torch.cuda.synchronize()
except RuntimeError as error:
    print(error)
sys.stdout.flush()
os._exit(0)
"""


def test_a_write_outside_a_job_still_ends_the_context():
    assert "illegal memory access" in finish(start(program(STRAY_WRITE, GUARDED)))
