"""One daemon with two devices: each has its own bank, its own jobs and its own fate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from models import cnn
from test_process import start
from two_devices import (
    DaemonOfTwo,
    Swapped,
    client_of_two,
    devices,
    home,
    needs_daemon,
    on_both,
    once_connected,
    run_in_turn,
    together,
)

import rtswap
from rtswap.demo.daemon import DemoError

pytestmark = needs_daemon


@pytest.fixture
def daemon() -> Iterator[DaemonOfTwo]:
    with client_of_two() as daemon:
        yield daemon


def test_tasks_of_both_devices_restore_at_the_same_time(daemon):
    first, second = on_both()
    together(lambda: run_in_turn(first, 10), lambda: run_in_turn(second, 10))
    for model in (*first, *second):
        stats = model.task.stats()
        # Its rival on the device pushed part of it out each time.
        assert stats.released == 10
        assert stats.restored_bytes >= 2 * stats.host_bytes
    assert {task.device for task in rtswap.stats().tasks} == {0, 1}


def test_a_job_on_one_device_does_not_hold_up_the_other(daemon):
    first, second = on_both()
    with first[0].task.job():
        assert rtswap.stats().devices[0].running.startswith(f"cnn-{devices()[0]}@")
        together(lambda: run_in_turn(second, 3))
    first[1].run()


def test_several_devices_must_be_named(daemon):
    rtswap.disable()
    with pytest.raises(rtswap.UnknownDevice, match=r"several.*SIM-0, SIM-1"):
        rtswap.enable(daemon.socket)
    info = rtswap.enable(daemon.socket, device="sim-1")
    assert info.device_uuid == "SIM-1"
    with pytest.raises(rtswap.UnknownDevice, match="SIM-0, SIM-1"):
        rtswap.register(cnn()[0], device="SIM-2")
    default = Swapped(cnn, "sim-0", "moved")
    default.run()
    assert rtswap.stats().tasks[0].device == 0


HOLDS_BOTH = """
import sys, threading
import torch; torch.set_num_threads(1)
import rtswap
from models import cnn, recurrent
first, second = {devices!r}
rtswap.enable({socket!r}, device=first)
tasks = [rtswap.register(cnn()[0], device=first), rtswap.register(recurrent()[0], device=second)]
inside = threading.Barrier(3)
def hold(task):
    with task.job():
        inside.wait()
        threading.Event().wait()
for task in tasks:
    threading.Thread(target=hold, args=(task,), daemon=True).start()
inside.wait()
print("holding", flush=True)
threading.Event().wait()
"""


def test_a_killed_client_frees_its_chunks_on_both_devices(daemon):
    first, second = on_both()
    victim = start(HOLDS_BOTH.format(socket=daemon.socket, devices=devices()))
    try:
        assert victim.stdout.readline() == "holding\n"
        running = [device.running for device in rtswap.stats().devices]
        assert all(f"@{victim.pid}" in holder for holder in running)
        with pytest.raises(rtswap.Timeout), first[0].task.job(timeout=0):
            pytest.fail("entered")
    finally:
        victim.kill()
        victim.wait()
    together(lambda: run_in_turn(first, 2), lambda: run_in_turn(second, 2))
    assert not any(f"@{victim.pid}" in task.name for task in rtswap.stats().tasks)


def test_both_banks_are_taken_over_by_a_restarted_daemon(daemon):
    first, second = on_both()
    together(lambda: run_in_turn(first, 1), lambda: run_in_turn(second, 1))
    daemon.come_back()
    for model in (*first, *second):
        once_connected(model.run)


def test_a_device_is_taken_away_and_the_other_goes_on(daemon):
    kept, lost = devices()
    first, second = on_both()
    buffers = [Swapped(cnn, device, f"state-{device}") for device in (kept, lost)]
    for state in buffers:  # bytes that no host image has yet
        with state.task.job():
            state.model.layers[1].running_mean.fill_(7)
    daemon.come_back_without_second()
    for model in first:
        once_connected(model.run)
    for gone in (*second, buffers[1]):
        with pytest.raises(rtswap.UnknownDevice, match=f"{lost}.*Close"), gone.task.job():
            pytest.fail("entered")
    with pytest.raises(rtswap.UnknownDevice, match=lost):
        second[0].task.share(name="other")
    with pytest.raises(rtswap.UnknownDevice, match=lost):
        rtswap.register(cnn()[0], name="new", device=lost)
    second[0].task.close()
    second[0].model.to(home())
    with torch.no_grad():
        assert torch.equal(second[0].model(second[0].x), second[0].expected)
    moved = rtswap.register(second[0].model, name="moved", device=kept)
    with torch.no_grad(), moved.job():
        assert torch.equal(second[0].model(second[0].x), second[0].expected)
    run_in_turn(first, 2)
    for state in buffers:
        state.task.close()
        assert state.model.layers[1].running_mean.eq(7).all()
    # It comes back with new memory: for new sessions.
    for _ in range(2):
        daemon.come_back()
        for model in first:
            once_connected(model.run)
    with pytest.raises(rtswap.UnknownDevice, match=lost):
        second[1].run()
    rtswap.disable()
    rtswap.enable(daemon.socket, device=lost)
    Swapped(cnn, lost, "again").run(2)


def test_a_changed_bank_is_still_refused_with_the_names_of_its_holders(daemon):
    first, _ = on_both()
    first[0].run()
    daemon.kill()
    with pytest.raises(DemoError, match=r"SIM-0.*still held by test \(pid"):
        daemon.start(flags=("--simulate", "20MiB", "--simulate", "14MiB"))
    daemon.come_back()
    once_connected(first[0].run)
