"""Periodic releases by ``task.jobs()``."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from models import cnn

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")


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


def test_a_clock_that_begins_anew_keeps_its_distance(monkeypatch):
    model, _ = cnn()
    task = rtswap.register(model, period_ms=100, wcet_ms=1, on_refusal="best_effort")
    now_ns = 10**12
    monkeypatch.setattr("rtswap.clock._core", SimpleNamespace(monotonic_now_ns=lambda: now_ns))
    clock = task.jobs()
    released = clock._step()[1].release_ns
    assert released == now_ns
    task.set_period(150)
    for begins_anew in (lambda: task.set_period(150), task.resume):
        begins_anew()
        now_ns += 60_000_000
        assert clock._step()[1] is None
        now_ns = released + 150_000_000
        assert clock._step()[1].release_ns == now_ns
        released = now_ns
        task.pause()
        assert clock._step()[1] is None
    assert clock.skipped == 0


def test_a_clock_that_begins_anew_stays_with_the_instant_that_all_have_in_common(monkeypatch):
    model, _ = cnn()
    task = rtswap.register(model, period_ms=100, wcet_ms=1, on_refusal="best_effort")
    start_ns = 10**12
    now_ns = start_ns + 3_600 * 10**9 + 1
    monkeypatch.setattr("rtswap.clock._core", SimpleNamespace(monotonic_now_ns=lambda: now_ns))
    monkeypatch.setattr(task, "_session", lambda: SimpleNamespace(common_start_ns=start_ns))
    clock = task.jobs()
    assert clock._step()[1] is None
    now_ns += 100_000_000
    released = clock._step()[1].release_ns
    assert (released - start_ns) % 100_000_000 == 0
    task.set_period(30)
    now_ns = released + 10_000_000
    assert clock._step()[1] is None
    now_ns = released + 60_000_000
    again = clock._step()[1].release_ns
    assert again >= released + 30_000_000
    assert (again - start_ns) % 30_000_000 == 0
    assert clock.skipped == 0


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


def test_a_clock_that_is_held_back_says_so_once(monkeypatch, caplog):
    model, _ = cnn()
    task = rtswap.register(model, period_ms=50, wcet_ms=1, on_refusal="best_effort")
    caplog.clear()
    held_back = SimpleNamespace(common_start_ns=0)  # the tasks of --wait-for are not all there
    monkeypatch.setattr(task, "_session", lambda: held_back)
    clock = task.jobs()
    assert clock._step()[1] is None
    assert not caplog.records  # those who come in time hear nothing
    monkeypatch.setattr("rtswap.clock._QUIET_NS", 0)
    clock = task.jobs()
    for _ in range(3):
        assert clock._step()[1] is None
    [record] = caplog.records
    assert "--wait-for" in record.getMessage()
