"""The daemon's trace as a timeline, and the picture made of it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from rtswap.demo import picture
from rtswap.demo.tally import JobRecord, tally
from rtswap.timeline import Interval, build, load, task_name

MIB = 1 << 20


def event(kind: str, at_ns: int, task: str = "camera@7", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "at_ns": at_ns, "task": task, "bytes": 0, **more}


def test_names_lose_their_pid_only() -> None:
    assert task_name("camera@7") == "camera"
    assert task_name("front@left@7") == "front@left"
    assert task_name("camera") == "camera"


def test_runs_and_pieces_of_a_restore() -> None:
    timeline = build(
        [
            event("restore_begin", 10, bytes=2 * MIB),
            event("restore_begin", 12, bytes=4 * MIB),
            event("restore_end", 20, bytes=2 * MIB),
            event("restore_end", 40, bytes=4 * MIB),
            event("run_begin", 41),
            event("run_end", 60),
        ]
    )
    assert timeline.restores["camera"] == [Interval(10, 40, 6 * MIB)]
    assert timeline.runs["camera"] == [Interval(41, 60)]


def test_memory_counts_from_grant_to_eviction_and_a_dead_process_holds_none() -> None:
    timeline = build(
        [
            event("restore_begin", 1, "camera@7", bytes=6 * MIB),
            event("evict_begin", 2, "camera@7", bytes=4 * MIB),
            event("evict_end", 3, "camera@7", bytes=4 * MIB),
            event("restore_begin", 4, "scene@8", bytes=6 * MIB),
            event("session_closed", 5, "", detail="scene (pid 8) died"),
            event("restore_begin", 6, "radar@9", bytes=5 * MIB),
        ]
    )
    assert timeline.resident_bytes_max == 8 * MIB


def test_a_lost_link_frees_nothing_and_nothing_counts_after_the_end() -> None:
    events = [
        event("restore_begin", 1, "camera@7", bytes=6 * MIB),
        event("session_closed", 2, "", detail="camera@7: the link was lost, the process lives"),
        event("restore_begin", 3, "scene@8", bytes=6 * MIB),
        event("restore_begin", 9, "radar@9", bytes=6 * MIB),
    ]
    assert build(events, until_ns=5).resident_bytes_max == 12 * MIB


def test_a_pid_is_not_found_inside_a_longer_one() -> None:
    timeline = build(
        [
            event("restore_begin", 1, "camera@7", bytes=6 * MIB),
            event("session_closed", 2, "", detail="radar (pid 77) ended"),
            event("restore_begin", 3, "scene@8", bytes=6 * MIB),
        ]
    )
    assert timeline.resident_bytes_max == 12 * MIB


def test_tally_counts_every_release_once() -> None:
    jobs = [
        JobRecord("a", 0, 0, 100, "met", end_ns=50_000_000),
        JobRecord("a", 1, 0, 100, "missed", end_ns=150_000_000, exact=False),
        JobRecord("a", 2, 0, 100, "dropped"),
        JobRecord("b", 0, 0, 100, "met", end_ns=1),
    ]
    row = tally("a", jobs, bytes_in=10, bytes_out=3)
    assert (row.releases, row.met, row.missed, row.dropped, row.wrong) == (3, 1, 1, 1, 1)
    assert (row.response_min_ms, row.response_median_ms, row.response_max_ms) == (50, 100, 150)


def test_tally_of_a_task_that_never_ran_has_no_responses() -> None:
    assert tally("a", [JobRecord("a", 0, 0, 100, "dropped")], 0, 0).response_max_ms is None


def test_trace_file_and_picture(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(
        "".join(
            json.dumps({**event(kind, at_ns, "a@1"), "device": 0, "job": 1, "detail": ""}) + "\n"
            for kind, at_ns in (("run_begin", 100_000_000), ("run_end", 200_000_000))
        )
    )
    jobs = [JobRecord("a", 0, 0, 150_000_000, "missed", end_ns=200_000_000)]
    panels = [picture.Panel(title, build(load(path)), jobs, 0) for title in ("one", "two")]
    image = tmp_path / "timeline.png"
    picture.draw(panels, ["a", "b"], 1.0, image)
    content = image.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width > 1000
    assert height > 300
