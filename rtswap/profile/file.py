"""The file that a measurement leaves: one ``[[profile]]``, then its ``[[stretch]]`` in order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rtswap.errors import InvalidArgument
from rtswap.offline.toml_lines import Entry, Table, read_tables
from rtswap.units import LARGEST_BYTES, LONGEST_MS

HEAD = "# Made by `rtswap profile`: docs/planning.md says what it holds for.\n"


@dataclass(frozen=True)
class Stretch:
    """A part of the execution that needs no more than the first bytes of the model's memory."""

    bytes: int  # mutable memory counts first, then read_only memory in the order of the modules
    execution_ns: int


@dataclass(frozen=True)
class Profile:
    """One model on one device. Durations and speeds are the worst that were seen."""

    # --- what was measured ---
    model: str
    inputs: str
    read_only_bytes: int
    mutable_bytes: int
    # --- what a pass costs ---
    passes: int  # as many alone, and as many beside copies to the device
    alone_ns: int
    alone_median_ns: int  # much less than the worst: something else used the machine
    beside_copies_ns: int
    beside_copies_median_ns: int
    margin: float  # the declared cost is the larger of these two times this
    # --- memory beside the model's ---
    scratch_bytes: int  # activations at their peak; 0: not measured (the simulated device)
    static_bytes: int  # context and torch's pool; 0 on the simulated device
    # --- the device ---
    device: str
    device_uuid: str
    restore_bytes_per_s: int
    evict_bytes_per_s: int
    restore_both_ways_bytes_per_s: int  # while copies run the other way
    evict_both_ways_bytes_per_s: int
    chunk_bytes: int
    map_ns: int  # of one such chunk, access included
    unmap_ns: int
    # --- and where it comes from ---
    host: str
    torch: str
    rtswap: str
    date: str
    stretches: tuple[Stretch, ...] = ()  # the worst pass; none: it needs all memory to begin

    @property
    def size_bytes(self) -> int:
        return self.read_only_bytes + self.mutable_bytes

    @property
    def wcet_ns(self) -> int:
        """What a job is declared to cost."""
        return round(max(self.alone_ns, self.beside_copies_ns) * self.margin)

    def layers(self, chunk_bytes: int) -> list[tuple[int, int]]:
        """(chunks, ns): the stretches for chunks of another size, ``wcet_ns`` together."""
        measured_ns = sum(stretch.execution_ns for stretch in self.stretches)
        layers: list[tuple[int, int]] = []
        spent_ns = done_ns = 0
        for stretch in self.stretches:
            done_ns += stretch.execution_ns
            # Rounded up as a whole: what comes early is charged early.
            cost_ns = -(-done_ns * self.wcet_ns // measured_ns) - spent_ns
            spent_ns += cost_ns
            chunks = first_chunks(stretch.bytes, chunk_bytes, self.mutable_bytes)
            if layers and layers[-1][0] == chunks:
                layers[-1] = (chunks, layers[-1][1] + cost_ns)
            else:
                layers.append((chunks, cost_ns))
        return layers


# Each kind of memory has chunks of its own; what is written back comes first.


def first_chunks(needed_bytes: int, chunk_bytes: int, mutable_bytes: int) -> int:
    """How many of an arena's first chunks hold the first bytes of its memory."""
    first_mutable = min(needed_bytes, mutable_bytes)
    return -(-first_mutable // chunk_bytes) + -(-(needed_bytes - first_mutable) // chunk_bytes)


def first_bytes(chunks: int, chunk_bytes: int, mutable_bytes: int, read_only_bytes: int) -> int:
    """How many of the first bytes of its memory are in an arena's first chunks."""
    mutable_chunks = -(-mutable_bytes // chunk_bytes)
    if chunks <= mutable_chunks:
        return min(chunks * chunk_bytes, mutable_bytes)
    return mutable_bytes + min((chunks - mutable_chunks) * chunk_bytes, read_only_bytes)


_PLAIN = [field for field in fields(Profile) if field.name != "stretches"]
_MAY_BE_ZERO = ("mutable_bytes", "read_only_bytes", "scratch_bytes", "static_bytes")
_LONGEST_NS = round(LONGEST_MS * 1e6)
_LARGEST_MARGIN = 10**6  # twice that of a pass that takes 1 ns
_MOST_STRETCHES = 256  # as many as the arbiter takes; a measurement leaves fewer


def profile_text(profile: Profile) -> str:
    lines = [HEAD, "[[profile]]\n"]
    lines += (f"{field.name} = {json.dumps(getattr(profile, field.name))}\n" for field in _PLAIN)
    for stretch in profile.stretches:
        lines.append(
            f"\n[[stretch]]\nbytes = {stretch.bytes}\nexecution_ns = {stretch.execution_ns}\n"
        )
    return "".join(lines)


def read_profile(path: Path) -> Profile:
    """``InvalidArgument`` names file and line of what is wrong."""
    tables = read_tables(path, "profile", "stretch")
    heads = [table for table in tables if table.name == "profile"]
    if len(heads) != 1:
        raise InvalidArgument(
            f"{path} has {len(heads)} [[profile]] and should have one. Profiles are made by "
            "`rtswap profile`."
        )
    values = _values_of(heads[0], {field.name: str(field.type) for field in _PLAIN})
    profile = Profile(
        **values,
        stretches=tuple(_stretch(table) for table in tables if table.name == "stretch"),
    )
    _check_head(profile, heads[0].where)
    stretches = [table for table in tables if table.name == "stretch"]
    _check_order(profile.stretches, stretches, profile.size_bytes)
    _check_durations(profile, stretches)
    return profile


def _check_head(profile: Profile, where: str) -> None:
    if profile.margin < 1 or not profile.size_bytes:
        raise InvalidArgument(f"{where}: a margin below 1, or a model without memory.")
    if profile.size_bytes > LARGEST_BYTES:
        raise InvalidArgument(
            f"{where}: a model of {profile.size_bytes} bytes; none has more than {LARGEST_BYTES}."
        )
    if profile.wcet_ns > _LONGEST_NS:
        raise InvalidArgument(
            f"{where}: the worst pass times the margin is {profile.wcet_ns} ns; a job costs at "
            f"most {_LONGEST_NS} ns. Measure again with `rtswap profile`."
        )


def _stretch(table: Table) -> Stretch:
    return Stretch(**_values_of(table, {"bytes": "int", "execution_ns": "int"}))


def _check_order(stretches: Sequence[Stretch], tables: Sequence[Table], size_bytes: int) -> None:
    before = 0
    for stretch, table in zip(stretches, tables, strict=True):
        if not before < stretch.bytes <= size_bytes:
            raise InvalidArgument(
                f"{table.where}: a stretch needs more memory than the one before, and at most the "
                f"{size_bytes} bytes of the model, not {stretch.bytes}."
            )
        before = stretch.bytes


def _check_durations(profile: Profile, tables: Sequence[Table]) -> None:
    """Stretches are parts of a pass. If they were longer than it, some would cost no time."""
    worst_ns, done_ns = max(profile.alone_ns, profile.beside_copies_ns), 0
    for count, (stretch, table) in enumerate(zip(profile.stretches, tables, strict=True), start=1):
        done_ns += stretch.execution_ns
        if done_ns > worst_ns:
            raise InvalidArgument(
                f"{table.where}: the stretches up to this one take {done_ns} ns, and the worst "
                f"pass took {worst_ns} ns. Measure again with `rtswap profile`."
            )
        if count > _MOST_STRETCHES:
            raise InvalidArgument(
                f"{table.where}: a profile has at most {_MOST_STRETCHES} stretches."
            )


def _values_of(table: Table, types: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for entry in table.entries:
        if entry.key not in types:
            raise InvalidArgument(f'{entry.where}: a {table.name} has no setting "{entry.key}".')
        values[entry.key] = _value(entry, types[entry.key])
    missing = [name for name in types if name not in values]
    if missing:
        raise InvalidArgument(f"{table.where}: this {table.name} lacks {', '.join(missing)}.")
    return values


def _value(entry: Entry, kind: str) -> str | int | float:
    value = entry.value
    if kind == "str":
        if isinstance(value, str):
            return value
        raise InvalidArgument(f"{entry.where}: {entry.key} takes a text in quotes.")
    number = int if kind == "int" else (int, float)
    if isinstance(value, bool | str) or not isinstance(value, number):
        raise InvalidArgument(f"{entry.where}: {entry.key} takes a number ({kind}).")
    if value < 0 or (value == 0 and entry.key not in _MAY_BE_ZERO):
        raise InvalidArgument(f"{entry.where}: {entry.key} = {value} is no measurement.")
    if value > (most := _most(entry.key)):
        raise InvalidArgument(
            f"{entry.where}: {entry.key} is {value}; no measurement is more than {most}."
        )
    return value


def _most(key: str) -> int:
    if key == "margin":
        return _LARGEST_MARGIN
    return _LONGEST_NS if key.endswith("_ns") else LARGEST_BYTES
