"""Makes one question about a closed storage an error that Python can catch.

Closed storages raise at every access (csrc/python/storage_gate.h), and torch passes that on as a
RuntimeError. ``is_shared()`` of a CPU storage alone does not: it ends the process.
"""

from __future__ import annotations

import torch

_is_shared = torch.UntypedStorage.is_shared


def _is_shared_if_open(storage: torch.UntypedStorage) -> bool:
    if storage.device.type != "meta":  # as fake tensors', which warn when they are asked
        storage.data_ptr()  # raises when it is closed
    return bool(_is_shared(storage))


def make_questions_safe() -> None:
    """For the whole process; idempotent. Needed where tensors of models live on the CPU."""
    torch.UntypedStorage.is_shared = _is_shared_if_open  # type: ignore[assignment, method-assign]
