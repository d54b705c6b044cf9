"""How soon a job whose memory is away has its result: it starts while the rest still loads.

    python -m bench.start --output bench/results/NAME.json

Two models of the same size share memory for one of them, in one process with an embedded arbiter,
and run in turn: each job finds its memory away. The floor is one raw copy of that memory, or the
execution with all of it there, whichever takes longer. Without a GPU it runs on the simulated
device, whose figures say nothing about one.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import rtswap
from bench.machine import describe_machine
from bench.spread import spread
from bench.stack import stack

REPEATS = 11
PERIOD_MS = 1000
"""Of each model; jobs keep this distance, since one that comes early waits for its time."""
MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """A stack of equal layers, and how large a batch it works on."""

    name: str
    width: int
    layers: int
    batch: int

    def build(self) -> tuple[nn.Module, Tensor]:
        return stack(self.width, self.layers, self.batch)


def cases(gpu: bool) -> list[Case]:
    """One whose copy takes longer than its execution, one the other way round."""
    if gpu:
        return [Case("load-bound", 4096, 64, 1), Case("compute-bound", 4096, 64, 4096)]
    return [Case("load-bound", 512, 64, 1), Case("compute-bound", 512, 64, 16)]


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def raw_copy_ms(size_bytes: int) -> list[float]:
    """One pinned cudaMemcpyAsync of so many bytes."""
    host = torch.empty(size_bytes, dtype=torch.uint8).pin_memory()
    host.fill_(7)
    device = torch.empty(size_bytes, dtype=torch.uint8, device="cuda")
    return [timed_ms(lambda: device.copy_(host, non_blocking=True)) for _ in range(REPEATS + 2)][2:]


def timed_ms(call: Any) -> float:
    synchronize()
    begin = time.perf_counter()
    call()
    synchronize()
    return (time.perf_counter() - begin) * 1e3


def measure(case: Case, gpu: bool) -> dict[str, Any]:
    (first, inputs), (second, _) = case.build(), case.build()
    size_bytes = sum(p.numel() * p.element_size() for p in first.parameters())
    budget = size_bytes + (64 * MIB if gpu else 4 * MIB)
    if gpu:
        rtswap.enable(embedded=True, budget=budget, static="12GiB", device=0)
    else:
        rtswap.enable(simulate=budget, link_bandwidth="500MB")
    try:
        tasks = [
            rtswap.register(
                model, name=name, period_ms=PERIOD_MS, example_inputs=(inputs,), timeout=120
            )
            for name, model in (("first", first), ("second", second))
        ]
        x = inputs.to(tasks[0].device)
        results, whole, began, waited, alone = [], [], [], [], []
        expected: dict[str, Tensor] = {}
        with torch.inference_mode():
            for count in range(-1, REPEATS):
                for task, model in zip(tasks, (first, second), strict=True):
                    time.sleep(PERIOD_MS / 2e3)
                    begin = time.perf_counter()
                    with task.job() as job:
                        y = model(x)
                        synchronize()
                        took = (time.perf_counter() - begin) * 1e3
                        alone_ms = timed_ms(lambda model=model: model(x))
                    if not torch.equal(y, expected.setdefault(task.name, y.clone())):
                        raise RuntimeError("a job computed something else after a swap")
                    if count < 0 or not job.restored_bytes:
                        continue
                    results.append(took)
                    began.append(job.began_on_prefix)
                    waited.append(job.memory_wait_ms)
                    alone.append(alone_ms)
                    whole.append(job.restored_bytes)
        restored_bytes = round(median(whole))
        copy_ms = restored_bytes / 500e3 if not gpu else median(raw_copy_ms(restored_bytes))
        chunk_ms = copy_ms * rtswap.info().chunk_bytes / restored_bytes
    finally:
        rtswap.disable()
    floor_ms = max(copy_ms, median(alone))
    return {
        "case": case.name,
        "bytes": size_bytes,
        "restored_bytes": restored_bytes,
        "jobs": len(results),
        "began_on_prefix": sum(began),
        "copy_ms": copy_ms,
        "execution_ms": median(alone),
        "result_ms": spread(results),
        "memory_wait_ms": median(waited),
        "one_chunk_ms": chunk_ms,
        "ratio": (median(results) - chunk_ms) / floor_ms,
        "ratio_of_waiting_first": (copy_ms + median(alone)) / floor_ms,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    gpu = torch.cuda.is_available()
    found = [measure(case, gpu) for case in cases(gpu)]
    document = {"machine": describe_machine(), "start": found}
    print(json.dumps(found, indent=1))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
