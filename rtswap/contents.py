"""What one registration moved, and whether its modules still hold that and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.autograd.graph import increment_version

from rtswap import _core
from rtswap.collect import Collected, is_wrapper, walk
from rtswap.errors import EscapedTensor, InvalidArgument, Unsupported, shown
from rtswap.units import show_bytes

log = logging.getLogger("rtswap")


@dataclass
class Contents:
    """Tensors, as a set for each device, and the tree of modules they were found in."""

    sets: Sequence[_core.TensorSet]
    collected: Collected

    def __post_init__(self) -> None:
        # Of batch norm: torch's kernels write them and count only the batches.
        self._statistics = {
            name: [
                tensor
                for tensor in map(holder.get, ("running_mean", "running_var"))
                if tensor is not None
            ]
            for name, holder, key, _ in self.collected.watches
            if key == "num_batches_tracked"
        }

    def changed(self) -> list[str]:
        """Names of read_only tensors that were counted as written since the grant began."""
        names = self._counted()
        uncounted = [tensor for name in names for tensor in self._statistics.get(name, ())]
        if uncounted:
            increment_version(uncounted)
            names = self._counted()
        return names

    def _counted(self) -> list[str]:
        return [name for tensors in self.sets for name in tensors.changed()]

    def watch(self) -> None:
        """The tree is one, whatever lies where: the first set looks after it."""
        found = self.collected
        self.sets[0].watch(found.watches, found.children, found.tables)

    def restructured(self) -> bool:
        """Since `watch` modules came, went or were replaced."""
        return self.sets[0].restructured()

    def look_again(self, label: str, managed: Iterable[_core.TensorSet]) -> None:
        """Judges a changed tree of modules: new tensors in place of moved ones are an error.

        Others that were added stay in ordinary memory, which works, and a warning says so once.
        What was removed, or only got another place, is no problem. ``managed``: all sets of the
        model.
        """
        now = walk(self.collected.modules, None)
        sets = list(managed)
        foreign = [
            (name, tensor)
            for name, tensor, _ in now.tensors
            if not any(tensors.holds(tensor) for tensors in sets)
        ]
        left = {id(tensor) for _, _, _, tensor in now.watches}
        gone = [name for name, _, _, tensor in self.collected.watches if id(tensor) not in left]
        if foreign and gone:
            raise EscapedTensor(
                f"Modules of {label} were replaced: {shown(gone)} left the model, and "
                f"{shown([name for name, _ in foreign])} came in, which rtswap does not manage. "
                "Close the task and register the changed model. Replacing tensors for one call "
                "only (functional_call, torch.export) works inside `with task.job():`."
            )
        if foreign:
            log.warning(
                "%s: %s of tensors were added after registration and are not managed; they stay "
                "in ordinary memory: %s. Add them with rtswap.swappable(tensor, task=...), or "
                "close the task and register the model again.",
                label,
                show_bytes(sum(tensor.nbytes for _, tensor in foreign)),
                shown([name for name, _ in foreign]),
            )
        self.collected = now
        self.watch()


def tensor_set(
    collected: Collected, device: torch.device, label: str, *, meta_allowed: bool = False
) -> _core.TensorSet:
    """Groups and checks the tensors of one device; changes nothing."""
    for name, _, _, tensor in collected.watches:
        if is_wrapper(tensor) and tensor.device != device:
            raise Unsupported(
                f"'{name}' is a {type(tensor).__name__}, a wrapper around other tensors, and is on "
                f"{tensor.device}. rtswap cannot change its device: move the model to {device} "
                "before registering it."
            )
    tensors = _core.TensorSet(collected.tensors, device, label, meta_allowed)
    # After the set has refused tensors that are closed, with a better word than is_shared() has.
    for name, tensor, _ in collected.tensors:
        if tensor.device.type == "cpu" and tensor.is_shared():  # type: ignore[no-untyped-call]
            raise InvalidArgument(
                f"'{name}' cannot be made swappable: it lies in memory shared with other processes "
                "(share_memory()), which would stay behind. Clone it first."
            )
    left = tensors.left_behind()
    if left:
        log.warning(
            "%s: other tensors share memory with %s and do not move along; they keep the old "
            "values. Make them part of the model, or drop them before registering.",
            label,
            shown(left),
        )
    return tensors
