"""Models whose tensors lie in anonymous memory in place of an arena: the LibTorch part alone."""

from __future__ import annotations

import mmap
from ctypes import addressof, c_char

import torch
from torch import nn

from rtswap import _core
from rtswap.collect import Kind, collect_modules

CPU = torch.device("cpu")


class FakeArena:
    """Address range and host image of one kind."""

    def __init__(self, size: int) -> None:
        self._maps = [mmap.mmap(-1, max(size, 1)) for _ in range(2)]
        addresses = [addressof(c_char.from_buffer(area)) for area in self._maps]
        self.segment = _core.Segment(addresses[0], addresses[1], size, 4096)
        self.size = size

    def restore(self) -> None:
        self._maps[0][: self.size] = self._maps[1][: self.size]

    def poison(self) -> None:
        self._maps[0][: self.size] = b"\xff" * self.size


class Moved:
    """A model whose tensors were moved into fake arenas and are open."""

    def __init__(self, model: nn.Module) -> None:
        collected = collect_modules([model], None)
        self.tensors = _core.TensorSet(collected.tensors, CPU, "task 'x'")
        self.arenas = {}
        for kind in Kind:
            if self.tensors.bytes(kind):
                self.arenas[kind] = FakeArena(self.tensors.bytes(kind))
                self.tensors.fill(kind, self.arenas[kind].segment)
        self.tensors.commit(None)
        self.tensors.watch(collected.watches, collected.children, collected.tables)
        self.restore()

    def restore(self) -> None:
        for arena in self.arenas.values():
            arena.restore()
