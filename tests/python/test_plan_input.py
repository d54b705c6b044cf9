"""What the planner is asked is checked as the arbiter checks what a client asks."""

from __future__ import annotations

from typing import Any

import pytest

from rtswap import _core
from rtswap.errors import InvalidArgument

CONFIG = {"chunk_bytes": 1 << 20, "chunk_count": 8, "bytes_per_s": 10**9}
TASK = {
    "name": "planner",
    "arena": 1,
    "arena_chunks": 5,
    "period_ns": 10**9,
    "deadline_ns": 10**9,
    "wcet_ns": 100,
    "layers": [(2, 40), (2, 10), (5, 50)],
}


def refusal(config: dict[str, Any], tasks: list[dict[str, Any]]) -> str:
    with pytest.raises(InvalidArgument) as error:
        _core.plan(config, tasks)
    return str(error.value)


def test_what_makes_sense_is_planned() -> None:
    assert _core.plan(CONFIG, [TASK])["admitted"]
    best_effort = {"name": "extra", "arena": 2, "arena_chunks": 1}
    assert _core.plan(CONFIG, [TASK, best_effort])["admitted"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"layers": [(3, 50), (2, 50)]}, "none less than the one before"),
        ({"layers": [(0, 100)]}, "1 to all 5 chunks"),
        ({"layers": [(2, 50), (6, 50)]}, "1 to all 5 chunks"),
        ({"layers": [(-1, 100)]}, "layers cannot be [(-1, 100)]"),
        ({"layers": [(2, 0), (5, 100)]}, "must be positive"),
        ({"layers": [(2, -1), (5, 101)]}, "must be positive"),
        ({"layers": [(2, 60), (5, 50)]}, "together that of the job"),
        ({"layers": [(2, 60), (5, 39)]}, "99 ns together and the job for 100"),
        ({"layers": [(1, 1)] * 257}, "at most 256 layers"),
        ({"layers": "all"}, "layers cannot be 'all'"),
        ({"wcet_ns": 0, "layers": []}, "wcet_ns must be more than 0"),
        ({"wcet_ns": -1, "layers": []}, "must not be negative"),
        ({"period_ns": -1}, "must not be negative"),
        ({"period_ns": 2**62, "deadline_ns": 1}, "shorter than a year"),
        ({"period_ns": 2**70}, f"period_ns cannot be {2**70}"),
        ({"deadline_ns": 0}, "deadline must be more than 0"),
        ({"deadline_ns": 10**9 + 1}, "not be later than the period"),
        ({"deadline_ns": 1.5}, "deadline_ns cannot be 1.5"),
        ({"arena_chunks": 0, "layers": []}, "its arena is empty"),
        ({"arena_chunks": -1}, "arena_chunks cannot be -1"),
        ({"mutable_chunks": 6}, "mutable"),
        ({"perod_ns": 1}, "no field ['perod_ns']"),
    ],
)
def test_a_mistake_is_named_with_the_task(values: dict[str, Any], words: str) -> None:
    message = refusal(CONFIG, [TASK | {"name": "other", "arena": 2}, TASK | values])
    assert 'task "planner"' in message
    assert words in message


def test_tasks_of_one_arena_agree_on_its_size() -> None:
    message = refusal(CONFIG, [TASK, TASK | {"name": "second", "arena_chunks": 6}])
    assert 'task "second"' in message
    assert 'shares arena 1 with "planner"' in message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"chunk_bytes": 0}, "more than 0"),
        ({"chunk_count": 0}, "more than 0"),
        ({"chunk_cost_ns": -1}, "at least 0"),
        ({"chunk_count": -1}, "chunk_count cannot be -1"),
        ({"chunks": 1}, "no field ['chunks']"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(values: dict[str, Any], words: str) -> None:
    assert words in refusal(CONFIG | values, [TASK])
