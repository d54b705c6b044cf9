"""Several client processes and a real ``rtswapd`` on the simulated device."""

from __future__ import annotations

import _thread
import linecache
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import rtswap
from rtswap import runtime
from rtswap.top import Observer
from tests.support.daemon import Daemon
from tests.support.waits import until
from tests.support.worker import Worker, WorkerError

pytestmark = pytest.mark.skipif(
    not (Path(rtswap.__file__).parent / "bin" / "rtswapd").exists(),
    reason="built without the daemon",
)

# Two models of 7 MiB do not fit together.
SMALL = ("--simulate", "12MiB", "--link-bandwidth", "2GB")


def clients(stack: ExitStack, daemon: Daemon, *names: str, **options: object) -> list[Worker]:
    """One process a name, each with a registered model; they start at the same time."""
    workers = [stack.enter_context(Worker(OMP_NUM_THREADS="1")) for _ in names]
    for worker in workers:
        worker.send("enable", socket=daemon.socket)
    for worker, name in zip(workers, names, strict=True):
        worker.receive()
        worker.call("register", model="small", name=name, **options)
    return workers


def exact(results: list[dict[str, object]]) -> bool:
    return all(result["exact"] for result in results)


def exact_once_connected(worker: Worker) -> bool:
    end = time.monotonic() + 30
    while True:
        try:
            return exact(worker.call("jobs", count=3))
        except WorkerError as error:
            if error.kind != "DaemonUnavailable" or time.monotonic() > end:
                raise
            time.sleep(0.05)


def test_a_killed_client_in_any_state_costs_the_others_nothing():
    with Daemon(*SMALL) as daemon, ExitStack() as stack:
        names = ("survivor", "paused", "waiting", "holding")
        survivor, paused, waiting, holding = clients(stack, daemon, *names)
        assert exact(paused.call("jobs"))
        paused.call("pause")
        holding.send("hold")
        assert holding.receive() == "holding"
        waiting.send("jobs")
        survivor.send("jobs", count=3)
        for victim in (paused, waiting, holding):
            victim.kill()
        assert exact(survivor.receive())
        assert exact(survivor.call("jobs", count=3))
        assert survivor.call("close") == "exact"


def test_a_client_that_is_killed_while_its_memory_comes_in_leaves_all_of_it():
    flags = ("--simulate", "12MiB", "--link-bandwidth", "20MB")  # a model takes 0.4 s
    with Daemon(*flags) as daemon, ExitStack() as stack:
        [survivor] = clients(stack, daemon, "survivor")
        observer = Observer(daemon.socket)

        def resident() -> dict[str, int]:
            tasks = observer.look().tasks
            return {task.name.split("@")[0]: task.resident_chunks for task in tasks}

        for first in ("register", "jobs"):  # the memory of a new task, or that of its first job
            victim = stack.enter_context(Worker(OMP_NUM_THREADS="1"))
            victim.call("enable", socket=daemon.socket)
            promise = {"period_ms": 60_000, "wcet_ms": 100} if first == "register" else {}
            victim.send("register", model="small", name="victim", **promise)
            if first == "jobs":
                victim.receive()
                victim.send("jobs")
            until(lambda: resident().get("victim"))
            victim.kill()
            assert exact(survivor.call("jobs"))
            assert resident() == {"survivor": 5}


def test_what_is_the_daemons_to_say_has_no_effect_and_says_so(caplog):
    with Daemon(*SMALL) as daemon:
        try:
            rtswap.enable(socket=daemon.socket, budget="64MiB", link_bandwidth="4GB")
        finally:
            rtswap.disable()
    assert "budget= has no effect" in caplog.text
    assert "link_bandwidth= has no effect" in caplog.text


def test_clients_live_through_the_death_of_their_daemon():
    with Daemon(*SMALL) as daemon, ExitStack() as stack:
        a, b = clients(stack, daemon, "a", "b")
        assert exact(a.call("jobs", count=2) + b.call("jobs", count=2))
        a.send("hold")
        assert a.receive() == "holding"
        b.send("jobs")
        daemon.kill()
        with pytest.raises(WorkerError) as waiting:
            b.receive()
        assert waiting.value.kind == "DaemonUnavailable"
        a.send("state")  # ends the job, whose memory nobody has taken away
        assert a.receive() is None
        with pytest.raises(WorkerError) as refused:
            a.call("jobs")
        assert refused.value.kind == "DaemonUnavailable"
        daemon.start()
        assert exact_once_connected(a)
        assert exact_once_connected(b)
        assert a.call("close") == "exact"
        daemon.kill()
        assert b.call("close") == "exact"  # needs no daemon


def test_tasks_start_together_with_the_settings_of_the_file(tmp_path):
    tasks = tmp_path / "tasks.toml"
    tasks.write_text('[[task]]\nname = "fast"\nperiod_ms = 150\nlate = "run"\nimportance = 3\n')
    flags = ("--simulate", "32MiB", "--tasks", str(tasks), "--wait-for", "2")
    with Daemon(*flags) as daemon, ExitStack() as stack:
        fast, slow = clients(stack, daemon, "fast", "slow", period_ms=300, wcet_ms=20)
        fast.send("clock", count=4)
        slow.send("clock", count=2)
        fast_clock, slow_clock = fast.receive(), slow.receive()
        assert (fast_clock["period_ms"], slow_clock["period_ms"]) == (150, 300)
        important = {
            task.name.split("@")[0]: task.importance
            for task in Observer(daemon.socket).look().tasks
        }
        assert important == {"fast": 3, "slow": 0}
        assert 'has settings for tasks named "fast"' in daemon.read_log()
        # One instant for both; whoever came late to it has skipped releases, not moved them.
        start = slow_clock["releases_ns"][0]
        assert all((at - start) % 300_000_000 == 0 for at in slow_clock["releases_ns"])
        assert all((at - start) % 150_000_000 == 0 for at in fast_clock["releases_ns"])


def interrupt_at(call: str) -> threading.Thread:
    """Presses Ctrl-C once the main thread is in a line that makes this call."""
    main = threading.main_thread().ident

    def press() -> None:
        line = ""
        while call not in line:
            frame = sys._current_frames()[main]
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        _thread.interrupt_main()

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def expect_interrupted_in(call: str, enable: Callable[[], object]) -> None:
    """Not up to the call's own limit, with the signal noticed behind it."""
    thread = interrupt_at(call)
    with pytest.raises(KeyboardInterrupt) as error:
        enable()
    thread.join()
    assert call in (traceback.extract_tb(error.tb)[-1].line or "")


def test_ctrl_c_ends_the_wait_for_a_daemon_that_hangs():
    with Daemon(*SMALL) as daemon:
        daemon.suspend()
        expect_interrupted_in("Session.connect(", lambda: rtswap.enable(daemon.socket))
        daemon.resume()
        assert rtswap.enable(daemon.socket).connected
        rtswap.disable()


def test_ctrl_c_ends_the_wait_for_its_memory(monkeypatch):
    with Daemon(*SMALL) as daemon:
        connect = runtime.connect

        def connect_then_hang(*arguments):
            session = connect(*arguments)
            daemon.suspend()
            return session

        monkeypatch.setattr(runtime, "connect", connect_then_hang)
        expect_interrupted_in(".use_device(", lambda: rtswap.enable(daemon.socket))
        daemon.resume()
        monkeypatch.undo()
        assert rtswap.enable(daemon.socket).connected
        rtswap.disable()


def test_memory_beside_the_bank_that_is_not_there_is_refused_at_once():
    with Daemon(*SMALL) as daemon:
        with pytest.raises(rtswap.StaticMemoryError, match="12 MiB are left"):
            rtswap.enable(daemon.socket, static="13MiB")
        with pytest.raises(rtswap.UnknownDevice, match="SIM-0"):
            rtswap.enable(daemon.socket, device="GPU-00000000-0000-0000-0000-000000000000")
        assert rtswap.enable(daemon.socket, static="11MiB").connected
        rtswap.disable()
