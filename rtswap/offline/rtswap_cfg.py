"""RT-Swap's configuration (``rtswap_cfg.txt``) as a task file.

One line a task: model type, period in ms, swap volume in bytes, number of objects in swap space,
their indices. The volume becomes the size of the model. The format knows neither costs nor names.
"""

from __future__ import annotations

from pathlib import Path

from rtswap.errors import InvalidArgument
from rtswap.offline.text_file import read_lines

_FIXED_FIELDS = 4  # before the indices


def import_rtswap_cfg(path: Path) -> str:
    """The text of a task file. ``InvalidArgument`` names file and line."""
    tasks: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            tasks.append(_task(line, f"{path}:{number}", len(tasks) + 1))
    if not tasks:
        raise InvalidArgument(f"{path} describes no task.")
    head = (
        f"# From {path.name}, a configuration of RT-Swap. It does not say what a job costs:\n"
        "# set wcet_ms of each task (rtswap.register(..., example_inputs=...) measures it).\n"
    )
    return head + "".join(tasks)


def _task(line: str, where: str, count: int) -> str:
    fields = [field.strip() for field in line.strip().rstrip(",").split(",")]
    if not all(field.isdecimal() for field in fields) or len(fields) < _FIXED_FIELDS:
        raise InvalidArgument(
            f"{where}: a task is whole numbers with commas between: model type, period in ms, "
            f"swap volume in bytes, number of objects, their indices; not {line.strip()!r}."
        )
    model, period_ms, volume_bytes, objects = map(int, fields[:_FIXED_FIELDS])
    if len(fields) - _FIXED_FIELDS != objects:
        raise InvalidArgument(
            f"{where}: {objects} objects are announced and {len(fields) - _FIXED_FIELDS} indices "
            "follow."
        )
    if period_ms == 0 or volume_bytes == 0:
        raise InvalidArgument(f"{where}: period and swap volume must be more than 0.")
    return (
        f'\n[[task]]\nname = "task{count}-type{model}"\nperiod_ms = {period_ms}\n'
        f"# wcet_ms =\nsize = {volume_bytes}\n"
    )
