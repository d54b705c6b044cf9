"""RT-Swap's configuration (``rtswap_cfg.txt``) as a task file.

One line a task: model type, period in ms, swap volume in bytes, number of objects in swap space,
their indices. The format knows neither costs, nor names, nor how much of a model is never swapped.
"""

from __future__ import annotations

import re
from pathlib import Path

from rtswap.errors import InvalidArgument
from rtswap.offline.text_file import read_lines

_FIXED_FIELDS = 4  # before the indices
_NUMBER = re.compile("[0-9]{1,18}")


def import_rtswap_cfg(path: Path) -> str:
    """The text of a task file. ``InvalidArgument`` names file and line."""
    tasks: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            tasks.append(_task(line, f"{path}:{number}", len(tasks) + 1))
    if not tasks:
        raise InvalidArgument(f"{path} describes no task.")
    head = (
        f"# From {path.name}, a configuration of RT-Swap. To be completed:\n"
        "# - name: as the program calls the task in rtswap.register(name=...); rtswapd goes by it\n"
        "# - wcet_ms: what a job costs; `rtswap profile` measures it\n"
        "# - size: the whole model. Here it is the swap volume; what RT-Swap keeps on the GPU\n"
        "#   is not in its file and has to be added\n"
    )
    return head + "".join(tasks)


def _task(line: str, where: str, count: int) -> str:
    fields = [field.strip() for field in line.strip().rstrip(",").split(",")]
    if not all(map(_NUMBER.fullmatch, fields)) or len(fields) < _FIXED_FIELDS:
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
    if period_ms == 0:
        raise InvalidArgument(f"{where}: a period must be more than 0 ms.")
    size = f"size = {volume_bytes}" if volume_bytes else "# size =   (RT-Swap swaps nothing of it)"
    return (
        f'\n[[task]]\nname = "task{count}-type{model}"\nperiod_ms = {period_ms}\n'
        f"# wcet_ms =\n{size}\n"
    )
