"""Promises against what is observed: admitted sets run in real time, and every response is compared
with the bound that was in force.

    python -m bench.promises --output bench/results/NAME.json [--sets 20] [--seconds 4] [--seed 1]

Random sets of models, 1.2 to 3 times as large as the memory they share, in one process with an
embedded arbiter: on the GPU, or on the simulated device where there is none. A run without a miss
proves nothing; a response above its bound refutes something: an assumption (a job that overran its
cost, a busy machine), or the promise.
"""

from __future__ import annotations

import argparse
import json
import random
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import rtswap
from bench.machine import describe_machine
from bench.stack import stack

MIB = 1 << 20


@dataclass(frozen=True)
class Scale:
    """What a device of this kind can be asked."""

    budget_bytes: int
    width: int  # of the layers
    batches: tuple[int, ...]
    enable: dict[str, Any]

    @property
    def layer_bytes(self) -> int:
        return self.width * self.width * 4

    @staticmethod
    def of_this_machine() -> Scale:
        if torch.cuda.is_available():
            budget = 2048 * MIB
            options = {"embedded": True, "budget": budget, "static": "4GiB", "device": 0}
            return Scale(budget, 2048, (1, 64, 512), options)
        budget = 64 * MIB
        return Scale(budget, 512, (1, 16, 64), {"simulate": budget, "link_bandwidth": "1GB"})


@dataclass(frozen=True)
class Draw:
    """One task before anything is known of its costs."""

    layers: int
    batch: int
    utilisation: float
    deadline_share: float  # of the period


@dataclass
class Observed:
    """What the jobs of one task did."""

    name: str
    period_ms: float
    arena_bytes: int
    wcet_ms: float
    bound_ms: float = 0.0  # the largest in force
    jobs: int = 0
    missed: int = 0
    dropped: int = 0
    above_bound: int = 0
    overruns: int = 0  # jobs that executed for longer than the cost that was promised with, waits
    # for memory left out
    response_max_ms: float = 0.0
    largest_share: float = 0.0  # of a bound that a response used


@dataclass
class SetReport:
    """One admitted set."""

    demand: float
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
    load = rng.uniform(0.2, 0.6)
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


def execution_ms(task: rtswap.Task, model: nn.Module, x: torch.Tensor) -> float:
    """The worst of a few jobs on this device, memory resident."""
    times = []
    for _ in range(4):
        with task.job() as job:
            model(x)
        times.append(job.execution_ms)
    return max(times[1:])


def register_set(scale: Scale, draws: list[Draw]) -> list[tuple[rtswap.Task, nn.Module, Any]]:
    """All of the set, admitted; raises AdmissionRefused otherwise."""
    link_bytes_per_ms = 1e6 if not torch.cuda.is_available() else 50e6
    members = []
    for index, draw in enumerate(draws):
        model, x = stack(scale.width, draw.layers, draw.batch)
        probe = rtswap.register(model, name=f"probe{index}")
        x = x.to(probe.device)
        cost_ms = execution_ms(probe, model, x) + probe.stats().arena_bytes / link_bytes_per_ms
        probe.close()
        period_ms = cost_ms / draw.utilisation
        task = rtswap.register(
            model,
            name=f"task{index}",
            period_ms=period_ms,
            deadline_ms=period_ms * draw.deadline_share,
            example_inputs=(x,),
        )
        members.append((task, model, x))
    return members


def observe(
    task: rtswap.Task, model: nn.Module, x: torch.Tensor, stop: threading.Event, seen: Observed
) -> None:
    """Runs the task's jobs by its clock until `stop`."""
    torch.set_num_threads(1)  # counts for the thread that calls it
    clock = task.jobs()
    while not stop.is_set():
        job = next(clock)
        before_ms = task.promise.response_bound_ms or 0.0
        try:
            with job, torch.inference_mode():
                model(x)
        except rtswap.JobDropped:
            seen.dropped += 1
            continue
        bound_ms = max(before_ms, task.promise.response_bound_ms or 0.0)
        seen.jobs += 1
        seen.missed += not job.met
        seen.response_max_ms = max(seen.response_max_ms, job.response_ms)
        seen.bound_ms = max(seen.bound_ms, bound_ms)
        if bound_ms > 0:
            seen.above_bound += job.response_ms > bound_ms
            seen.largest_share = max(seen.largest_share, job.response_ms / bound_ms)


def run_set(scale: Scale, demand: float, draws: list[Draw], seconds: float) -> SetReport | None:
    """None: the set was refused."""
    rtswap.enable(**scale.enable)
    try:
        try:
            members = register_set(scale, draws)
        except rtswap.AdmissionRefused:
            return None
        report = SetReport(demand)
        stop = threading.Event()
        threads = []
        for task, model, x in members:
            promise = task.promise
            seen = Observed(
                task.name, task.period_ms or 0.0, task.stats().arena_bytes, promise.wcet_ms or 0.0
            )
            report.tasks.append(seen)
            threads.append(threading.Thread(target=observe, args=(task, model, x, stop, seen)))
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        stop.set()
        for thread in threads:
            thread.join()
        overruns = {task.name.split("@")[0]: task.overruns for task in rtswap.stats().tasks}
        for seen in report.tasks:
            seen.overruns = overruns[seen.name]
        return report
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
    drawn = 0
    while len(reports) < arguments.sets and drawn < 20 * arguments.sets:
        demand = 1.2 + 1.8 * (drawn % 10) / 9
        drawn += 1
        report = run_set(scale, demand, draw_set(scale, demand, rng), arguments.seconds)
        if report is None:
            continue
        reports.append(report)
        shares = " ".join(f"{task.largest_share:.2f}" for task in report.tasks)
        print(f"set {len(reports)} of {drawn} drawn, demand {demand:.2f}: response/bound {shares}")

    tasks = [task for report in reports for task in report.tasks]
    unbroken = [r for r in reports if not any(task.overruns for task in r.tasks)]
    summary = {
        "sets_drawn": drawn,
        "sets_admitted": len(reports),
        "jobs": sum(task.jobs for task in tasks),
        "missed": sum(task.missed for task in tasks),
        "dropped": sum(task.dropped for task in tasks),
        "overruns": sum(task.overruns for task in tasks),
        "above_bound": sum(task.above_bound for task in tasks),
        "sets_without_overruns": len(unbroken),
        "above_bound_in_those": sum(task.above_bound for r in unbroken for task in r.tasks),
        "largest_share": max((task.largest_share for task in tasks), default=0.0),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": describe_machine(),
        "summary": summary,
        "sets": [asdict(report) for report in reports],
    }
    arguments.output.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
