"""A daemon's trace for Perfetto."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rtswap
from rtswap.cli import app
from rtswap.perfetto import PROMISES, TO_DEVICE, TO_HOST, convert
from tests.support.daemon import Daemon
from tests.support.worker import Worker


def event(kind: str, at_ns: int, device: int = 0, **more: Any) -> dict[str, Any]:
    common = {"task": "camera@7", "job": 3, "bytes": 0, "detail": ""}
    return {**common, "kind": kind, "at_ns": at_ns, "device": device, **more}


def tracks(converted: dict[str, Any]) -> dict[tuple[int, int], str]:
    return {
        (entry["pid"], entry["tid"]): entry["args"]["name"]
        for entry in converted["traceEvents"]
        if entry["name"] == "thread_name"
    }


def slices(converted: dict[str, Any]) -> list[tuple[str, str, float, float]]:
    """(track, name, begin, duration in us) of what lasts."""
    names = tracks(converted)
    return [
        (names[entry["pid"], entry["tid"]], entry["name"], entry["ts"], entry["dur"])
        for entry in converted["traceEvents"]
        if entry["ph"] == "X"
    ]


def test_runs_and_copies_are_slices_on_tracks_of_their_own():
    converted = convert(
        [
            event("released", 1_000_000),
            event("evict_begin", 1_001_000, task="radar@8", bytes=5),
            event("evict_end", 1_002_000, task="radar@8", bytes=5),
            event("restore_begin", 1_002_000, bytes=7),
            event("restore_end", 1_006_000, bytes=7),
            event("run_begin", 1_006_000),
            event("run_end", 1_009_500),
            event("missed", 1_009_500, detail="late"),
        ]
    )
    assert sorted(slices(converted)) == [
        ("camera@7", "run", 6.0, 3.5),
        (TO_DEVICE, "restore camera@7", 2.0, 4.0),
        (TO_HOST, "evict radar@8", 1.0, 1.0),
    ]
    instants = [entry for entry in converted["traceEvents"] if entry["ph"] == "i"]
    assert [(entry["name"], entry["ts"]) for entry in instants] == [
        ("released", 0),
        ("missed", 9.5),
    ]
    assert {tracks(converted)[entry["pid"], entry["tid"]] for entry in instants} == {"camera@7"}


def test_suspended_promises_have_a_track():
    converted = convert(
        [
            event("suspended", 1_000_000, detail="too long"),
            event("resumed", 1_004_000, task=""),
            event("suspended", 1_005_000, task=""),
            event("released", 1_007_000),
        ]
    )
    assert slices(converted) == [
        (PROMISES, "suspended", 0.0, 4.0),
        (PROMISES, "suspended", 5.0, 2.0),
    ]
    instants = [entry for entry in converted["traceEvents"] if entry["ph"] == "i"]
    assert [entry["name"] for entry in instants] == ["suspended", "released"]


def test_devices_are_processes():
    converted = convert(
        [
            event(kind, at, device)
            for device in (0, 1)
            for kind, at in (("run_begin", 0), ("run_end", 5))
        ]
    )
    names = [e["args"]["name"] for e in converted["traceEvents"] if e["name"] == "process_name"]
    assert names == ["device 0", "device 1"]
    assert [track for track, *_ in slices(converted)] == ["camera@7", "camera@7"]
    assert convert([])["traceEvents"] == []


def test_what_is_no_trace_is_named_with_its_line(tmp_path):
    file = tmp_path / "trace"
    good = json.dumps(event("released", 1))
    for text, line in ((f"{good}\nhello\n", 2), ("[]\n", 1), ('{"kind":"run_end"}\n', 1)):
        file.write_text(text)
        result = CliRunner().invoke(app, ["trace", str(file), "--output", str(tmp_path / "out")])
        assert result.exit_code == 2
        assert f"trace:{line}:" in result.output
    assert CliRunner().invoke(app, ["trace", str(tmp_path / "none")]).exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"at_ns": "x"},
        {"at_ns": 10**400},
        {"at_ns": 1.5},
        {"device": True},
        {"bytes": None},
        {"job": []},
        {"task": 3},
        {"kind": {}},
        {"detail": None},
    ],
)
def test_a_value_that_no_daemon_writes_is_named_with_its_line(tmp_path, values):
    file, out = tmp_path / "trace", tmp_path / "out"
    good = event("released", 1)
    file.write_text(f"{json.dumps(good)}\n{json.dumps(good | values)}\n")
    result = CliRunner().invoke(app, ["trace", str(file), "--output", str(out)])
    assert result.exit_code == 2
    assert result.output == f"{file}:2: this is not a line of a trace that rtswapd wrote.\n"
    assert not out.exists()


def test_brackets_without_end_are_no_trace(tmp_path):
    file = tmp_path / "trace"
    file.write_text("[" * 100_000 + "\n")
    result = CliRunner().invoke(app, ["trace", str(file), "--output", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "trace:1: this is not a line" in result.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
def test_a_file_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "trace"
    file.write_text(json.dumps(event("released", 1)) + "\n")
    result = CliRunner().invoke(app, ["trace", str(file), "--output", "/dev/full"])
    assert result.exit_code == 2
    assert result.output == "/dev/full cannot be written: No space left on device.\n"


@pytest.mark.skipif(
    not (Path(rtswap.__file__).parent / "bin" / "rtswapd").exists(),
    reason="built without the daemon",
)
def test_the_trace_of_a_daemon_is_converted_while_it_runs(tmp_path):
    written, out = tmp_path / "trace", tmp_path / "trace.json"
    with Daemon("--simulate", "12MiB", "--trace", str(written)) as daemon, Worker() as worker:
        worker.call("enable", socket=daemon.socket)
        worker.call("register", model="small", name="camera")
        worker.call("jobs", count=3)
        result = CliRunner().invoke(app, ["trace", str(written), "--output", str(out)])
        assert result.exit_code == 0, result.output
    found = slices(json.loads(out.read_text()))
    assert sum(name == "run" for _, name, *_ in found) >= 2  # the end of the last may be on its way
    assert any(track == TO_DEVICE for track, *_ in found)
