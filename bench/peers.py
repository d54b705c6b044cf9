"""What other ways of moving weights off a GPU and back cost, each beside raw copies of its bytes.

    python -m bench.peers --swap-speed build/bench_swap_speed --output bench/results/NAME.json

Systems, each in a process of its own, since two of them hook the allocator:

to
    `tensor.to("cpu")` and back: what a program does without any of them. Pageable memory.
torch_memory_saver
    pause() and resume() of a region, with its CPU backup, which weights need, and without.
comfy_aimdo
    fault, copy from pinned memory, unpin; free_memory. Unchanged weights are not written back.
rtswap
    bench_swap_speed: restore and evict of one arena, `read_only` as comfy_aimdo's and `mutable` as
    torch_memory_saver's.

The peers are not part of rtswap: a system whose package is not installed is left out and said so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.machine import describe_machine

REPEATS = 9
PACKAGES = {
    "to": None,
    "torch_memory_saver": "torch_memory_saver",
    "torch_memory_saver without backup": "torch_memory_saver",
    "comfy_aimdo": "comfy_aimdo",
}
CASES = ((4_400_000_000, 16 << 20), (230_000_000, 1_484_000))
"""(bytes, bytes of each tensor)"""


@dataclass(frozen=True)
class Swapper:
    """One system with its tensors on the device. Calls return when the GPU has done its part."""

    tensors: Callable[[], list[Tensor]]  # on the device, while they are there
    out: Callable[[], None]
    back: Callable[[], None]
    keeps: bool = True  # the bytes


def sizes(total_bytes: int, tensor_bytes: int) -> list[int]:
    whole, rest = divmod(total_bytes, tensor_bytes)
    return [tensor_bytes] * whole + ([rest] if rest else [])


def random_bytes(count: int) -> Tensor:
    return torch.randint(0, 256, (count,), dtype=torch.uint8, device="cuda")


def pinned_random_bytes(count: int) -> Tensor:
    host = torch.empty(count, dtype=torch.uint8, pin_memory=True)
    return host.copy_(random_bytes(count))


def plain(parts: list[int]) -> Swapper:
    held = [random_bytes(count) for count in parts]

    def move(place: str) -> None:
        for index, tensor in enumerate(held):
            held[index] = tensor.to(place)

    def out() -> None:
        move("cpu")
        torch.cuda.empty_cache()

    return Swapper(lambda: held, out, lambda: move("cuda"))


def memory_saver(parts: list[int], *, backup: bool) -> Swapper:
    from torch_memory_saver import torch_memory_saver

    torch_memory_saver.hook_mode = "torch"
    with torch_memory_saver.region(tag="weights", enable_cpu_backup=backup):
        held = [torch.empty(count, dtype=torch.uint8, device="cuda") for count in parts]
    for tensor in held:
        tensor.copy_(random_bytes(tensor.numel()))
    return Swapper(
        lambda: held,
        lambda: torch_memory_saver.pause("weights"),
        lambda: torch_memory_saver.resume("weights"),
        keeps=backup,
    )


def aimdo(parts: list[int]) -> Swapper:
    from comfy_aimdo import control

    if not control.init() or not control.init_device(0):
        raise RuntimeError("comfy_aimdo does not initialise here")
    # These look for the library that init() loads when they are imported.
    from comfy_aimdo.model_vbar import ModelVBAR
    from comfy_aimdo.torch import aimdo_to_tensor

    device = torch.device("cuda", 0)
    vbar = ModelVBAR(sum(parts) + (64 << 20), 0)
    places = [vbar.alloc(count) for count in parts]
    hosts = [pinned_random_bytes(count) for count in parts]
    views: list[Tensor] = []

    def back() -> None:
        views.clear()
        vbar.prioritize()
        for place, host in zip(places, hosts, strict=True):
            _, address, count = place
            if vbar.fault(address, count) is None:
                raise RuntimeError("comfy_aimdo found no memory")
            view = aimdo_to_tensor(place, device)
            view.copy_(host, non_blocking=True)
            views.append(view)
            vbar.unpin(address, count)
        torch.cuda.synchronize()

    def out() -> None:
        views.clear()
        vbar.free_memory(sum(parts) + (64 << 20))

    back()
    return Swapper(lambda: views, out, back)


MAKERS: dict[str, Callable[[list[int]], Swapper]] = {
    "to": plain,
    "torch_memory_saver": lambda parts: memory_saver(parts, backup=True),
    "torch_memory_saver without backup": lambda parts: memory_saver(parts, backup=False),
    "comfy_aimdo": aimdo,
}


def timed_ms(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    begin = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) * 1e3


def sample(tensors: list[Tensor]) -> list[Tensor]:
    """Enough of every tensor to notice that it is not what it was."""
    return [tensor[:: max(1, tensor.numel() // 4096)].cpu() for tensor in tensors]


def measure_one(system: str, total_bytes: int, tensor_bytes: int) -> dict[str, Any]:
    """In this process: medians of out and back, beside raw copies between them."""
    host = pinned_random_bytes(total_bytes)
    device = torch.empty(total_bytes, dtype=torch.uint8, device="cuda")
    swapper = MAKERS[system](sizes(total_bytes, tensor_bytes))
    before = sample(swapper.tensors())
    times: dict[str, list[float]] = {"out": [], "back": [], "raw_in": [], "raw_out": []}
    for count in range(-2, REPEATS):
        found = {
            "out": timed_ms(swapper.out),
            "raw_in": timed_ms(lambda: device.copy_(host, non_blocking=True)),
            "back": timed_ms(swapper.back),
            "raw_out": timed_ms(lambda: host.copy_(device, non_blocking=True)),
        }
        if count >= 0:
            for name, value in found.items():
                times[name].append(value)
    after = sample(swapper.tensors())
    exact = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    if swapper.keeps and not exact:
        raise RuntimeError(f"{system} brought other bytes back")
    medians = {f"{name}_ms": median(values) for name, values in times.items()}
    return {
        "system": system,
        "bytes": total_bytes,
        "tensor_bytes": tensor_bytes,
        **medians,
        "back_ratio": medians["raw_in_ms"] / medians["back_ms"],
        "out_ratio": medians["raw_out_ms"] / medians["out_ms"],
        "out_ms_per_gb": medians["out_ms"] / (total_bytes / 1e9),
    }


def measure_apart(system: str, total_bytes: int, tensor_bytes: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.peers", "--one", system]
    command += [str(total_bytes), str(tensor_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        why = done.stderr.strip().splitlines()
        return {"system": system, "bytes": total_bytes, "failed": why[-1] if why else "no words"}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def swap_speed(binary: Path) -> list[dict[str, Any]]:
    output = subprocess.run([binary, "cuda"], check=True, capture_output=True, text=True).stdout
    return list(json.loads(output)["swap_speed"])


def ours(engine: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of bench_swap_speed with its largest chunks, named as the others."""
    largest = max(row["chunk_bytes"] for row in engine)
    return [
        {
            "system": f"rtswap, {row['kind']}",
            "bytes": row["bytes"],
            "out_ms": row["evict_ms"]["median"],
            "back_ms": row["restore_ms"]["median"],
            "raw_in_ms": row["raw_in_ms"]["median"],
            "back_ratio": row["restore_ratio"],
            "out_ms_per_gb": row["evict_ms"]["median"] / (row["bytes"] / 1e9),
            **({"out_ratio": row["evict_ratio"]} if "evict_ratio" in row else {}),
        }
        for row in engine
        if row["chunk_bytes"] == largest
    ]


def print_table(rows: list[dict[str, Any]]) -> None:
    print(f"{'system':36} {'bytes':>11} {'tensors of':>11} {'back ms':>9} {'of raw':>7} out ms/GB")
    for row in rows:
        if "failed" in row:
            print(f"{row['system']:36} {row['bytes']:11} {row['failed']}")
            continue
        print(
            f"{row['system']:36} {row['bytes']:11} {row.get('tensor_bytes', '-'):>11} "
            f"{row['back_ms']:9.2f} {row['back_ratio']:7.3f} {row['out_ms_per_gb']:9.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--swap-speed", type=Path, help="path of bench_swap_speed")
    parser.add_argument("--one", nargs=3, metavar=("SYSTEM", "BYTES", "TENSOR_BYTES"))
    arguments = parser.parse_args()
    if arguments.one:
        system, total_bytes, tensor_bytes = arguments.one
        print(json.dumps(measure_one(system, int(total_bytes), int(tensor_bytes))), flush=True)
        # torch_memory_saver ends a process that frees its tensors outside their region, which is
        # what the end of the interpreter does.
        os._exit(0)
    engine = swap_speed(arguments.swap_speed) if arguments.swap_speed else []
    document: dict[str, Any] = {
        "machine": describe_machine(),
        "rows": ours(engine) if engine else [],
        "swap_speed": engine,
    }
    for system, package in PACKAGES.items():
        if package and importlib.util.find_spec(package) is None:
            print(f"{system}: {package} is not installed here; left out")
            continue
        for case in CASES:
            document["rows"].append(measure_apart(system, *case))
            print(json.dumps(document["rows"][-1]), flush=True)
            if arguments.output:  # as it goes: a run may be cut short
                arguments.output.parent.mkdir(parents=True, exist_ok=True)
                arguments.output.write_text(json.dumps(document, indent=1) + "\n")
    print_table(document["rows"])


if __name__ == "__main__":
    main()
