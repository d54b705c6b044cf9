"""The tables that sets are drawn from: models with their memory and cost, and the link."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "profiles"
TABLES = ("h200-gen5", "scaled-24gb-gen4")


@dataclass(frozen=True)
class Model:
    """One model of a table: all of its memory is read_only weights."""

    name: str
    family: str  # "vision" or "language"
    weights_bytes: int
    execution_ns: int  # alone on the GPU, all memory there
    stretches: tuple[tuple[int, int], ...]
    """(bytes, ns) in order: what runs for so long needs no more than the first bytes."""


@dataclass(frozen=True)
class Table:
    name: str
    machine: str
    origin: str  # "measured" or "scaled"
    notes: tuple[str, ...]
    link_bytes_per_s: int
    slowdown_beside_copy: float  # execution beside copies / execution alone
    models: tuple[Model, ...]


def _stretches(entry: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    """Measured ones, [MB, ms] each, or a number: so many of equal memory and execution."""
    given = entry["stretches"]
    if isinstance(given, int):
        shares = [(layer / given, 1 / given) for layer in range(1, given + 1)]
        given = [(entry["weights_mb"] * a, entry["execution_ms"] * b) for a, b in shares]
    return tuple((round(megabytes * 10**6), round(ms * 10**6)) for megabytes, ms in given)


def read_table(name: str) -> Table:
    values = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    models = tuple(
        Model(
            name=entry["name"],
            family=entry["family"],
            weights_bytes=round(entry["weights_mb"] * 10**6),
            execution_ns=round(entry["execution_ms"] * 10**6),
            stretches=_stretches(entry),
        )
        for entry in values["models"]
    )
    return Table(
        name=values["name"],
        machine=values["machine"],
        origin=values["origin"],
        notes=tuple(values["notes"]),
        link_bytes_per_s=values["link_bytes_per_s"],
        slowdown_beside_copy=values["slowdown_beside_copy"],
        models=models,
    )
