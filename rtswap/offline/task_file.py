"""The task file: what rtswapd takes with ``--tasks``, as tasks to plan with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtswap import _core
from rtswap.errors import InvalidArgument
from rtswap.offline.toml_lines import Entry, Table, read_tables
from rtswap.profile.file import Profile, read_profile
from rtswap.units import LONGEST_MS, parse_bytes

SIZE = re.compile("[0-9]+([.][0-9]+)? *(B|[KMGT]iB|[kKMGT]B)?")  # as rtswapd reads them
KEYS = (
    "name period_ms rate_hz deadline_ms wcet_ms resident late importance size mutable model profile"
)


@dataclass
class TaskSpec:
    """One task of the file. Durations in ns, sizes in bytes; 0: not given."""

    where: str
    name: str = ""
    period_ns: int = 0
    deadline_ns: int = 0
    wcet_ns: int = 0
    resident: bool = False
    late_run: bool = False
    importance: int = 0
    size_bytes: int = 0
    mutable_bytes: int = 0
    model: str = ""  # whose memory; the task's name if it has a model of its own
    profile: Profile | None = None  # where memory and cost come from, if from a measurement

    def chunks(self, chunk_bytes: int) -> int:
        """Each kind of memory has chunks of its own."""
        fixed = self.size_bytes - self.mutable_bytes
        return -(-fixed // chunk_bytes) + self.mutable_chunks(chunk_bytes)

    def mutable_chunks(self, chunk_bytes: int) -> int:
        return -(-self.mutable_bytes // chunk_bytes)

    def layers(self, chunk_bytes: int) -> list[tuple[int, int]]:
        """(chunks, ns): what stretches of a job need and cost; none: all memory to begin."""
        return self.profile.layers(chunk_bytes) if self.profile else []


def read_task_file(path: Path) -> list[TaskSpec]:
    """What can be planned. ``InvalidArgument`` names file and line."""
    specs: list[TaskSpec] = []
    for table in read_tables(path, "task"):
        spec = _spec_of(table, path.parent)
        if any(other.name == spec.name for other in specs):
            raise InvalidArgument(f'{spec.where}: task "{spec.name}" is described twice.')
        specs.append(spec)
    if not specs:
        raise InvalidArgument(f"{path} describes no task: write [[task]] for each.")
    _share_models(specs)
    for spec in specs:
        _check_plannable(spec)
    return specs


def _spec_of(table: Table, folder: Path) -> TaskSpec:
    spec = TaskSpec(table.where)
    for entry in table.entries:
        if entry.key == "profile":
            spec.profile = _profile(entry, folder)
        else:
            _apply(entry, spec)
    if not spec.name:
        raise InvalidArgument(f"{table.where}: this task has no name.")
    _apply_profile(spec)
    spec.model = spec.model or spec.name
    if spec.period_ns and spec.deadline_ns > spec.period_ns:
        raise InvalidArgument(
            f'{table.where}: the deadline of "{spec.name}" is longer than its period.'
        )
    if spec.deadline_ns and not spec.period_ns:
        raise InvalidArgument(f'{table.where}: "{spec.name}" has a deadline and no period.')
    spec.deadline_ns = spec.deadline_ns or spec.period_ns
    return spec


def _profile(entry: Entry, folder: Path) -> Profile:
    path = folder / _text(entry)
    try:
        return read_profile(path)
    except InvalidArgument as error:
        raise InvalidArgument(f"{entry.where}: {error}") from None


def _apply(entry: Entry, spec: TaskSpec) -> None:
    match entry.key:
        case "name" | "model":
            setattr(spec, entry.key, _text(entry))
        case "period_ms" | "rate_hz":
            if spec.period_ns:
                raise InvalidArgument(f"{entry.where}: give either period_ms or rate_hz, not both.")
            spec.period_ns = _ns(entry) if entry.key == "period_ms" else _period_ns(entry)
        case "deadline_ms":
            spec.deadline_ns = _ns(entry)
        case "wcet_ms":
            spec.wcet_ns = _ns(entry)
        case "resident":
            if not isinstance(entry.value, bool):
                raise InvalidArgument(f"{entry.where}: resident takes true or false.")
            spec.resident = entry.value
        case "late":
            if entry.value not in ("drop", "run"):
                raise InvalidArgument(f'{entry.where}: late takes "drop" or "run".')
            spec.late_run = entry.value == "run"
        case "importance":
            spec.importance = _importance(entry)
        case "size":
            spec.size_bytes = _bytes(entry)
        case "mutable":
            spec.mutable_bytes = _bytes(entry)
        case _:
            raise InvalidArgument(
                f'{entry.where}: a task has no setting "{entry.key}"; there are: {KEYS}.'
            )


def _apply_profile(spec: TaskSpec) -> None:
    if spec.profile is None:
        return
    if spec.size_bytes or spec.mutable_bytes or spec.wcet_ns:
        raise InvalidArgument(
            f'{spec.where}: the profile of "{spec.name}" says what it costs and how large it is: '
            "leave out wcet_ms, size and mutable, or the profile."
        )
    spec.size_bytes = spec.profile.size_bytes
    spec.mutable_bytes = spec.profile.mutable_bytes
    spec.wcet_ns = spec.profile.wcet_ns


def _text(entry: Entry) -> str:
    if not isinstance(entry.value, str) or not entry.value:
        raise InvalidArgument(f"{entry.where}: {entry.key} takes a name in quotes.")
    return entry.value


def _number(entry: Entry) -> float | None:
    if isinstance(entry.value, bool) or not isinstance(entry.value, int | float):
        return None
    return float(entry.value)


def _ns(entry: Entry) -> int:
    number = _number(entry)
    if number is None or not 1e-6 <= number <= LONGEST_MS:
        raise InvalidArgument(
            f"{entry.where}: {entry.key} takes a positive number of milliseconds."
        )
    return round(number * 1e6)


def _period_ns(entry: Entry) -> int:
    number = _number(entry)
    if number is None or not 1e-6 <= number <= 1e6:
        raise InvalidArgument(
            f"{entry.where}: rate_hz takes a positive number of releases per second."
        )
    return round(1e9 / number)


def _importance(entry: Entry) -> int:
    most, value = _core.most_importance, entry.value
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > most:
        raise InvalidArgument(
            f"{entry.where}: importance takes a whole number from -{most} to {most}."
        )
    return value


def _bytes(entry: Entry) -> int:
    text = str(entry.value)
    plain = isinstance(entry.value, str | int) and not isinstance(entry.value, bool)
    if not plain or not SIZE.fullmatch(text) or not re.search("[1-9]", text):
        raise InvalidArgument(
            f'{entry.where}: {entry.key} takes a size, such as "512MiB" or "4GB".'
        )
    return parse_bytes(text, f"{entry.where}: {entry.key}")


def _share_models(specs: list[TaskSpec]) -> None:
    """Tasks of one model have its memory; who does not say how much, learns it from who does."""
    known: dict[str, TaskSpec] = {}
    for spec in specs:
        if not spec.size_bytes:
            continue
        first = known.setdefault(spec.model, spec)
        if (first.size_bytes, first.mutable_bytes) != (spec.size_bytes, spec.mutable_bytes):
            raise InvalidArgument(
                f'{spec.where}: "{spec.name}" and "{first.name}" share the model '
                f'"{spec.model}" and give it different sizes.'
            )
    for spec in specs:
        if spec.model in known:
            spec.size_bytes = known[spec.model].size_bytes
            spec.mutable_bytes = known[spec.model].mutable_bytes


def _check_plannable(spec: TaskSpec) -> None:
    if not spec.size_bytes and spec.model != spec.name:
        raise InvalidArgument(
            f'{spec.where}: no task gives the model "{spec.model}" of "{spec.name}" a size; '
            'planning needs it. Is it spelled so elsewhere? If not, write size = "900MiB" here.'
        )
    if not spec.size_bytes:
        raise InvalidArgument(
            f'{spec.where}: "{spec.name}" has no size; planning needs it. Write size = "900MiB": '
            'all memory of its model; or profile = "FILE" of `rtswap profile`.'
        )
    if spec.mutable_bytes > spec.size_bytes:
        raise InvalidArgument(f'{spec.where}: "{spec.name}" has more mutable memory than memory.')
    if spec.period_ns and not spec.wcet_ns:
        raise InvalidArgument(
            f'{spec.where}: "{spec.name}" has a period and no wcet_ms; planning needs what a job '
            "costs. `rtswap profile` measures it."
        )
    if spec.period_ns and spec.wcet_ns > spec.deadline_ns:
        raise InvalidArgument(
            f'{spec.where}: a job of "{spec.name}" takes longer than its deadline.'
        )


def measured_link(specs: list[TaskSpec]) -> int:
    """Bytes per second in the slower direction, the least of the tasks' profiles; 0: none."""
    profiles = [spec.profile for spec in specs if spec.profile]
    return min(
        (
            min(profile.restore_both_ways_bytes_per_s, profile.evict_both_ways_bytes_per_s)
            for profile in profiles
        ),
        default=0,
    )


def planner_tasks(specs: list[TaskSpec], chunk_bytes: int) -> list[dict[str, Any]]:
    """As the extension takes them. Tasks of one model share an arena."""
    arenas = {model: key for key, model in enumerate(dict.fromkeys(s.model for s in specs), 1)}
    return [
        {
            "name": spec.name,
            "period_ns": spec.period_ns,
            "deadline_ns": spec.deadline_ns,
            "wcet_ns": spec.wcet_ns,
            "arena": arenas[spec.model],
            "arena_chunks": spec.chunks(chunk_bytes),
            "mutable_chunks": spec.mutable_chunks(chunk_bytes),
            "layers": spec.layers(chunk_bytes),
            "resident": spec.resident,
            "late_run": spec.late_run,
        }
        for spec in specs
    ]
