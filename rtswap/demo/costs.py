"""What one forward pass costs on the machine at hand, measured the way the demo will run it.

On the simulated device "the GPU" is the calling CPU thread and the link is a memory copy, so a
pass is measured beside a copy at the link's pace: that is the company it will keep.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SLICE_BYTES = 1 << 20


@dataclass(frozen=True)
class Cost:
    typical_ns: int
    worst_ns: int


class PacedCopy:
    """Copies `bytes_per_s` from memory to memory in the background while in its `with` block."""

    def __init__(self, bytes_per_s: int) -> None:
        self._slice_s = SLICE_BYTES / bytes_per_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._copy, name="paced-copy", daemon=True)

    def __enter__(self) -> PacedCopy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _copy(self) -> None:
        source = torch.ones(64 * SLICE_BYTES, dtype=torch.uint8)
        target = torch.zeros_like(source)
        due = time.monotonic()
        at = 0
        while not self._stop.is_set():
            target[at : at + SLICE_BYTES].copy_(source[at : at + SLICE_BYTES])
            at = (at + SLICE_BYTES) % source.numel()
            due += self._slice_s
            time.sleep(max(0.0, due - time.monotonic()))


def memory_copy_bytes_per_s() -> int:
    """Speed of one thread copying warm memory, the best of five."""
    source = torch.ones(64 << 20, dtype=torch.uint8)
    target = torch.zeros_like(source)
    best_ns = min(_time_ns(lambda: target.copy_(source)) for _ in range(5))
    return source.numel() * 1_000_000_000 // best_ns


def simulated_link_bytes_per_s() -> int:
    """1 GB/s, or an eighth of what this machine's memory does where that is less."""
    return min(1_000_000_000, memory_copy_bytes_per_s() // 8)


def measure_simulated(
    model: nn.Module, example: Tensor, link_bytes_per_s: int, passes: int
) -> Cost:
    with PacedCopy(link_bytes_per_s), torch.inference_mode():
        return _measure(lambda: model(example), passes)


def measure_cuda(model: nn.Module, example: Tensor, passes: int) -> Cost:
    """The model is on the GPU, alone and resident."""

    def forward() -> None:
        model(example)
        torch.cuda.synchronize()

    with torch.inference_mode():
        return _measure(forward, passes)


def cuda_link_bytes_per_s() -> int:
    """The worst of five pinned copies of 64 MiB to the device."""
    source = torch.empty(64 << 20, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(source, device="cuda")

    def copy() -> None:
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize()

    copy()
    return source.numel() * 1_000_000_000 // max(_time_ns(copy) for _ in range(5))


def _measure(forward: Callable[[], object], passes: int) -> Cost:
    for _ in range(3):
        forward()
    times_ns = sorted(_time_ns(forward) for _ in range(passes))
    return Cost(typical_ns=times_ns[len(times_ns) // 2], worst_ns=times_ns[-1])


def _time_ns(action: Callable[[], object]) -> int:
    begin_ns = time.perf_counter_ns()
    action()
    return time.perf_counter_ns() - begin_ns
