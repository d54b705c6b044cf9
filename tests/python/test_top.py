"""`rtswap top`: a daemon seen from outside, while it serves, hangs and is away."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import rtswap
from rtswap.cli import app
from rtswap.errors import DaemonUnavailable
from rtswap.report import ArbiterDevice, ArbiterTask, Snapshot
from rtswap.top import Observer, tables, watch
from tests.support.daemon import Daemon
from tests.support.worker import Worker

TASK = ArbiterTask(
    name="camera@7",
    device=0,
    state="admitted",
    period_ns=100_000_000,
    deadline_ns=80_000_000,
    wcet_ns=1_000_000,
    released=9,
    met=7,
    missed=1,
    dropped=1,
    overruns=0,
    restored_bytes=65_741 << 20,
    evicted_bytes=32 << 20,
    written_back_bytes=3 << 30,
    arena_chunks=16,
    resident_chunks=5,
    response_max_ns=41_500_000,
    response_bound_ns=70_000_000,
    importance=0,
    mode="direct",
    lead_ns=0,
)
DEVICE = ArbiterDevice("SIM-0", 2 << 20, 20, 15, 0, 0, "camera@7", 0.25, "", 0)


def shown(snapshot: Snapshot, width: int = 120) -> str:
    out = StringIO()
    Console(file=out, width=width).print(tables(snapshot))
    return out.getvalue()


def row_of(name: str, text: str) -> list[str]:
    [row] = [line.split() for line in text.splitlines() if line.strip().startswith(name)]
    return row


def test_a_device_and_its_tasks_are_shown_beside_each_other():
    other = ArbiterDevice("SIM-1", 2 << 20, 8, 8, 0, 0, "", 0.0, "", 0)
    text = shown(Snapshot(False, (DEVICE, other), (TASK,)))
    assert "SIM-0: 30.0 MiB of 40.0 MiB free, load 25%, running: camera@7" in text
    assert "SIM-1: 16.0 MiB of 16.0 MiB free, load 0%, running: nothing" in text
    expected = "camera@7 admitted direct 10/32 100.0 7 1 1 41.5/70.0 64.2/3.0"
    assert row_of("camera@7", text) == expected.split()
    assert "recovering" in shown(Snapshot(True, (), ()))
    for absent in ("suspended", "overruns", "import-"):  # they would tell nothing here
        assert absent not in text


# As wide as figures of a real set get.
STAGED = replace(
    TASK,
    name="planner@4194304",
    state="best_effort",
    mode="direct",
    period_ns=2_000_000_000,
    released=99_999,
    met=99_999,
    missed=12_345,
    dropped=12_345,
    overruns=345,
    restored_bytes=12_345_678 << 20,
    written_back_bytes=1_234 << 20,
    arena_chunks=11_000,
    resident_chunks=11_000,
    response_max_ns=1_234_500_000,
    response_bound_ns=1_234_500_000,
    importance=-1000,
)
LEAD = replace(
    STAGED, name="speech@4194305", state="admitted", mode="staged", lead_ns=1_254_400_000
)


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_a_terminal(width):
    text = shown(Snapshot(False, (DEVICE,), (TASK, STAGED, LEAD)), width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert len(row_of("speech@4194305", text)) == (8 if width == 80 else 12 + 1)


def test_who_is_staged_important_or_overran_is_shown_where_there_is_room():
    figures = "22000/22000 2000 99999 12345 12345 345 1234/1234 12056.3/1.2"
    wide = shown(Snapshot(False, (DEVICE,), (TASK, STAGED, LEAD)))
    assert row_of("speech@", wide) == f"speech@4194305 admitted staged 1254 -1000 {figures}".split()
    assert row_of("planner@", wide) == f"planner@4194304 best_effort - -1000 {figures}".split()
    narrow = shown(Snapshot(False, (DEVICE,), (TASK, STAGED, LEAD)), 80)
    assert row_of("speech@", narrow)[1:3] == ["admitted", "staged"]
    assert row_of("camera@7", narrow)[1:3] == ["admitted", "direct"]
    direct = shown(Snapshot(False, (DEVICE,), (TASK,)), 80)
    assert row_of("camera@7", direct) == [
        "camera@7",
        "admitted",
        "10/32",
        "7",
        "1",
        "1",
        "41.5/70.0",
    ]


def test_a_suspension_and_its_reason_are_shown():
    reason = 'a job of "radar@8" had the GPU for 12000 us, 2000 us longer than its block'
    now = replace(DEVICE, suspended=reason, suspensions=1)
    assert f"promises suspended once, until it is idle: {reason}" in shown(
        Snapshot(False, (now,), (TASK,)), 200
    )
    over = replace(DEVICE, suspensions=3)
    assert "promises suspended 3 times, not now" in shown(Snapshot(False, (over,), (TASK,)))


def test_a_daemon_that_is_away_is_waited_for():
    answers = iter([Snapshot(False, (DEVICE,), ()), DaemonUnavailable("gone"), KeyboardInterrupt()])

    def look() -> Snapshot:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    out = StringIO()
    with pytest.raises(KeyboardInterrupt):
        watch(look, Console(file=out, width=120), every_s=0)
    assert "waiting: gone" in out.getvalue()


def test_without_a_daemon_the_reason_is_said(tmp_path):
    result = CliRunner().invoke(app, ["top", "--once", "--socket", str(tmp_path / "none.sock")])
    assert result.exit_code == 1
    assert "none.sock" in result.output


def test_a_socket_that_cannot_be_is_refused_in_one_line():
    for look in ("--once", "--json"):
        result = CliRunner().invoke(app, ["top", look, "--socket", f"/tmp/{'s' * 200}"])
        assert result.exit_code == 2
        assert "has 1 to 107 bytes, this one has 205" in result.output
        assert len(result.output.splitlines()) == 1


@pytest.mark.skipif(
    not (Path(rtswap.__file__).parent / "bin" / "rtswapd").exists(),
    reason="built without the daemon",
)
def test_looking_costs_the_daemon_no_session_and_survives_its_restart():
    with Daemon("--simulate", "12MiB") as daemon, Worker() as worker:
        observer = Observer(daemon.socket)
        assert observer.look().tasks == ()
        worker.call("enable", socket=daemon.socket)
        worker.call("register", model="small", name="camera", period_ms=60_000, wcet_ms=1000)
        worker.send("hold")
        assert worker.receive() == "holding"
        result = CliRunner().invoke(app, ["top", "--json", "--socket", daemon.socket])
        assert result.exit_code == 0, result.output
        seen = json.loads(result.output)
        [task] = seen["tasks"]
        assert task["name"].startswith("camera@")
        assert task["state"] == "admitted"
        assert seen["devices"][0]["running"] == task["name"]
        assert task["resident_chunks"] == task["arena_chunks"] > 0
        worker.send("state")  # ends the job
        worker.receive()
        worker.close()
        daemon.stop()
        with pytest.raises(DaemonUnavailable):
            observer.look()
        daemon.start()
        assert observer.look().tasks == ()
