"""What is to be measured: ``module:factory`` and the shapes of its inputs."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rtswap.errors import InvalidArgument
from rtswap.units import show_bytes

_DIGITS = "[0-9]{1,1000}"  # as many as Python always reads
_INPUT = re.compile(rf"({_DIGITS}(?:x{_DIGITS})*)(?::([a-z0-9_]+))?")


def load_model(target: str) -> nn.Module:
    """Calls ``factory()`` of ``module``, which is also sought in the current folder."""
    name, colon, factory_name = target.partition(":")
    if not name or not colon or not factory_name:
        raise InvalidArgument(
            f"{target!r} names no factory. Write module:factory, e.g. models:detector, for a "
            "function or class of models.py that is called without arguments."
        )
    if name.startswith("."):
        raise InvalidArgument(
            f"{target!r}: {name!r} names no module. Write its name without a path, e.g. "
            "models:detector for models.py of this folder; a dot is between folder and module."
        )
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise InvalidArgument(f"{target!r}: there is no module {error.name!r} here.") from None
    factory = getattr(module, factory_name, None)
    if factory is None:
        raise InvalidArgument(f"{target!r}: {module.__name__} has no {factory_name!r}.")
    if not callable(factory):
        raise InvalidArgument(f"{target!r} is a {type(factory).__name__}; it cannot be called.")
    if _needs_arguments(factory):
        raise InvalidArgument(
            f"{target!r} needs arguments. Write a function without: def camera(): return ..."
        )
    model = factory()
    if not isinstance(model, nn.Module):
        raise InvalidArgument(f"{target!r} made a {type(model).__name__}, not a torch module.")
    return model.eval()


def _needs_arguments(factory: Callable[..., object]) -> bool:
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return True
    except ValueError:  # a builtin that does not say
        return False
    return False


def make_inputs(shapes: Sequence[str]) -> tuple[Tensor, ...]:
    """Seeded inputs of shapes such as ``1x3x640x640`` or ``8x384:int64``; integers are 0."""
    generator = torch.Generator().manual_seed(0)
    return tuple(_input(text, generator) for text in shapes)


def _input(text: str, generator: torch.Generator) -> Tensor:
    match = _INPUT.fullmatch(text)
    kind = getattr(torch, match[2] or "float32", None) if match else None
    if match is None or not isinstance(kind, torch.dtype):
        raise InvalidArgument(
            f"--input {text!r} is no shape. Write 1x3x640x640, or 8x384:int64 for another type."
        )
    shape = [int(size) for size in match[1].split("x")]
    if 0 in shape:
        raise InvalidArgument(
            f"--input {text!r} has no elements; a pass over nothing costs nothing."
        )
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if math.prod(shape) * kind.itemsize > memory_bytes:
        raise InvalidArgument(
            f"--input {text!r} is larger than the memory of this machine, "
            f"{show_bytes(memory_bytes)}. Give the shape of one input of a pass."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of types that are refused anyway
            return _filled(shape, kind, generator)
    except (RuntimeError, TypeError) as error:  # as torch says that a type has no such tensors
        why = re.split(r"[.]\s|\n", str(error))[0].rstrip(".")
        raise InvalidArgument(f"--input {text!r}: torch makes no such tensor: {why}.") from error


def _filled(shape: list[int], kind: torch.dtype, generator: torch.Generator) -> Tensor:
    if not kind.is_floating_point:
        return torch.zeros(shape, dtype=kind)
    return torch.randn(shape, generator=generator).to(kind)
