"""Makes sure that nothing of a model is left on the device between two of its jobs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import rtswap


def place() -> torch.device:
    """Where models of the enabled arbiter compute."""
    return torch.device(rtswap.info().device)


class Rival:
    """A task that needs the whole device, so that all others must leave."""

    def __init__(self) -> None:
        rows = rtswap.info().budget_bytes // 4096
        self._model = nn.Linear(1024, rows, bias=False)
        self.task = rtswap.register(self._model, name="rival")

    def evict(self, *tasks: rtswap.Task) -> None:
        with self.task.job():
            pass
        for task in tasks:
            assert task.stats().resident_bytes == 0


def same(a: object, b: object) -> bool:
    """Whether two results (tensors in any containers) are equal bit by bit."""
    leaves = [pytree.tree_leaves(result) for result in (a, b)]
    return len(leaves[0]) == len(leaves[1]) and all(
        torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in zip(*leaves, strict=True)
    )
