"""The cast of the demo: four models that do not fit their device together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from rtswap.demo import models

MIB = 1 << 20


@dataclass(frozen=True)
class Role:
    """One task of the demo: its model and how eager it is."""

    name: str
    build: Callable[[int], nn.Module]  # scale -> model
    make_input: Callable[[int], Tensor]  # seed -> one input
    what: str
    pace: float = 1.0  # its period relative to the others'
    offset_ms: float = 0.0  # first release after the common start


# In the order of their deadlines. The large model looks at every second image, and is released just
# before the others: the worst case of a device that cannot interrupt a running job, so both
# disciplines have to live with it.
ROLES: tuple[Role, ...] = (
    Role(
        "camera",
        lambda scale: models.residual_cnn(256, 12 * scale, seed=1),
        lambda seed: models.image(48, seed),
        "residual CNN",
        offset_ms=20.0,
    ),
    Role(
        "signs",
        lambda scale: models.residual_cnn(256, 15 * scale, seed=2),
        lambda seed: models.image(48, seed),
        "deeper residual CNN",
        offset_ms=40.0,
    ),
    Role(
        "radar",
        lambda scale: models.transformer_encoder(512, 5 * scale, seed=3),
        lambda seed: models.feature_tokens(512, 16, seed),
        "transformer",
        pace=1.25,
        offset_ms=60.0,
    ),
    Role(
        "scene",
        lambda scale: models.transformer_encoder(736, 9 * scale, seed=4),
        lambda seed: models.feature_tokens(736, 16, seed),
        "transformer, 4x size",
        pace=2.0,
    ),
)

# Asks to join when the device is already spoken for, and must be refused.
LATECOMER = Role(
    "latecomer",
    lambda scale: models.transformer_encoder(736, 9 * scale, seed=5),
    lambda seed: models.feature_tokens(736, 16, seed),
    "transformer, 4x size",
)


def role_named(name: str) -> Role:
    for role in (*ROLES, LATECOMER):
        if role.name == name:
            return role
    raise KeyError(name)


@dataclass(frozen=True)
class Memory:
    """Device memory of one model, as the bank will count it."""

    read_only_bytes: int  # parameters
    mutable_bytes: int  # buffers

    @classmethod
    def of(cls, model: nn.Module) -> Memory:
        return cls(
            sum(p.nbytes for p in model.parameters()), sum(b.nbytes for b in model.buffers())
        )

    @property
    def total_bytes(self) -> int:
        return self.read_only_bytes + self.mutable_bytes

    def chunks(self, chunk_bytes: int) -> int:
        """Whole chunks when each kind has its own; 512 bytes of padding per tensor do not show."""
        return -(-self.read_only_bytes // chunk_bytes) + -(-self.mutable_bytes // chunk_bytes)


def choose_scale(available_bytes: int, cuda: bool) -> int:
    """How many times the basic number of layers: GPUs get models that are worth swapping."""
    basic_total_bytes = 420 * MIB
    copies = 4  # model, host image, bank, and one latecomer's share
    wanted = 4 if cuda else 1
    while wanted > 1 and wanted * basic_total_bytes * copies > available_bytes // 2:
        wanted -= 1
    return wanted


def budget_chunks(memories: list[Memory], chunk_bytes: int) -> int:
    """Half of all models, or the largest alone and two chunks where that is more."""
    total = sum(memory.chunks(chunk_bytes) for memory in memories)
    largest = max(memory.chunks(chunk_bytes) for memory in memories)
    return max(total // 2, largest + 2)


def available_host_bytes() -> int:
    with Path("/proc/meminfo").open(encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo has no MemAvailable: rtswap needs Linux 3.14 or later")
