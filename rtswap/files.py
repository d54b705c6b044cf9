"""Files that people name, read with errors that name them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtswap.errors import InvalidArgument


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """``InvalidArgument`` with the path and the reason when the system cannot read a file."""
    try:
        yield
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}.") from error
