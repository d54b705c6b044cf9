"""Ways to a model's memory on which no operator of torch is seen.

A job that begins on a prefix waits at the first operator that uses what is not there yet
(csrc/python/prefix_gate.h). Compiled code and the fused kernels of TorchScript read their inputs
without asking an operator, and a CUDA graph does not even ask the storage. Where a process has made
any of the first two, its jobs begin with all their memory; a graph waits in `replay()`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch


class _Seen:
    """What has been used once may be used again, and torch may forget that it was."""

    bypass = False


def operators_may_be_bypassed() -> bool:
    """Whether this process has compiled anything, or made a TorchScript module."""
    _Seen.bypass = _Seen.bypass or _has_compiled() or _has_torchscript_modules()
    return _Seen.bypass


def _has_compiled() -> bool:
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    if dynamo is None:
        return False
    backends = getattr(dynamo, "cached_backends", None)  # of torch.compile(), from its call on
    return backends is None or any(backend is not None for backend in backends.values())


def _has_torchscript_modules() -> bool:
    """Or objects of TorchScript classes, which may hold weights as well; functions hold none."""
    modules = getattr(torch.jit._recursive.concrete_type_store, "methods_compiled", None)
    classes = getattr(torch.jit._state, "_script_classes", None)
    return modules is None or classes is None or bool(modules or classes)


def make_graphs_wait(wait: Callable[[], None]) -> None:
    """From now on ``wait()`` runs before each replay of a CUDA graph; once for the process."""
    graph: Any = torch.cuda.CUDAGraph
    replay = graph.replay
    if getattr(replay, "_rtswap_waits", False):
        return

    def replay_when_resident(self: Any) -> None:
        wait()
        replay(self)

    replay_when_resident._rtswap_waits = True  # type: ignore[attr-defined]
    graph.replay = replay_when_resident
