"""Figures of the main path on a GPU, as ratios to raw pinned copies made in the same run.

    python -m bench.first_light --output bench/results/NAME.json

Restore, hand-over between processes, grant round trip, warm overhead and host memory; medians of
repeats.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.allocation import region_allocation
from bench.host_memory import host_memory
from bench.machine import describe_machine
from bench.spread import spread
from tests.support.daemon import Daemon
from tests.support.worker import Worker

REPEATS = 15
MODEL = "encoder_4gb"


def raw_copy_ms(size_bytes: int) -> list[float]:
    """Time of one pinned host-to-device cudaMemcpyAsync of so many bytes, repeated."""
    host = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)
    host.fill_(7)
    device = torch.empty(size_bytes, dtype=torch.uint8, device="cuda")
    times = []
    for _ in range(REPEATS + 2):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        device.copy_(host, non_blocking=True)
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) * 1e3)
    return times[2:]


def hand_over(budget: str, chunk: str) -> dict[str, Any]:
    """Two processes that take the memory from each other at every job."""
    with Daemon("--budget", budget, "--chunk", chunk) as daemon, Worker() as a, Worker() as b:
        options = {"socket": daemon.socket, "static": "6GiB"}
        Worker.call_all((a, b), "enable", options, options)
        registered = ({"model": MODEL, "name": name, "seed": ord(name)} for name in "ab")
        size = Worker.call_all((a, b), "register", *registered)[0]["bytes"]
        execution = b.call("execution_ms", count=REPEATS)
        walls, waits, exact = [], [], True
        for _ in range(REPEATS + 2):
            [first] = a.call("jobs")
            [second] = b.call("jobs")
            walls.append(second["wall_ms"])
            waits.append(second["waited_ms"])
            exact = exact and first["exact"] and second["exact"]
            assert second["restored_bytes"] >= 4e9, second
    return {
        "model_bytes": size,
        "restored_bytes": second["restored_bytes"],
        "execution_ms": spread(execution),
        "wait_ms": spread(waits[2:]),
        "wall_ms": spread(walls[2:]),
        "exact": exact,
    }


def hand_over_parts(moved: dict[str, Any], raw_ms: float) -> dict[str, float]:
    """Where the wall time of a job goes that takes the memory over; from medians.

    raw_ms:
        of one raw copy of the bytes that were restored.
    """
    wall_ms, wait_ms, execution_ms = (
        moved[name]["median"] for name in ("wall_ms", "wait_ms", "execution_ms")
    )
    beyond_ms = wall_ms - raw_ms - execution_ms
    return {
        "raw_copy_ms": raw_ms,
        "execution_ms": execution_ms,
        "wait_beyond_copy_ms": wait_ms - raw_ms,  # evict, map, grant
        "host_ms": wall_ms - wait_ms - execution_ms,
        "neither_copy_nor_execution_ms_per_gb": beyond_ms / (moved["restored_bytes"] / 1e9),
    }


def warm_overhead(model: str) -> dict[str, Any]:
    """A resident model inside jobs against plain torch, alternating in one process."""
    import rtswap
    from tests.support import models

    plain, inputs = models.build(model)
    swapped, _ = models.build(model)
    plain, inputs = plain.cuda().eval(), inputs.cuda()
    task = rtswap.register(swapped.eval(), name=model, resident=True, on_refusal="best_effort")

    def timed(module: torch.nn.Module) -> float:
        begin = time.perf_counter()
        module(inputs)
        torch.cuda.current_stream().synchronize()
        return (time.perf_counter() - begin) * 1e3

    times: dict[str, list[float]] = {"plain": [], "inside": [], "whole_job": [], "beside": []}
    with torch.inference_mode():
        for _ in range(200):
            times["plain"].append(timed(plain))
            begin = time.perf_counter()
            with task.job() as job:
                times["inside"].append(timed(swapped))
            times["whole_job"].append((time.perf_counter() - begin) * 1e3)
            # Neither the model nor the wait for the grant.
            times["beside"].append(times["whole_job"][-1] - times["inside"][-1] - job.waited_ms)
    task.close()
    return {
        "model": model,
        **{f"{key}_ms": spread(value[20:]) for key, value in times.items()},
        "ratio_inside": median(times["inside"][20:]) / median(times["plain"][20:]),
    }


def embedded_figures() -> dict[str, Any]:
    """Warm overhead and host memory with the arbiter embedded in this process."""
    import rtswap

    rtswap.enable(embedded=True, budget="4GiB", static="4GiB", device=0)
    result = [warm_overhead(name) for name in ("cnn", "encoder_24")]
    allocation = region_allocation()
    memory = host_memory()
    rtswap.disable()
    return {"warm": result, "region_allocation": allocation, "host_memory": memory}


def grant_latency(binary: Path) -> list[dict[str, Any]]:
    """Release to Run through the daemon with eight C++ clients: often idle, and often contended."""
    reports = []
    for mean_pause_ms, requests in ((33, 200), (5, 1000)):
        command = [binary, "8", str(requests), str(mean_pause_ms)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        reports.append(dict(json.loads(output.strip().splitlines()[-1])))
    return reports


def main() -> None:
    """Run everything and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--grant-latency", type=Path, help="path of the grant_latency benchmark")
    parser.add_argument("--budget", default="4352MiB")
    parser.add_argument("--chunk", default="32MiB")
    arguments = parser.parse_args()

    report: dict[str, Any] = {"machine": describe_machine()}
    if arguments.grant_latency:
        report["grant"] = grant_latency(arguments.grant_latency)
    report["hand_over"] = moved = hand_over(arguments.budget, arguments.chunk)
    raw = raw_copy_ms(moved["restored_bytes"])
    report["raw_copy_ms"] = spread(raw)
    report["restore_ratio"] = median(raw) / moved["wait_ms"]["median"]
    report["hand_over_ratio"] = moved["wall_ms"]["median"] / (
        median(raw) + moved["execution_ms"]["median"]
    )
    report["hand_over_parts"] = hand_over_parts(moved, median(raw))
    report |= embedded_figures()

    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
