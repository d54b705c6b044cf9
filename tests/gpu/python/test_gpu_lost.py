"""A context that is really lost, in processes of their own: what they are told, and that they end.

The texts: tests/python/test_lost.py and tests/unit/client/lost_test.cc.
"""

from __future__ import annotations

import textwrap

import pytest
import torch
from test_process import finish, program, start

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

EMBEDDED = 'embedded=True, budget="12MiB", device=0'

# The replay of a graph outside a job, and what torch says of it.
STRAY = """
import os
from eviction import Rival
from tests.gpu.python.test_gpu_graphs import Captured, perceptron
perceptron, x = perceptron()
strayed = rtswap.register(perceptron, name="strayed")
with strayed.job():
    captured = Captured(perceptron, x)
rival = Rival()
rival.evict(strayed)
"""
LOSE = """
try:
    captured(x)
    torch.cuda.synchronize()
except RuntimeError as error:
    print("torch:", str(error).splitlines()[0])
"""
# What rtswap says of it.
TELL = """
def tell(what, step):
    try:
        step()
    except rtswap.DeviceLost as error:
        print(what + ":", error)

def job_of(task):
    with task.job():
        pass

tell("its job", lambda: job_of(strayed))
tell("another job", lambda: job_of(rival.task))
tell("register", lambda: rtswap.register(torch.nn.Linear(512, 512, device="cpu")))
sys.stdout.flush()
"""


def said_by(out: str, what: str) -> str:
    lines = [line for line in out.splitlines() if line.startswith(what + ":")]
    assert len(lines) == 1, out
    return lines[0]


def test_every_later_call_names_what_was_reached_for():
    out = finish(start(program(STRAY + LOSE + TELL + "os._exit(0)", EMBEDDED)))
    assert "illegal memory access" in said_by(out, "torch")
    for what in ("its job", "another job", "register"):
        message = said_by(out, what)
        assert "the process must be restarted" in message
        assert "task 'strayed'" in message.partition("on the device now: ")[2]
        assert "rtswap.enable(guard=True)" in message
        assert "task 'strayed' (6: '0.weight', '0.bias'" in message


def test_a_job_whose_body_meets_it_ends_with_the_loss():
    """Torch's own error is its context, and so in the traceback."""
    body = """
    try:
        with rival.task.job():
            captured(x)
            torch.cuda.synchronize()
    except rtswap.DeviceLost as error:
        print("lost:", error)
        print("before:", str(error.__context__).splitlines()[0])
    sys.stdout.flush()
    os._exit(0)
    """
    out = finish(start(program(STRAY + textwrap.dedent(body), EMBEDDED)))
    assert "task 'strayed' (6: '0.weight', '0.bias'" in said_by(out, "lost")
    assert "illegal memory access" in said_by(out, "before")


def test_a_process_that_ends_by_torchs_own_error_is_told_at_its_exit():
    """Whatever CUDA makes of the exit code."""
    process = start(program(STRAY + "captured(x); torch.cuda.synchronize()", EMBEDDED))
    _, error = process.communicate(timeout=120)
    assert "a device failed while the process was exiting: CUDA error" in error
    assert "Tensors that are not on the device: " in error
    assert "task 'strayed' (6: '0.weight', '0.bias'" in error
