"""Allocations inside a region of a task against torch's own, by turns in one job."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch
from torch import nn

import rtswap
from bench.spread import spread

SIZES_BYTES = tuple(1 << power for power in range(9, 24, 2))  # 512 bytes to 8 MiB
REPEATS = 200


def region_allocation() -> dict[str, Any]:
    """REQUIRES: rtswap is enabled on a GPU. Times are of one allocation and its release."""
    task = rtswap.register(nn.Linear(64, 64), name="allocation", resident=True)
    region = rtswap.region(task, "256MiB")

    def microseconds(where: AbstractContextManager[object]) -> float:
        with where:
            begin_ns = time.perf_counter_ns()
            for size in SIZES_BYTES:
                torch.empty(size, dtype=torch.uint8, device="cuda")
            return (time.perf_counter_ns() - begin_ns) / 1e3 / len(SIZES_BYTES)

    inside, native = [], []
    with task.job():
        first_inside = microseconds(region)
        for _ in range(REPEATS):
            native.append(microseconds(nullcontext()))
            inside.append(microseconds(region))
    task.close()
    return {
        "sizes_bytes": SIZES_BYTES,
        "native_us": spread(native),
        "inside_us": spread(inside),
        "first_inside_us": first_inside,  # torch asks the region for segments
        "ratio": median(inside) / median(native),
    }
