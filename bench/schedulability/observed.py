"""What the arbiter does with a set in virtual time: an observation, not a promise.

Whoever the arbiter refuses runs as best effort, so that every set can be watched. Each set takes
two courses: all tasks released at once and every job at its full cost; and releases that come late
by up to a part of their period, jobs that may be shorter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.schedulability.disciplines import CHUNK_BYTES, Case, rtswap_tasks
from rtswap import _core

JOBS = 150  # about so many in each course
START_NS = 4 * 10**9  # of the first releases: memory that is to stay has landed
LATEST_SHARE = 0.3  # of a period, by which a release comes late in the second course
SHORTEST_SHARE = 0.6  # of its cost, that a job takes in the second course


@dataclass(frozen=True)
class Watched:
    """Counts of sets and jobs, over both courses."""

    sets: int
    on_time: dict[str, int]  # sets without a late job, by discipline of the arbiter
    promised_sets: int  # all of whose tasks the arbiter admits
    promised_jobs: int  # of these sets
    promised_late: int  # of these jobs: missed or dropped
    promised_above_bound: int  # of these jobs: took longer than was promised
    violations: int  # of invariants of the arbiter


def watch_cases(cases: list[Case], seed: int) -> Watched:
    """Disciplines of the arbiter: "edf", and "request-order": whole models, in order of release."""
    by_discipline = {
        discipline: [_courses(case, discipline, seed) for case in cases]
        for discipline in ("edf", "request-order")
    }
    promised = [
        tasks
        for tasks, _ in by_discipline["edf"]
        if all(task["state"] == "admitted" for task in tasks)
    ]
    jobs = [task for tasks in promised for task in tasks]
    return Watched(
        sets=len(cases),
        on_time={
            discipline: sum(not any(map(_late, tasks)) for tasks, _ in outcomes)
            for discipline, outcomes in by_discipline.items()
        },
        promised_sets=len(promised),
        promised_jobs=sum(task["released"] for task in jobs),
        promised_late=sum(map(_late, jobs)),
        promised_above_bound=sum(task["above_bound"] for task in jobs),
        violations=sum(
            violations for outcomes in by_discipline.values() for _, violations in outcomes
        ),
    )


def _late(task: dict[str, Any]) -> int:
    return int(task["missed"] + task["dropped"])


def _courses(case: Case, discipline: str, seed: int) -> tuple[list[dict[str, Any]], int]:
    """Tasks as reported in both courses, and broken invariants."""
    reports = [_run(case, discipline, seed, steady=steady) for steady in (True, False)]
    tasks = [task for report in reports for task in report["tasks"]]
    return tasks, sum(len(report["violations"]) for report in reports)


def _run(case: Case, discipline: str, seed: int, *, steady: bool) -> dict[str, Any]:
    jobs_per_ns = sum(1 / task.period_ns for task in case.tasks)
    config = {
        "chunk_bytes": CHUNK_BYTES,
        "chunk_count": case.bank_chunks,
        "bytes_per_s": case.table.link_bytes_per_s,
        "chunk_cost_ns": _core.cuda_chunk_cost_ns,
        "first_release_ns": START_NS,
        "horizon_ns": START_NS + round(JOBS / jobs_per_ns),
        "discipline": discipline,
        "seed": seed,
    }
    return _core.simulate(
        config,
        [
            _client(task, order, steady=steady)
            for order, task in enumerate(rtswap_tasks(case, layers=True))
        ],
    )


def _client(task: dict[str, Any], order: int, *, steady: bool) -> dict[str, Any]:
    shortest = 1.0 if steady else SHORTEST_SHARE
    client = {key: value for key, value in task.items() if key != "arena"}
    return client | {
        "execution_min_ns": round(task["wcet_ns"] * shortest),
        "execution_max_ns": task["wcet_ns"],
        "jitter_ns": 0 if steady else round(task["period_ns"] * LATEST_SHARE),
        "join_ns": order,
        "best_effort_if_refused": True,
    }
