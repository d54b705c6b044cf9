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
from torch.nn.parameter import is_lazy

from rtswap.errors import InvalidArgument, Unsupported, shown
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
    """Where the tensors are held."""
    children: list[tuple[str, dict[str, Any], str, nn.Module]] = field(default_factory=list)
    """Where modules hold each other."""
    tables: list[dict[str, Any]] = field(default_factory=list)
    """All dictionaries in which either can appear."""
    modules: list[nn.Module] = field(default_factory=list)
    """The roots; empty for a single tensor."""
    unseen_bytes: int = 0
    """Bytes of tensors in plain attributes, which registration leaves where they are."""


def collect_modules(modules: list[nn.Module], kinds: Kinds | None) -> Collected:
    """All parameters (read_only) and buffers (mutable), in the order of ``modules()``."""
    result = walk(modules, kinds)
    _refuse_unmatched(kinds, [name for name, *_ in result.watches])
    known = {tensor.untyped_storage()._cdata for _, tensor, _ in result.tensors if _dense(tensor)}
    result.unseen_bytes = _unseen_bytes(modules, known)
    if not any(tensor.numel() for _, tensor, _ in result.tensors):
        raise InvalidArgument(
            "There is nothing to register: the module has no parameters and no buffers, or all of "
            "them are empty."
        )
    return result


def walk(modules: list[nn.Module], kinds: Kinds | None) -> Collected:
    """What the modules hold now, without a judgement on it."""
    rules = _rules(kinds)
    result = Collected(modules=modules)
    seen: set[int] = set()
    for position, root in enumerate(modules):
        label = f"{position}." if len(modules) > 1 else ""
        for prefix, module in root.named_modules(prefix="", remove_duplicate=True):
            if id(module) in seen:
                continue
            seen.add(id(module))
            _refuse_opaque(module, prefix)
            path = f"{label}{prefix}." if prefix else label
            for name, tensor, holder, default in _own(module):
                kind = int(_kind_of(path + name, default, rules))
                result.watches.append((path + name, holder, name, tensor))
                _add_tensor(result, path + name, tensor, kind)
            children: dict[str, Any] = module._modules
            result.tables += (module._parameters, module._buffers, children)
            result.children += (
                (path + name, children, name, child)
                for name, child in children.items()
                if child is not None
            )
    return result


def collect_tensor(tensor: torch.Tensor, kind: str) -> Collected:
    """A single tensor, for ``swappable``."""
    result = Collected()
    _add_tensor(result, "tensor", tensor, int(kind_named(kind)))
    return result


def _own(module: nn.Module) -> Iterator[tuple[str, torch.Tensor, dict[str, Any], Kind]]:
    parameters: dict[str, Any] = module._parameters
    buffers: dict[str, Any] = module._buffers
    for holder, kind in ((parameters, Kind.READ_ONLY), (buffers, Kind.MUTABLE)):
        for key, tensor in holder.items():
            if tensor is not None:
                yield key, tensor, holder, kind


def _add_tensor(result: Collected, name: str, tensor: torch.Tensor, kind: int) -> None:
    """Adds the tensors that hold the bytes: a wrapper subclass has none of its own."""
    if not isinstance(tensor, torch.Tensor):
        raise InvalidArgument(f"'{name}' is a {type(tensor).__name__}, not a tensor.")
    if is_lazy(tensor):
        raise Unsupported(
            f"'{name}' is not initialised yet: its shape is taken from the first input. Run the "
            "model once on an example before registering it."
        )
    if not is_wrapper(tensor):
        result.tensors.append((name, tensor, kind))
        return
    held: dict[str, Any] = vars(tensor)
    wrapper: Any = tensor
    for attribute in wrapper.__tensor_flatten__()[0]:
        inner: Any = getattr(wrapper, attribute)
        if attribute in held:
            result.watches.append((f"{name}.{attribute}", held, attribute, inner))
        _add_tensor(result, f"{name}.{attribute}", inner, kind)


def is_wrapper(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "__tensor_flatten__")


def _dense(tensor: torch.Tensor) -> bool:
    """It has a storage to ask for."""
    return tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_meta


def _refuse_opaque(module: nn.Module, prefix: str) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise Unsupported(
            f"'{prefix or type(module).__name__}' is a TorchScript module. Register the Python "
            "module it was made from and call the TorchScript one inside `with task.job():` - the "
            "two share their weights."
        )
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
                if not isinstance(value, torch.Tensor) or is_wrapper(value) or is_lazy(value):
                    continue
                if not _dense(value):
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
    for pattern in kinds:
        if not isinstance(pattern, str):
            raise InvalidArgument(f"kinds: a pattern is a text such as '*.cache', not {pattern!r}.")
    return [(pattern, kind_named(kind)) for pattern, kind in kinds.items()]


def _refuse_unmatched(kinds: Kinds | None, names: list[str]) -> None:
    """A pattern with a typing error would leave what jobs write to be dropped at an eviction."""
    if not isinstance(kinds, Mapping):
        return
    for pattern in kinds:
        if not fnmatch.filter(names, pattern):
            raise InvalidArgument(
                f"kinds: no tensor has a name that matches {pattern!r}. There are, for example: "
                + shown(names)
            )


def _kind_of(name: str, default: Kind, rules: list[tuple[str, Kind]]) -> Kind:
    for pattern, kind in rules:
        if fnmatch.fnmatchcase(name, pattern):
            return kind
    return default
