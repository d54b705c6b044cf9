"""What makes no sense is refused before it is simulated, as a plan refuses it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rtswap import _core
from rtswap.errors import InvalidArgument

CONFIG = {"chunk_count": 8, "bytes_per_s": 10**9, "horizon_ns": 10**9}
TASK = {"name": "camera", "arena_chunks": 5, "period_ns": 10**8, "wcet_ns": 10**6}


def refusal(config: dict[str, Any], tasks: list[dict[str, Any]]) -> str:
    with pytest.raises(InvalidArgument) as error:
        _core.simulate(config, tasks)
    return str(error.value)


def test_what_makes_sense_is_simulated() -> None:
    aperiodic = {"name": "extra", "arena_chunks": 1, "spacing_ns": 10**8, "wcet_ns": 10**6}
    report = _core.simulate(CONFIG, [TASK, aperiodic])
    assert [task["state"] for task in report["tasks"]] == ["admitted", "best_effort"]
    assert not report["violations"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bytes_per_s": 0}, "must be more than 0"),
        ({"chunk_count": 0}, "must be more than 0"),
        ({"chunk_bytes": 0}, "must be more than 0"),
        ({"horizon_ns": -1}, "horizon_ns must be from 0 to a year, not -1 ns"),
        ({"horizon_ns": 2**62}, "horizon_ns must be"),
        ({"first_release_ns": -1}, "first_release_ns must be"),
        ({"first_release_ns": 2 * 10**9}, "before the first release"),
        ({"chunk_cost_ns": -1}, "chunk_cost_ns must be"),
        ({"latency_min_ns": -1}, "latency_min_ns must be"),
        ({"latency_min_ns": 10**6}, "must not be more than latency_max_ns"),
        ({"hang_timeout_ns": -1}, "hang_timeout_ns must be"),
        ({"hang_ns": -1}, "hang_ns must be"),
        ({"faults_end_ns": -1}, "faults_end_ns must be"),
        ({"crashes": -1.0}, "faults are from 0"),
        ({"hangs": math.nan}, "faults are from 0"),
        ({"disconnects": math.inf}, "faults are from 0"),
        ({"restore_failures": 1e12}, "faults are from 0"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(values: dict[str, Any], words: str) -> None:
    message = refusal(CONFIG | values, [TASK])
    assert message.startswith("simulate(): the configuration: ")
    assert words in message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"period_ns": -1}, "must not be negative"),
        ({"deadline_ns": 10**8 + 1}, "not be later than the period"),
        ({"wcet_ns": -1}, "must not be negative"),
        ({"arena_chunks": 0}, "its arena is empty"),
        ({"mutable_chunks": 6}, "mutable"),
        ({"layers": [(6, 10**6)]}, "1 to all 5 chunks"),
        ({"execution_min_ns": 2, "execution_max_ns": 1}, "must not be more than execution_max_ns"),
        ({"execution_max_ns": -1}, "execution_max_ns must be"),
        ({"spacing_ns": -1}, "spacing_ns must be"),
        ({"jitter_ns": -1}, "jitter_ns must be"),
        ({"offset_ns": -1}, "offset_ns must be"),
        ({"join_ns": 2**62}, "join_ns must be"),
    ],
)
def test_a_mistake_is_named_with_the_task(values: dict[str, Any], words: str) -> None:
    message = refusal(CONFIG, [TASK | {"name": "other"}, TASK | values])
    assert message.startswith('simulate(): task "camera": ')
    assert words in message


def test_without_tasks_there_is_nothing_to_simulate() -> None:
    assert "without a task" in refusal(CONFIG, [])
