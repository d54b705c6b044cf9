"""Exit status of the demo: wrong bytes and memory beyond the budget fail, misses only if strict."""

from __future__ import annotations

import dataclasses
from io import StringIO

import pytest
from rich.console import Console

from rtswap.demo.acts import Act
from rtswap.demo.replay import Replay
from rtswap.demo.tally import JobRecord, tally
from rtswap.demo.verdict import give, wrongs
from rtswap.timeline import Timeline

BANK_BYTES = 100
CLEAN = Replay(released=10, missed=0, dropped=0, refused=[], violations=[])
MET = JobRecord("camera", 0, 0, 50, "met", 40)
MISSED = JobRecord("camera", 1, 100, 150, "missed", 160)
DROPPED = JobRecord("camera", 2, 200, 250, "dropped")
WRONG = JobRecord("camera", 3, 300, 350, "met", 340, exact=False)


def act(*jobs: JobRecord, held_bytes: int = BANK_BYTES) -> Act:
    timeline = Timeline(resident_bytes_max=held_bytes)
    return Act("edf", 0, list(jobs), [tally("camera", jobs, 0, 0)], timeline=timeline)


@pytest.mark.parametrize(
    ("jobs", "late_live", "strict", "status"),
    [
        ((MET,), 0, True, 0),
        ((MET, MISSED), 0, False, 0),
        ((MET, MISSED), 0, True, 1),
        ((MET, DROPPED), 0, True, 1),
        ((MET,), 1, True, 1),
        ((MET,), 1, False, 0),
    ],
)
def test_misses_are_said_and_fail_only_where_strict(jobs, late_live, strict, status):
    said = StringIO()
    assert give(Console(file=said), act(*jobs), late_live, [], strict=strict) == status
    late = len(jobs) - 1 + late_live
    assert (f"{late} deadlines were not met" in said.getvalue()) == bool(late)
    assert "bit for bit" in said.getvalue()


def test_what_is_wrong_fails_and_nothing_is_praised():
    said = StringIO()
    assert give(Console(file=said), act(MET), 0, ["the budget"], strict=False) == 1
    assert "Wrong: the budget" in said.getvalue()
    assert "bit for bit" not in said.getvalue()


def test_wrong_bytes_memory_beyond_the_budget_and_a_miss_in_virtual_time_are_wrong():
    assert wrongs([act(MET, MISSED, DROPPED)], BANK_BYTES, CLEAN) == []
    [bytes_] = wrongs([act(MET, WRONG)], BANK_BYTES, CLEAN)
    assert "1 wrong outputs of camera" in bytes_
    [memory] = wrongs([act(MET, held_bytes=BANK_BYTES + 1)], BANK_BYTES, CLEAN)
    assert "101 bytes" in memory
    [replayed] = wrongs([act(MET)], BANK_BYTES, dataclasses.replace(CLEAN, missed=1))
    assert "virtual time" in replayed
