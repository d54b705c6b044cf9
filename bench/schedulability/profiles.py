"""The tables that sets are drawn from: models with their memory and cost, and the link."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "profiles"
TABLES = ("h100-gen5", "scaled-24gb-gen4")


@dataclass(frozen=True)
class Model:
    """One model of a table: all of its memory is read_only weights."""

    name: str
    family: str  # "vision" or "language"
    weights_bytes: int
    execution_ns: int  # alone on the GPU, all memory there
    stretches: int  # of equal memory and execution that it is taken to consist of


@dataclass(frozen=True)
class Table:
    name: str
    machine: str
    origin: str  # "measured" or "scaled"
    notes: tuple[str, ...]
    link_bytes_per_s: int
    slowdown_beside_copy: float  # execution beside copies / execution alone
    models: tuple[Model, ...]


def read_table(name: str) -> Table:
    values = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    models = tuple(
        Model(
            name=entry["name"],
            family=entry["family"],
            weights_bytes=round(entry["weights_mb"] * 10**6),
            execution_ns=round(entry["execution_ms"] * 10**6),
            stretches=entry["stretches"],
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
