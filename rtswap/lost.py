"""A lost CUDA context: which tensors somebody may have reached for.

From the loss on no memory comes or leaves, so what is not on the device now was not there then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rtswap.errors import Error, shown

if TYPE_CHECKING:
    from rtswap.memory import Memory


def tensors_away(memories: Iterable[Memory]) -> str:
    """Tasks with the names of their tensors that are not wholly on the device, for messages; empty:
    there are none. Never raises an error of rtswap: it is asked when something has gone wrong."""
    found = []
    for memory in memories:
        try:
            names = memory.away()
        except Error:  # being closed
            continue
        if names:
            found.append(f"{memory.label} ({len(names)}: {shown(names)})")
    return "; ".join(found)


def described(message: str, memories: Iterable[Memory]) -> str:
    """The message of a lost context, with the tensors."""
    away = tensors_away(memories)
    return f"{message}. Tensors that are not on the device: {away}." if away else message
