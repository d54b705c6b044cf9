"""Ways to a model's memory on which no operator of torch is seen.

A job that begins on a prefix waits at the first operator that uses what is not there yet
(csrc/python/prefix_gate.h). Compiled code and the fused kernels of TorchScript read their inputs
without asking an operator, and a CUDA graph does not even ask the storage. Where a process has made
any of the first two, its jobs begin with all their memory; a graph waits in `replay()`.
"""

from __future__ import annotations

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
    import torch._dynamo.eval_frame as dynamo

    backends = getattr(dynamo, "cached_backends", None)  # of torch.compile(), from its call on
    return backends is None or any(backend is not None for backend in backends.values())


def _has_torchscript_modules() -> bool:
    unit: Any = torch.jit._state._python_cu
    return any(
        argument.name == "self"  # a method: functions hold no weights
        for function in unit.get_functions()
        for argument in function.schema.arguments[:1]
    )


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
