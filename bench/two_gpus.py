"""Restores on two GPUs at once, as ratios to raw pinned copies on both at once in the same run.

    python -m bench.two_gpus --output bench/results/NAME.json

On each GPU two processes take the memory from each other, so that every job restores its model;
jobs of both GPUs are asked for at the same instant. Then two models of which one half lies on each
GPU do the same: one job restores both halves. Medians of repeats.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.first_light import REPEATS, spread
from bench.machine import describe_machine
from rtswap.devices import cuda_uuid
from tests.support.daemon import Daemon
from tests.support.worker import Worker

WARM_UP = 2
ALONE = "encoder_4gb"
HALVES = "spread_8gb"


def raw_copies_ms(sizes_bytes: list[int]) -> list[list[float]]:
    """Times of one pinned host-to-device cudaMemcpyAsync on each GPU, all begun at once."""
    at_once = threading.Barrier(len(sizes_bytes))
    times: list[list[float]] = [[] for _ in sizes_bytes]
    failures: list[BaseException] = []

    def copy(gpu: int, size_bytes: int) -> None:
        try:
            torch.cuda.set_device(gpu)
            host = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)
            host.fill_(gpu + 1)
            device = torch.empty(size_bytes, dtype=torch.uint8, device=f"cuda:{gpu}")
            for _ in range(REPEATS + WARM_UP):
                torch.cuda.synchronize(gpu)
                at_once.wait(60)
                begin = time.perf_counter()
                device.copy_(host, non_blocking=True)
                torch.cuda.synchronize(gpu)
                times[gpu].append((time.perf_counter() - begin) * 1e3)
        except BaseException as error:
            failures.append(error)
            at_once.abort()

    threads = [threading.Thread(target=copy, args=each) for each in enumerate(sizes_bytes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure
    torch.cuda.empty_cache()
    return [values[WARM_UP:] for values in times]


def overlap(jobs: list[dict[str, Any]]) -> float:
    """Part of the longest wait during which all of them waited."""
    begins = [job["begin_ms"] for job in jobs]
    ends = [job["begin_ms"] + job["waited_ms"] for job in jobs]
    return max(0.0, min(ends) - max(begins)) / max(job["waited_ms"] for job in jobs)


def clients(daemon: Daemon, registered: list[dict[str, Any]], gpus: list[str]) -> list[Worker]:
    """A process for each model, each with a GPU for what it computes beside the bank."""
    workers = [Worker() for _ in registered]
    options = [{"socket": daemon.socket, "device": gpu, "static": "12GiB"} for gpu in gpus]
    Worker.call_all(workers, "enable", *options)
    Worker.call_all(workers, "register", *registered)
    return workers


def separate_models(daemon: Daemon, gpus: list[str]) -> dict[str, Any]:
    """One restore on each GPU, at once."""
    owners = [gpu for gpu in gpus for _ in "ab"]
    registered = [{"model": ALONE, "seed": seed} for seed in range(len(owners))]
    workers = clients(daemon, registered, owners)
    firsts, seconds = workers[0::2], workers[1::2]
    nothing: list[dict[str, Any]] = [{} for _ in gpus]
    rounds = []
    for _ in range(REPEATS + WARM_UP):
        pushed_out = Worker.call_all(firsts, "jobs", *nothing)
        measured = Worker.call_all(seconds, "jobs", *nothing)
        rounds.append([job for [job] in measured])
        assert all(job["exact"] for [job] in (*pushed_out, *measured))
        assert all(job["restored_bytes"] >= 4e9 for [job] in measured), measured
    for worker in workers:
        worker.close()
    rounds = rounds[WARM_UP:]
    sizes_bytes = [job["restored_bytes"] for job in rounds[0]]
    raw_ms = raw_copies_ms(sizes_bytes)
    result: dict[str, Any] = {"overlap": spread([overlap(jobs) for jobs in rounds]), "gpus": []}
    for index, gpu in enumerate(gpus):
        waits_ms = [jobs[index]["waited_ms"] for jobs in rounds]
        result["gpus"].append(
            {
                "uuid": gpu,
                "restored_bytes": sizes_bytes[index],
                "wait_ms": spread(waits_ms),
                "raw_copy_ms": spread(raw_ms[index]),
                "restore_ratio": median(raw_ms[index]) / median(waits_ms),
            }
        )
    return result


def spanning_models(daemon: Daemon, gpus: list[str]) -> dict[str, Any]:
    """One job that restores a half on each GPU, against the slower of the raw copies."""
    places = dict(zip(("encoder", "decoder"), gpus, strict=True))
    registered = [{"model": HALVES, "seed": seed, "device": places} for seed in range(2)]
    workers = clients(daemon, registered, gpus)
    jobs = []
    for _ in range(REPEATS + WARM_UP):
        [pushed_out], [job] = (worker.call("jobs") for worker in workers)
        assert pushed_out["exact"]
        assert job["exact"]
        assert job["restored_bytes"] >= 8e9, job
        jobs.append(job)
    for worker in workers:
        worker.close()
    size_bytes = jobs[0]["restored_bytes"]
    raw_ms = [max(pair) for pair in zip(*raw_copies_ms([size_bytes // 2] * 2), strict=True)]
    waits_ms = [job["waited_ms"] for job in jobs[WARM_UP:]]
    return {
        "restored_bytes": size_bytes,
        "wait_ms": spread(waits_ms),
        "raw_copies_ms": spread(raw_ms),
        "restore_ratio": median(raw_ms) / median(waits_ms),
    }


def main() -> None:
    """Run everything and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--budget", default="4352MiB")
    parser.add_argument("--chunk", default="32MiB")
    arguments = parser.parse_args()
    if torch.cuda.device_count() < 2:
        parser.error(f"needs two GPUs, and there are {torch.cuda.device_count()}")

    gpus = [cuda_uuid(index) for index in range(2)]
    flags = ["--budget", arguments.budget, "--chunk", arguments.chunk]
    for gpu in gpus:
        flags += ["--device", gpu]
    report: dict[str, Any] = {"machine": describe_machine()}
    with Daemon(*flags) as daemon:
        report["separate"] = separate_models(daemon, gpus)
        report["spanning"] = spanning_models(daemon, gpus)

    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
