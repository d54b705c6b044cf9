"""Promises against what is observed: admitted sets run in real time, and every response is compared
with the bound that was in force.

    python -m bench.promises --output bench/results/NAME.json [--sets 20] [--seconds 4] [--seed 1]

Random sets of models, 1.2 to 3 times as large as the memory they share, in one process with an
embedded arbiter: on the GPU, or on the simulated device where there is none. Costs are measured,
and periods, drawn to utilisations, are as short as the set can be promised with, in steps. Every
other set has a small model beside them with a period shorter than the largest one's restore; of
those, only sets are run that have staged tasks. A run without a miss proves nothing; a response
above its bound refutes something: an assumption (a job that overran its cost, a busy machine), or
the promise.
"""

from __future__ import annotations

import argparse
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import rtswap
from bench.machine import describe_machine
from bench.stack import stack

MIB = 1 << 20
LONG_MS = 60_000.0
# Periods as drawn are divided by STEP so often, and multiplied until the set is promised.
STEP = 1.15
FIRST_STEP, LAST_STEP = -6, 12
MOST_IN_VAIN = 5  # sets without staged tasks before none is sought for a while


@dataclass(frozen=True)
class Scale:
    """What a device of this kind can be asked."""

    budget_bytes: int
    width: int  # of the layers
    batches: tuple[int, ...]
    link_bytes_per_ms: float  # about; periods are drawn with it
    enable: dict[str, Any]

    @property
    def layer_bytes(self) -> int:
        return self.width * self.width * 4

    @staticmethod
    def of_this_machine() -> Scale:
        if torch.cuda.is_available():
            budget = 2048 * MIB
            options = {"embedded": True, "budget": budget, "static": "4GiB", "device": 0}
            return Scale(budget, 4096, (1, 64, 1024), 50e6, options)
        budget = 64 * MIB
        options = {"simulate": budget, "link_bandwidth": "1GB"}
        return Scale(budget, 512, (1, 16, 64), 1e6, options)


@dataclass(frozen=True)
class Draw:
    """One task before anything is known of its costs."""

    layers: int
    batch: int
    utilisation: float
    deadline_share: float  # of the period
    period_ms: float | None = None  # None: what its utilisation asks for


@dataclass
class Observed:
    """What the jobs of one task did."""

    name: str
    period_ms: float
    arena_bytes: int
    wcet_ms: float
    modes: list[str] = field(default_factory=list)  # direct, staged: all that were in force
    bound_ms: float = 0.0  # the largest in force
    jobs: int = 0
    missed: int = 0
    dropped: int = 0
    suspended: int = 0  # jobs with a suspension of promises at their request or end
    above_bound: int = 0  # of all jobs
    refuting: int = 0  # of these, that did not overrun and met no suspension: a promise was wrong
    overruns: int = 0  # jobs that executed for longer than the cost that was promised with, waits
    # for memory left out
    response_max_ms: float = 0.0
    largest_share: float = 0.0  # of a bound that a response used


@dataclass
class SetReport:
    """One admitted set."""

    family: str
    demand: float
    stretch: float = 1.0  # times as long as drawn are the periods
    tasks: list[Observed] = field(default_factory=list)


def draw_set(scale: Scale, demand: float, rng: random.Random) -> list[Draw]:
    """Sizes add up to the demand, each fits the device alone with room beside it."""
    count = rng.randint(3, 6)
    while True:
        shares = [rng.uniform(0.3, 1.0) for _ in range(count)]
        sizes = [demand * scale.budget_bytes * share / sum(shares) for share in shares]
        if max(sizes) < 0.8 * scale.budget_bytes:
            break
        count += 1
    load = rng.uniform(0.4, 0.9)
    parts = [rng.uniform(0.5, 1.0) for _ in sizes]
    return [
        Draw(
            layers=max(1, round(size / scale.layer_bytes)),
            batch=rng.choice(scale.batches),
            utilisation=load * part / sum(parts),
            deadline_share=rng.uniform(0.7, 1.0),
        )
        for size, part in zip(sizes, parts, strict=True)
    ]


def camera_beside(scale: Scale, draws: list[Draw], rng: random.Random) -> list[Draw]:
    """The same, none of them with the largest batch, and a small model whose period is shorter than
    the largest one's restore: mostly it can be promised only where others are staged."""
    largest_bytes = max(draw.layers for draw in draws) * scale.layer_bytes
    period_ms = rng.uniform(0.4, 0.6) * largest_bytes / scale.link_bytes_per_ms
    layers = max(1, round(0.05 * scale.budget_bytes / scale.layer_bytes))
    brief = [replace(draw, batch=min(draw.batch, scale.batches[-2])) for draw in draws]
    return [Draw(layers, scale.batches[0], 0.0, 1.0, period_ms), *brief]


@dataclass(frozen=True)
class Member:
    """One task of a set that runs."""

    draw: Draw
    task: rtswap.Task
    model: nn.Module
    x: torch.Tensor

    def period_ms(self, scale: Scale, stretch: float) -> float:
        """As its utilisation asks for with the cost that was measured, or longer."""
        if self.draw.period_ms is not None:
            return stretch * self.draw.period_ms
        copy_ms = self.draw.layers * scale.layer_bytes / scale.link_bytes_per_ms
        wcet_ms = self.task.promise.wcet_ms
        assert wcet_ms is not None
        return stretch * (wcet_ms + copy_ms) / self.draw.utilisation


def register_set(scale: Scale, draws: list[Draw]) -> list[Member]:
    """With periods that are long enough for any set; their costs are measured."""
    members = []
    for number, draw in enumerate(draws):
        model, x = stack(scale.width, draw.layers, draw.batch)
        task = rtswap.register(model, name=f"task{number}", period_ms=LONG_MS, example_inputs=(x,))
        members.append(Member(draw, task, model, x.to(task.device)))
    return members


def tighten(scale: Scale, members: list[Member]) -> float | None:
    """Gives all tasks the shortest periods that are promised, in steps, and returns how many times
    as long as drawn they are; None: not even much longer ones."""
    refusal = ""
    for step in range(FIRST_STEP, LAST_STEP + 1):
        stretch = STEP**step
        for member in members:
            member.task.pause()
            period_ms = member.period_ms(scale, stretch)
            member.task.set_period(period_ms, deadline_ms=period_ms * member.draw.deadline_share)
        try:
            for member in members:
                member.task.resume()
            return stretch
        except rtswap.AdmissionRefused as refused:
            refusal = str(refused)
    print(f"refused with periods times {stretch:.2f}: {refusal}", flush=True)
    return None


def observe(member: Member, stop: threading.Event, seen: Observed) -> None:
    """Runs the task's jobs by its clock until `stop`."""
    torch.set_num_threads(1)  # counts for the thread that calls it
    task = member.task
    clock = task.jobs()
    while not stop.is_set():
        job = next(clock)
        promise = task.promise
        before_ms = promise.response_bound_ms or 0.0
        suspended = bool(promise.suspended)
        if promise.mode not in seen.modes:
            seen.modes.append(promise.mode)
        try:
            with job, torch.inference_mode():
                member.model(member.x)
        except rtswap.JobDropped:
            seen.dropped += 1
            continue
        promise = task.promise
        bound_ms = max(before_ms, promise.response_bound_ms or 0.0)
        seen.jobs += 1
        suspended = suspended or bool(promise.suspended)
        seen.suspended += suspended
        seen.missed += not job.met
        seen.response_max_ms = max(seen.response_max_ms, job.response_ms)
        seen.bound_ms = max(seen.bound_ms, bound_ms)
        if bound_ms > 0:
            above = job.response_ms > bound_ms
            overran = job.execution_ms > (promise.wcet_ms or 0.0)
            seen.above_bound += above
            seen.refuting += above and not (overran or suspended)
            seen.largest_share = max(seen.largest_share, job.response_ms / bound_ms)


def run_set(scale: Scale, report: SetReport, draws: list[Draw], seconds: float) -> bool:
    """Fills the report; False: the set is not promised, or without the staged tasks it is for."""
    rtswap.enable(**scale.enable)
    try:
        members = register_set(scale, draws)
        stretch = tighten(scale, members)
        if stretch is None:
            return False
        report.stretch = stretch
        modes = {member.task.promise.mode for member in members}
        if report.family == "camera" and "staged" not in modes:
            return False
        for task in (member.task for member in members):
            promise = task.promise
            seen = Observed(
                task.name, task.period_ms or 0.0, task.stats().arena_bytes, promise.wcet_ms or 0.0
            )
            report.tasks.append(seen)
        stop = threading.Event()
        with ThreadPoolExecutor(len(members)) as pool:
            running = [
                pool.submit(observe, member, stop, seen)
                for member, seen in zip(members, report.tasks, strict=True)
            ]
            time.sleep(seconds)
            stop.set()
        for observed in running:
            observed.result()  # a set in which one failed is no observation
        overruns = {task.name.split("@")[0]: task.overruns for task in rtswap.stats().tasks}
        for seen in report.tasks:
            seen.overruns = overruns[seen.name]
        return True
    finally:
        rtswap.disable()


def main() -> None:
    """Run sets until enough were admitted; write one JSON file and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sets", type=int, default=20, help="admitted sets to run")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each set")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    rng = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)
    scale = Scale.of_this_machine()
    reports: list[SetReport] = []
    drawn = in_vain = 0
    while len(reports) < arguments.sets and drawn < 5 * arguments.sets:
        demand = 1.2 + 1.8 * (drawn % 10) / 9
        draws = draw_set(scale, demand, rng)
        # Unless none can be found: chunks of a simulated device take long.
        family = "camera" if len(reports) % 2 == 0 and in_vain < MOST_IN_VAIN else "even"
        if family == "camera":
            draws = camera_beside(scale, draws, rng)
        drawn += 1
        in_vain += 1
        report = SetReport(family, demand)
        if not run_set(scale, report, draws, arguments.seconds):
            continue
        reports.append(report)
        in_vain = 0
        shares = " ".join(
            f"{task.largest_share:.2f}{' staged' if 'staged' in task.modes else ''}"
            for task in report.tasks
        )
        print(
            f"set {len(reports)} of {drawn} drawn, {family}, demand {demand:.2f}, periods times "
            f"{report.stretch:.2f}: response/bound {shares}",
            flush=True,
        )
        write(arguments.output, drawn, reports)  # as it goes: a run may be cut short
    print(json.dumps(summary_of(drawn, reports), indent=2))


def summary_of(drawn: int, reports: list[SetReport]) -> dict[str, Any]:
    tasks = [task for report in reports for task in report.tasks]
    return {
        "sets_drawn": drawn,
        "sets_admitted": len(reports),
        "sets_with_staged_tasks": sum(
            any("staged" in task.modes for task in report.tasks) for report in reports
        ),
        "jobs": sum(task.jobs for task in tasks),
        "missed": sum(task.missed for task in tasks),
        "dropped": sum(task.dropped for task in tasks),
        "overruns": sum(task.overruns for task in tasks),
        "suspended": sum(task.suspended for task in tasks),
        "above_bound": sum(task.above_bound for task in tasks),
        "refuting": sum(task.refuting for task in tasks),
        "largest_share": max((task.largest_share for task in tasks), default=0.0),
    }


def write(output: Path, drawn: int, reports: list[SetReport]) -> None:
    document = {
        "machine": describe_machine(),
        "summary": summary_of(drawn, reports),
        "sets": [asdict(report) for report in reports],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
