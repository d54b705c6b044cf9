"""Copies of a registered module, by pickle, ``torch.save`` or ``copy``, are ordinary modules.

The hooks stay behind: they belong to one module in one process, and a file must load where rtswap
is not installed. Copying reads the weights, so it needs a grant: ``with rtswap.resident(model):``.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import Any

from torch import nn

TOKEN = "_rtswap_token"
"""Attribute of every function that is a hook of rtswap: its owner."""

_HOOK_TABLES = ("_forward_pre_hooks", "_forward_hooks")
# Keyed like the tables: facts about single hooks.
_HOOK_NOTES = (
    "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
)


def copy_without_hooks(module: nn.Module) -> None:
    """From now on modules of this class are copied without the hooks of rtswap.

    Python asks its table of classes before it asks the object, so nothing is put into the module.
    Modules that have no such hooks are copied as before.
    """
    table: dict[type, Callable[[Any], Any]] = copyreg.dispatch_table
    before = table.get(type(module))
    if not isinstance(before, _Reduce):
        table[type(module)] = _Reduce(before)


class _Reduce:
    def __init__(self, before: Callable[[Any], Any] | None) -> None:
        self._before = before

    def __call__(self, module: nn.Module) -> Any:
        reduced = self._before(module) if self._before else module.__reduce_ex__(2)
        if not isinstance(reduced, tuple):
            return reduced
        make, arguments, *rest = reduced
        return (make, tuple(map(_strip, arguments)), *map(_strip, rest))


def _strip(value: Any) -> Any:
    """A copy of a module's state without the hooks; anything else as it is."""
    if not isinstance(value, dict) or _HOOK_TABLES[0] not in value:
        return value
    ours = {
        key
        for name in _HOOK_TABLES
        for key, hook in value[name].items()
        if getattr(hook, TOKEN, None) is not None
    }
    if not ours:
        return value
    state = dict(value)
    for name in (*_HOOK_TABLES, *_HOOK_NOTES):
        if name in state:
            table = state[name]
            state[name] = type(table)((key, table[key]) for key in table if key not in ours)
    return state
