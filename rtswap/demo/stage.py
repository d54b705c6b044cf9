"""The device of the demo: how large, how fast, and how the daemon is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from rtswap.demo import costs
from rtswap.demo.calibrate import Link
from rtswap.demo.taskset import MIB, Memory, available_host_bytes, budget_chunks, choose_scale

CHUNK_BYTES = 2 * MIB
# What the daemon charges for mapping and unmapping one chunk.
SIMULATED_CHUNK_COST_NS = 200_000 * (CHUNK_BYTES // MIB)
CUDA_CHUNK_COST_NS = 100_000

Discipline = Literal["request-order", "edf"]


@dataclass(frozen=True)
class Stage:
    """Where the demo plays. `link_bytes_per_s` is 0 on a GPU until a client has measured it."""

    cuda: bool
    scale: int
    link_bytes_per_s: int

    @classmethod
    def choose(cls) -> Stage:
        cuda = torch.cuda.is_available()
        scale = choose_scale(available_host_bytes(), cuda)
        return cls(cuda, scale, 0 if cuda else costs.simulated_link_bytes_per_s())

    def describe(self) -> str:
        if self.cuda:
            return f"{torch.cuda.get_device_name(0)}"
        return f"a simulated device, its link at {self.link_bytes_per_s / 1e9:.2f} GB/s"

    def link(self, measured_bytes_per_s: int) -> Link:
        if self.cuda:
            # The daemon plans with the worst copy any client saw: leave it some room.
            return Link(measured_bytes_per_s * 8 // 10, CHUNK_BYTES, CUDA_CHUNK_COST_NS)
        return Link(self.link_bytes_per_s, CHUNK_BYTES, SIMULATED_CHUNK_COST_NS)

    def bank_bytes(self, memories: list[Memory]) -> int:
        return budget_chunks(memories, CHUNK_BYTES) * CHUNK_BYTES

    def daemon_flags(self, discipline: Discipline, bank_bytes: int, trace: Path) -> list[str]:
        flags = [
            "--discipline",
            discipline,
            "--budget",
            str(bank_bytes),
            "--chunk",
            str(CHUNK_BYTES),
            "--trace",
            str(trace),
        ]
        if not self.cuda:
            flags += ["--simulate", str(2 * bank_bytes)]
            flags += ["--link-bandwidth", str(self.link_bytes_per_s)]
        return flags
