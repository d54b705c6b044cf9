"""What the error of a lost CUDA context says. Contexts that are really lost: test_gpu_lost.py."""

from __future__ import annotations

import pytest
from eviction import Rival
from test_process import program, start
from torch import nn

import rtswap
from rtswap.errors import from_code

GONE = "the CUDA context of this process is lost"


def loss() -> str:
    error = from_code("device_lost", GONE)
    assert isinstance(error, rtswap.DeviceLost)
    return str(error)


@pytest.mark.usefixtures("arbiter")
def test_it_names_the_tensors_that_were_not_on_the_device():
    model = nn.ModuleDict({name: nn.Linear(1024, 512, bias=False) for name in "abcd"})
    task = rtswap.register(model, name="first")  # a chunk each
    with task.job():
        assert loss() == GONE  # everything is there
    other = rtswap.register(nn.Linear(1024, 2048, bias=False), name="second")
    assert loss() == f"{GONE}. Tensors that are not on the device: task 'second' (1: 'weight')."
    with other.job():  # takes 4 chunks of 6, of which 2 were free
        expected = "task 'first' (2: 'c.weight', 'd.weight')"
        assert loss() == f"{GONE}. Tensors that are not on the device: {expected}."
    task.close()
    other.close()
    assert loss() == GONE


@pytest.mark.usefixtures("arbiter")
def test_of_many_tensors_it_names_the_first():
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(10)))
    task = rtswap.register(model, name="deep")
    Rival().evict(task)
    assert "task 'deep' (20: '0.weight', '0.bias', '1.weight', '1.bias', '2.weight', ...)" in loss()


def test_without_rtswap_it_says_no_more():
    assert loss() == GONE


AT_EXIT = """
from eviction import Rival
import rtswap.runtime
Rival().evict(task)

def fails(devices):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

rtswap.runtime.synchronize = fails
"""


def test_a_process_that_ends_by_torchs_own_error_is_told_at_its_exit():
    process = start(program(AT_EXIT, 'simulate="12MiB", link_bandwidth="4GB"'))
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert "a device failed while the process was exiting: CUDA error: an illegal" in error
    assert "Tensors that are not on the device: task 'cnn' (" in error
