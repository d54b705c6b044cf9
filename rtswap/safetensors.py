"""Where the bytes of which tensor lie in safetensors files: their headers, read and checked.

A file is eight bytes with the length of the header, the header in JSON, then the bytes of all
tensors, row-major and little-endian. Reading a header touches none of the tensors.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rtswap.errors import InvalidArgument
from rtswap.files import reading

Weights = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class Entry:
    """One tensor of a file."""

    path: Path
    dtype_name: str
    """As the file has it."""
    dtype: torch.dtype | None
    """None: torch has no such dtype."""
    shape: tuple[int, ...]
    begin_bytes: int
    """From the start of the file."""
    size_bytes: int


def find_entries(weights: Weights) -> dict[str, Entry]:
    """All tensors of a file, of several, of an index file's shards, or of a folder with one of
    these. ``InvalidArgument`` for what is no such file, or cannot be read."""
    if isinstance(weights, str | os.PathLike):
        path = Path(weights)
        if path.is_dir():
            path = _only_file_in(path)
        return _entries_of_index(path) if path.suffix == ".json" else read_header(path)
    if not isinstance(weights, Sequence) or not all(
        isinstance(path, str | os.PathLike) for path in weights
    ):
        raise InvalidArgument(
            "weights= takes a path or a list of paths of safetensors files, not a "
            f"{type(weights).__name__}. What is loaded already goes into the model before it is "
            "registered: model.load_state_dict()."
        )
    found: dict[str, Entry] = {}
    for path in map(Path, weights):
        for name, entry in read_header(path).items():
            if name in found:
                raise InvalidArgument(f"'{name}' is in {found[name].path} and again in {path}.")
            found[name] = entry
    return found


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of one file by name, each checked to lie inside of it."""
    with reading(path), path.open("rb") as file:
        file_bytes = os.fstat(file.fileno()).st_size
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        begin_bytes = _LENGTH_BYTES + header_bytes
        if header_bytes > _MAX_HEADER_BYTES or begin_bytes > file_bytes:
            raise _broken(
                path,
                "its first bytes are no length of a header. What torch.save() wrote is converted "
                "with safetensors.torch.save_file()",
            )
        header = _parse(path, file.read(header_bytes))
    return {
        name: _entry(path, name, fields, begin_bytes, file_bytes)
        for name, fields in header.items()
        if name != "__metadata__"
    }


def _entry(path: Path, name: str, fields: Any, begin_bytes: int, file_bytes: int) -> Entry:
    try:
        dtype_name = str(fields["dtype"])
        shape = tuple(int(size) for size in fields["shape"])
        first, last = (int(offset) for offset in fields["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise _broken(path, f"its header says nothing sensible about '{name}'") from None
    if not 0 <= first <= last or begin_bytes + last > file_bytes:
        raise _broken(path, f"'{name}' lies outside of its {file_bytes} bytes; is it whole?")
    dtype = _DTYPES.get(dtype_name)
    if dtype is not None and last - first != math.prod(shape) * dtype.itemsize:
        raise _broken(path, f"'{name}' has {last - first} bytes, which do not make {shape}")
    return Entry(path, dtype_name, dtype, shape, begin_bytes + first, last - first)


def _entries_of_index(path: Path) -> dict[str, Entry]:
    with reading(path):
        text = path.read_bytes()
    places = _parse(path, text).get("weight_map")
    if not isinstance(places, dict):
        raise _broken(path, "an index needs a 'weight_map'")
    for shard in places.values():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise _broken(path, f"its shard {shard!r} is no file beside it")
    headers = {shard: read_header(path.parent / shard) for shard in sorted({*places.values()})}
    for name, shard in places.items():
        if name not in headers[shard]:
            raise _broken(path, f"'{name}' is not in {shard}")
    return {name: headers[shard][name] for name, shard in places.items()}


def _only_file_in(folder: Path) -> Path:
    for pattern in ("*.safetensors.index.json", "*.safetensors"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidArgument(
                f"{folder} has several models: {', '.join(path.name for path in found)}. Say "
                "which, or give the list of files when they are parts of one."
            )
    raise InvalidArgument(f"{folder} has no *.safetensors file.")


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(text, object_pairs_hook=_without_duplicates)
    except ValueError as error:
        raise _broken(path, f"its JSON is wrong ({error})") from None
    if not isinstance(parsed, dict):
        raise _broken(path, "its JSON is no table of tensors")
    return parsed


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name appears twice")
    return table


def _broken(path: Path, why: str) -> InvalidArgument:
    return InvalidArgument(f"{path} is no safetensors file that can be read: {why}.")
