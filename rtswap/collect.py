"""Finds the tensors of modules, with their names, kinds and the places that hold them."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import torch
from torch import nn

from rtswap.errors import InvalidArgument, Unsupported
from rtswap.units import show_bytes

log = logging.getLogger("rtswap")


class Kind(IntEnum):
    """What becomes of bytes at eviction; the values are the core's."""

    READ_ONLY = 0
    MUTABLE = 1
    SCRATCH = 2


_KINDS = {"read_only": Kind.READ_ONLY, "mutable": Kind.MUTABLE, "scratch": Kind.SCRATCH}

Kinds = str | Mapping[str, str]


def kind_named(name: str) -> Kind:
    try:
        return _KINDS[name]
    except (KeyError, TypeError):
        raise InvalidArgument(
            f"kind {name!r} is none of {', '.join(repr(known) for known in _KINDS)}."
        ) from None


@dataclass
class Collected:
    """Tensors of one registration, in the order in which they are packed."""

    tensors: list[tuple[str, torch.Tensor, int]] = field(default_factory=list)
    watches: list[tuple[str, dict[str, Any], str, torch.Tensor]] = field(default_factory=list)
    unseen_bytes: int = 0
    """Bytes of tensors in plain attributes, which registration leaves where they are."""


def collect_modules(modules: list[nn.Module], kinds: Kinds | None) -> Collected:
    """All parameters (read_only) and buffers (mutable), in the order of ``modules()``."""
    rules = _rules(kinds)
    result = Collected()
    seen: set[int] = set()
    for position, root in enumerate(modules):
        label = f"{position}." if len(modules) > 1 else ""
        for prefix, module in root.named_modules(prefix="", remove_duplicate=True):
            if id(module) in seen:
                continue
            seen.add(id(module))
            _refuse_opaque(module, prefix)
            for name, tensor, holder, key, default in _own(module):
                full = f"{label}{prefix}.{name}" if prefix else f"{label}{name}"
                kind = _kind_of(full, default, rules)
                result.watches.append((full, holder, key, tensor))
                result.tensors.extend((n, t, int(kind)) for n, t in _inner(full, tensor))
    known = {tensor.untyped_storage()._cdata for _, tensor, _ in result.tensors}
    result.unseen_bytes = _unseen_bytes(modules, known)
    if not result.tensors:
        raise InvalidArgument(
            "There is nothing to register: the module has no parameters and no buffers."
        )
    return result


def collect_tensor(tensor: torch.Tensor, kind: str) -> Collected:
    """A single tensor, for ``swappable``."""
    chosen = kind_named(kind)
    return Collected(tensors=[(n, t, int(chosen)) for n, t in _inner("tensor", tensor)])


def _own(
    module: nn.Module,
) -> Iterator[tuple[str, torch.Tensor, dict[str, Any], str, Kind]]:
    parameters: dict[str, Any] = module._parameters
    buffers: dict[str, Any] = module._buffers
    for holder, kind in ((parameters, Kind.READ_ONLY), (buffers, Kind.MUTABLE)):
        for key, tensor in holder.items():
            if tensor is not None:
                yield key, tensor, holder, key, kind


def _inner(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that hold the bytes: a wrapper subclass has none of its own."""
    if not isinstance(tensor, torch.Tensor):
        raise InvalidArgument(f"'{name}' is a {type(tensor).__name__}, not a tensor.")
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is not None:
        for attribute in flatten()[0]:
            yield from _inner(f"{name}.{attribute}", getattr(tensor, attribute))
        return
    yield name, tensor


def is_wrapper(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "__tensor_flatten__")


def _refuse_opaque(module: nn.Module, prefix: str) -> None:
    for name, value in vars(module).items():
        if isinstance(value, torch.ScriptObject):
            raise Unsupported(
                f"'{prefix or type(module).__name__}' ({type(module).__name__}) keeps its weights "
                f"in an opaque script object ('{name}'), which no program can move. Use "
                "quantisation that keeps plain tensors (torchao), or leave this module out."
            )


def _unseen_bytes(modules: list[nn.Module], known: set[int]) -> int:
    total = 0
    seen: set[int] = set()
    for root in modules:
        for module in root.modules():
            if isinstance(module, nn.RNNBase):
                continue  # its plain attributes are its parameters again
            for value in vars(module).values():
                if not isinstance(value, torch.Tensor) or is_wrapper(value):
                    continue
                if value.layout != torch.strided or value.is_meta:
                    continue
                storage = value.untyped_storage()
                if storage._cdata not in known and storage._cdata not in seen:
                    seen.add(storage._cdata)
                    total += storage.nbytes()
    return total


def warn_unseen(result: Collected, task: str) -> None:
    if result.unseen_bytes:
        log.warning(
            "task '%s': %s of tensors are plain attributes of its modules and stay where they "
            "are. Make them buffers, or add them with rtswap.swappable(tensor, task=...).",
            task,
            show_bytes(result.unseen_bytes),
        )


def _rules(kinds: Kinds | None) -> list[tuple[str, Kind]]:
    if kinds is None:
        return []
    if isinstance(kinds, str):
        return [("*", kind_named(kinds))]
    if not isinstance(kinds, Mapping):
        raise InvalidArgument(
            f"kinds must be a kind or a mapping of patterns to kinds, not a {type(kinds).__name__}."
        )
    return [(pattern, kind_named(kind)) for pattern, kind in kinds.items()]


def _kind_of(name: str, default: Kind, rules: list[tuple[str, Kind]]) -> Kind:
    for pattern, kind in rules:
        if fnmatch.fnmatchcase(name, pattern):
            return kind
    return default
