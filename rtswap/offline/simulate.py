"""The real arbiter in virtual time, with clients that obey it or fail."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtswap import _core
from rtswap.errors import InvalidArgument
from rtswap.offline.device import Device
from rtswap.offline.task_file import TaskSpec

HANG_TIMEOUT_NS = 10 * 10**9
START_NS = 2 * 10**9  # of the first releases: memory that is to stay lands before


@dataclass(frozen=True)
class Course:
    """What the tasks do. Durations in ns."""

    horizon_ns: int
    seed: int = 1
    variation: float = 0.0  # jobs take between (1 - variation) of their cost and all of it
    jitter_ns: int = 0  # releases come up to this much after their instants, a period apart
    faults_per_s: float = 0.0  # each of: crashes, lost links, hangs, failed restores


@dataclass(frozen=True)
class TaskOutcome:
    """One task of a simulation. Durations in ns; 0: none."""

    name: str
    state: str
    reason: str
    released: int
    met: int
    missed: int
    dropped: int
    response_median_ns: int
    response_max_ns: int
    bound_ns: int
    above_bound: int  # jobs that took longer than every bound in force while they waited and ran


@dataclass(frozen=True)
class Simulated:
    tasks: list[TaskOutcome]
    trace: list[dict[str, Any]]
    violations: list[str]
    suspensions: int  # of all promises, until the device was idle
    start_ns: int
    with_faults: bool
    longest_period_ns: int

    @property
    def kept(self) -> bool:
        """No promised job was late, dropped, or above its bound, and no invariant was broken."""
        return not self.violations and not any(
            task.bound_ns and (task.missed or task.dropped or task.above_bound)
            for task in self.tasks
        )

    @property
    def refused(self) -> list[str]:
        """Names of the tasks that did not run because nothing could be promised."""
        return [task.name for task in self.tasks if task.state == "refused"]


def simulate(specs: list[TaskSpec], device: Device, course: Course) -> Simulated:
    if not device.bytes_per_s:
        raise InvalidArgument("a simulation needs the speed of the link: give --link, e.g. 24GB/s.")
    _check_simulable(specs)
    report = _core.simulate(
        {
            "chunk_bytes": device.chunk_bytes,
            "chunk_count": device.chunk_count,
            "bytes_per_s": device.bytes_per_s,
            "chunk_cost_ns": _core.cuda_chunk_cost_ns,
            "seed": course.seed,
            "first_release_ns": START_NS,
            "horizon_ns": START_NS + course.horizon_ns,
            "keep_trace": True,
            "hang_timeout_ns": HANG_TIMEOUT_NS,
            "hang_ns": HANG_TIMEOUT_NS // 20,
            "crashes": course.faults_per_s,
            "disconnects": course.faults_per_s,
            "hangs": course.faults_per_s,
            "restore_failures": course.faults_per_s,
        },
        [_client(spec, device, course, index) for index, spec in enumerate(specs)],
    )
    return Simulated(
        tasks=[_outcome(task) for task in report["tasks"]],
        trace=report["trace"],
        violations=report["violations"],
        suspensions=report["suspensions"],
        start_ns=START_NS,
        with_faults=course.faults_per_s > 0,
        longest_period_ns=max((spec.period_ns for spec in specs), default=0),
    )


def _outcome(task: dict[str, Any]) -> TaskOutcome:
    values = {name: task[name] for name in TaskOutcome.__dataclass_fields__}
    # The arbiter tells equal names apart by their process; here every name is one task.
    values["reason"] = re.sub(r'"([^"]*)@[0-9]+"', r'"\1"', values["reason"])
    return TaskOutcome(**values)


def _check_simulable(specs: list[TaskSpec]) -> None:
    for spec in specs:
        if any(other is not spec and other.model == spec.model for other in specs):
            raise InvalidArgument(
                f'{spec.where}: "{spec.name}" shares a model; in a simulation every task is a '
                "process with a model of its own. Leave `model` out to simulate copies."
            )
        if not spec.period_ns:
            raise InvalidArgument(
                f'{spec.where}: "{spec.name}" has no period; a simulation has to know when its '
                "jobs come."
            )


def _client(spec: TaskSpec, device: Device, course: Course, index: int) -> dict[str, Any]:
    return {
        "name": spec.name,
        "period_ns": spec.period_ns,
        "deadline_ns": spec.deadline_ns,
        "wcet_ns": spec.wcet_ns,
        "execution_min_ns": round(spec.wcet_ns * (1 - course.variation)),
        "execution_max_ns": spec.wcet_ns,
        "jitter_ns": course.jitter_ns,
        "on_grid": True,
        "arena_chunks": spec.chunks(device.chunk_bytes),
        "mutable_chunks": spec.mutable_chunks(device.chunk_bytes),
        "layers": spec.layers(device.chunk_bytes),
        "resident": spec.resident,
        "late_run": spec.late_run,
        "importance": spec.importance,
        "join_ns": index,  # in the order of the file
    }


def draw_timeline(report: Simulated, horizon_ns: int, path: Path) -> None:
    """The beginning, as `rtswap demo` draws it: two periods of the slowest task, at most 10 s."""
    from rtswap.demo import picture
    from rtswap.timeline import build

    seconds = min(horizon_ns, 2 * report.longest_period_ns, 10**10) / 1e9
    jobs = picture_jobs(report.trace)
    panel = picture.Panel("simulated", build(report.trace), jobs, report.start_ns)
    picture.draw([panel], [task.name for task in report.tasks], seconds, path)


def picture_jobs(trace: list[dict[str, Any]]) -> list[Any]:
    from rtswap.demo.tally import JobRecord
    from rtswap.timeline import task_name

    jobs: list[dict[str, dict[str, Any]]] = []  # of each, its events by kind
    last: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for event in trace:
        key = (event["task"], event["job"])
        if event["kind"] == "released":
            # A client that comes back after a crash counts its jobs anew.
            last[key] = {}
            jobs.append(last[key])
        if key in last:
            last[key].setdefault(event["kind"], event)
    return [
        JobRecord(
            task=task_name(job["released"]["task"]),
            index=job["released"]["job"],
            release_ns=job["released"]["release_ns"],
            deadline_ns=job["released"]["deadline_ns"],
            outcome="dropped" if "run_end" not in job else "missed" if "missed" in job else "met",
            end_ns=job["run_end"]["at_ns"] if "run_end" in job else 0,
        )
        for job in jobs
    ]
