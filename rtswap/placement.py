"""Which device holds which tensors of a model. Pure but for the question where devices are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from rtswap.collect import Collected
from rtswap.errors import InvalidArgument, shown
from rtswap.weights import Source

Device = torch.device | str | int
Devices = Device | Mapping[str, Device] | None
"""One for all, or a device for each path of modules; None: the default one."""


@dataclass(frozen=True)
class Part:
    """What of a model lies on one device."""

    device: int
    """Index in the session."""
    torch_device: torch.device
    collected: Collected
    """Its tensors and where they are held, without the tree of modules."""

    def own(self, sources: Sequence[Source]) -> list[Source]:
        """Those of its tensors."""
        tensors = {id(tensor) for _, tensor, _ in self.collected.tensors}
        return [source for source in sources if id(source.tensor) in tensors]


def parts_of(
    collected: Collected,
    devices: Devices,
    find: Callable[[Device | None], tuple[int, torch.device]],
) -> list[Part]:
    """One part for each device that gets something, in the order in which ``devices`` names them.

    ``find``: index in the session and torch's name of a device. ``InvalidArgument`` when a tensor
    has no device, or tied ones have several.
    """
    if not isinstance(devices, Mapping):
        return [Part(*find(devices), collected)]
    found = {_path(path): find(device) for path, device in devices.items()}
    names = [name for name, *_ in collected.tensors] + [name for name, *_ in collected.watches]
    chosen = {name: _longest(name, found) for name in names}
    _refuse_uncovered([name for name, path in chosen.items() if path is None])
    _refuse_unused(set(found) - {"", *chosen.values()}, chosen)
    index_of = {name: found[path][0] for name, path in chosen.items() if path is not None}
    _refuse_torn(collected, index_of)
    parts = {index: Part(index, where, Collected()) for index, where in found.values()}
    for tensor in collected.tensors:
        parts[index_of[tensor[0]]].collected.tensors.append(tensor)
    for watch in collected.watches:
        parts[index_of[watch[0]]].collected.watches.append(watch)
    return [part for part in parts.values() if part.collected.tensors]


def _path(path: str) -> str:
    if not isinstance(path, str):
        raise InvalidArgument(
            f"device: the path of a module is a text such as 'encoder.layers', not {path!r}."
        )
    return path


def _longest(name: str, paths: Mapping[str, object]) -> str | None:
    """The longest of the paths that lead to the tensor; "" leads to all."""
    leading = [path for path in paths if not path or f"{name}.".startswith(f"{path}.")]
    return max(leading, key=len, default=None)


def _refuse_uncovered(names: list[str]) -> None:
    if names:
        raise InvalidArgument(
            f"device: no path leads to {shown(names)}. Add the path of a module that holds them, "
            "or '' for everything that has no other."
        )


def _refuse_unused(paths: set[str], names: Mapping[str, object]) -> None:
    """A path with a typing error would leave tensors where nobody meant them to be."""
    if paths:
        raise InvalidArgument(
            f"device: nothing lies under {shown(sorted(paths))} that has no longer path. There "
            f"are, for example: {shown(list(names))}."
        )


def _refuse_torn(collected: Collected, index_of: Mapping[str, int]) -> None:
    """Tensors that share memory can only be in one place."""
    first: dict[object, str] = {}
    for name, tensor, _ in collected.tensors:
        if not tensor.numel():
            continue
        has_storage = tensor.layout == torch.strided and not tensor.is_nested
        memory = tensor.untyped_storage()._cdata if has_storage else id(tensor)
        other = first.setdefault(memory, name)
        if index_of[other] != index_of[name]:
            raise InvalidArgument(
                f"device: '{other}' and '{name}' share their memory (tied weights, or views of "
                "one tensor) and cannot lie on two devices. Give both the same one, or untie them."
            )
