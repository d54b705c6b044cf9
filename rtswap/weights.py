"""The bytes of a model from safetensors files, read straight into its host image.

Nothing but the image holds them: the model may be on the meta device, where tensors have shapes and
no memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rtswap import _core
from rtswap.collect import Collected
from rtswap.errors import InvalidArgument, Unsupported, WeightsMismatch, shown
from rtswap.files import reading
from rtswap.safetensors import Entry, Weights, find_entries

_SLICE_BYTES = 1 << 26
"""Per system call: Python looks for Ctrl-C in between."""
_COMPARED_BYTES = 1 << 20
"""Size of the buffer in which a second copy of a tied tensor is looked at."""


@dataclass(frozen=True)
class Source:
    """What one tensor is filled with; tied tensors may have several entries, which must agree."""

    name: str
    tensor: torch.Tensor
    entries: tuple[Entry, ...]


def match(module: nn.Module, collected: Collected, weights: Weights) -> list[Source]:
    """Which tensors of the module the files have. Reads headers only; changes nothing.

    ``WeightsMismatch`` unless names, shapes and dtypes are those of ``module.state_dict()``. A
    tensor with several names (tied weights) needs one of them.
    """
    entries = find_entries(weights)
    names: dict[object, list[str]] = {}
    held = _state(module, collected)
    for name, tensor in held.items():
        names.setdefault(_memory_of(tensor), []).append(name)
    missing = [
        " = ".join(same) for same in names.values() if not any(name in entries for name in same)
    ]
    unexpected = [name for name in entries if name not in held]
    different = [
        f"{name}: {entry.dtype_name} {list(entry.shape)} in the file, "
        f"{_short(tensor.dtype)} {list(tensor.shape)} in the model"
        for name, tensor in held.items()
        if (entry := entries.get(name)) is not None
        and (entry.shape != tuple(tensor.shape) or entry.dtype != tensor.dtype)
    ]
    if missing or unexpected or different:
        raise WeightsMismatch(_differences(missing, unexpected, different))
    sources = [
        Source(same[0], held[same[0]], tuple(entries[name] for name in same if name in entries))
        for same in names.values()
    ]
    _refuse_gaps(sources)
    _refuse_empty(sources, collected)
    return sources


def fill(tensors: _core.TensorSet, sources: Sequence[Source]) -> None:
    """Reads the files into the host image. Other threads of Python go on meanwhile.

    REQUIRES: the set has its places in the image. Errors: ``InvalidArgument`` for files
    that cannot be read; ``WeightsMismatch`` when the names of a tied tensor have different bytes.
    """
    with _opened({entry.path for source in sources for entry in source.entries}) as files:
        for source in sorted(sources, key=lambda source: _place(source.entries[0])):
            image = tensors.image_of(source.tensor)
            if image is None:
                continue  # scratch or no elements: nothing is restored
            first, *others = source.entries
            _read(files[first.path], first, image)
            for entry in others:
                if not _equal(files[entry.path], entry, image):
                    raise WeightsMismatch(
                        f"'{source.name}' has several names in the model, and the files have "
                        "different bytes for them. The model must not tie these weights, or the "
                        "files are of another one."
                    )


def _place(entry: Entry) -> tuple[str, int]:
    return str(entry.path), entry.begin_bytes


def _state(module: nn.Module, collected: Collected) -> dict[str, torch.Tensor]:
    """The entries of its state_dict: the tensors themselves, not copies."""
    known = {id(tensor) for _, tensor, _ in collected.tensors}
    held: dict[str, torch.Tensor] = module.state_dict(keep_vars=True)
    strange = [name for name, value in held.items() if id(value) not in known]
    if strange:
        raise Unsupported(
            f"weights= cannot fill {shown(strange)}: in state_dict() they are not plain tensors "
            "that the module holds (extra state, wrapper subclasses, hooks of state_dict). Load "
            "this model on the CPU and register it without weights=."
        )
    return held


def _refuse_gaps(sources: list[Source]) -> None:
    odd = [source.name for source in sources if not source.tensor.is_contiguous()]
    if odd:
        raise Unsupported(
            f"weights= cannot fill {shown(odd)}: they are not contiguous, and files hold tensors "
            "row by row. Build the model in torch's default memory format, or load it on the CPU "
            "and register it without weights=."
        )


def _refuse_empty(sources: list[Source], collected: Collected) -> None:
    filled = {_bytes_of(source.tensor) for source in sources}
    empty = [
        name
        for name, tensor, _ in collected.tensors
        if tensor.is_meta and tensor.numel() and not _inside(tensor, filled)
    ]
    if empty:
        raise WeightsMismatch(
            f"Nothing says what is in {shown(empty)}: on the meta device and not part of "
            "state_dict() (persistent=False). Give them values before registering, e.g. "
            "`model.table = torch.arange(n)`; they may be on the CPU while the rest is on meta."
        )


def _memory_of(tensor: torch.Tensor) -> object:
    """Equal for tensors that are tied, by one parameter in two places or by one storage."""
    if not tensor.numel():
        return id(tensor)
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride()


def _bytes_of(tensor: torch.Tensor) -> tuple[int, int, int]:
    """Storage and first and last byte in it. REQUIRES: contiguous."""
    begin = int(tensor.storage_offset()) * tensor.itemsize
    return tensor.untyped_storage()._cdata, begin, begin + int(tensor.nbytes)


def _inside(tensor: torch.Tensor, filled: set[tuple[int, int, int]]) -> bool:
    """A view of something that the files have."""
    if not tensor.is_contiguous():
        return False
    storage, begin, end = _bytes_of(tensor)
    return any(at == storage and first <= begin and end <= last for at, first, last in filled)


@contextmanager
def _opened(paths: set[Path]) -> Iterator[dict[Path, int]]:
    files: dict[Path, int] = {}
    try:
        for path in paths:
            with reading(path):
                files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        yield files
    finally:
        for descriptor in files.values():
            os.close(descriptor)


def _read(descriptor: int, entry: Entry, target: memoryview) -> None:
    done = 0
    while done < entry.size_bytes:
        part = target[done : done + _SLICE_BYTES]
        with reading(entry.path):
            count = os.preadv(descriptor, [part], entry.begin_bytes + done)
        if not count:
            raise InvalidArgument(f"{entry.path} became shorter while it was read.")
        done += count


def _equal(descriptor: int, entry: Entry, image: memoryview) -> bool:
    buffer = memoryview(bytearray(_COMPARED_BYTES))
    for begin in range(0, entry.size_bytes, _COMPARED_BYTES):
        part = buffer[: min(_COMPARED_BYTES, entry.size_bytes - begin)]
        with reading(entry.path):
            count = os.preadv(descriptor, [part], entry.begin_bytes + begin)
        if count != len(part) or part != image[begin : begin + len(part)]:
            return False
    return True


def _differences(missing: list[str], unexpected: list[str], different: list[str]) -> str:
    lines = ["The files do not have the tensors of this model; nothing was changed."]
    for title, names in (
        ("Missing in the files", missing),
        ("In the files, not in the model", unexpected),
        ("Different", different),
    ):
        if names:
            lines.append(f"{title} ({len(names)}):")
            lines += (f"  {name}" for name in names)
    if different:
        lines.append("Nothing is converted: build the model with the shapes and dtypes of the file")
        lines.append("(e.g. torch.set_default_dtype or model.to(dtype) while it is on meta).")
    return "\n".join(lines)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
