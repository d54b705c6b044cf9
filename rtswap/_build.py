"""Checks, before the extension is loaded, that it was built for the torch that is installed.

An extension built for another minor version of torch does not fail cleanly: it crashes, or worse.
"""

from __future__ import annotations

import importlib.machinery
import mmap
from pathlib import Path

_MARK = b"rtswap-built-for-torch="
_REBUILD = "pip install --no-build-isolation --no-deps --force-reinstall . (or: make build)"


def extension_path() -> Path | None:
    """The extension that ``import rtswap._core`` would load."""
    folder = Path(__file__).parent
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = folder / f"_core{suffix}"
        if path.exists():
            return path
    return None


def built_for(path: Path) -> str:
    """The torch version in the file, e.g. ``2.13.0+cpu``; found without loading it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_MARK)
        if start < 0:
            return "unknown"
        start += len(_MARK)
        return content[start : content.find(b";", start)].decode()


def minor(version: str) -> str:
    """``2.13`` of ``2.13.0+cpu``."""
    return ".".join(version.split(".")[:2])


def check(installed: str) -> None:
    """Raises ``ImportError`` with the command to run unless the extension fits this torch."""
    path = extension_path()
    if path is None:
        raise ImportError("rtswap's extension is not built for this Python. Build it: " + _REBUILD)
    version = built_for(path)
    if minor(version) != minor(installed):
        raise ImportError(
            f"rtswap was built for torch {version}, but torch {installed} is installed. "
            f"Rebuild it: {_REBUILD}"
        )
