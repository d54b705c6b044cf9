"""What a user sees in overload and after overruns: importance, and promises that are suspended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from models import cnn
from torch import nn

import rtswap
from tests.support.waits import until

pytestmark = pytest.mark.usefixtures("arbiter")

MINUTE_MS = 60e3


def released(task: rtswap.Task) -> int:
    [count] = [
        known.released for known in rtswap.stats().tasks if known.name.startswith(f"{task.name}@")
    ]
    return count


class Waiting(threading.Thread):
    """A job of a task in a thread of its own; `body` runs in it."""

    def __init__(self, task: rtswap.Task, body: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._task, self._body = task, body
        before = released(task)
        self.start()
        until(lambda: released(task) > before)

    def run(self) -> None:
        with self._task.job():
            self._body()


def small() -> nn.Module:
    return cnn()[0]


def test_importance_is_in_force_and_shown():
    task = rtswap.register(small(), name="one", importance=-7)
    other = task.share(name="two", importance=1000)
    assert (task.promise.importance, other.promise.importance) == (-7, 1000)
    assert [known.importance for known in rtswap.stats().tasks] == [-7, 1000]
    assert rtswap.register(small()).promise.importance == 0


@pytest.mark.parametrize("wrong", [1.0, "5", True, None, 1001, -1001, 2**40])
def test_importance_that_is_none_is_refused(wrong):
    model = small()
    with pytest.raises(
        rtswap.InvalidArgument, match="importance must be a whole number from -1000"
    ):
        rtswap.register(model, importance=wrong)
    task = rtswap.register(model, importance=1000)
    with pytest.raises(rtswap.InvalidArgument, match="importance"):
        task.share(name="two", importance=wrong)


def test_without_promises_the_more_important_goes_first():
    order: list[str] = []
    tasks = {
        name: rtswap.register(small(), name=name, wcet_ms=1, importance=importance)
        for name, importance in (("busy", 0), ("low", -1), ("middle", 0), ("high", 3))
    }
    with tasks["busy"].job():
        waiting = [
            Waiting(tasks[name], lambda name=name: order.append(name))
            for name in ("low", "middle", "high")
        ]
    for thread in waiting:
        thread.join()
    assert order == ["high", "middle", "low"]


def test_a_newcomer_takes_no_promise_away():
    settled = rtswap.register(small(), name="settled", period_ms=100, wcet_ms=60, importance=-5)
    with pytest.raises(rtswap.AdmissionRefused):
        rtswap.register(small(), name="new", period_ms=100, wcet_ms=60, importance=5)
    assert settled.promise.state == "admitted"


def test_a_job_that_is_too_long_suspends_promises_while_others_wait():
    models = small(), small()
    long = rtswap.register(models[0], name="long", period_ms=MINUTE_MS, wcet_ms=1)
    other = rtswap.register(models[1], name="other", period_ms=MINUTE_MS, wcet_ms=1)
    for model in models:  # what is mapped for the first time takes its time
        with rtswap.resident(model):  # no job: the next one would count from a period later
            pass
    until(lambda: not rtswap.stats().devices[0].suspended)
    before = rtswap.stats().devices[0].suspensions
    seen: list[str] = []
    with long.job():
        block_ms = long.promise.block_ms
        assert block_ms is not None
        waiting = Waiting(other, lambda: seen.append(other.promise.suspended))
        time.sleep(block_ms / 1e3 + 0.05)
    waiting.join()
    [reason] = seen
    assert '"long@' in reason
    assert "longer than its block" in reason
    until(lambda: not other.promise.suspended)
    [device] = rtswap.stats().devices
    assert device.suspensions == before + 1
    assert not device.suspended
    assert other.promise.state == long.promise.state == "admitted"
    assert other.promise.response_bound_ms is not None


def test_a_job_of_unknown_length_suspends_promises():
    promised = rtswap.register(small(), name="promised", period_ms=MINUTE_MS, wcet_ms=1)
    unknown = rtswap.register(small(), name="unknown")
    with promised.job():
        pass
    with unknown.job():
        until(lambda: "length is not known" in promised.promise.suspended)
        assert not unknown.promise.suspended  # it has no promise
    until(lambda: not promised.promise.suspended)
