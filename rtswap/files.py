"""Files that people name, and what is printed, with errors that name them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtswap.errors import Error, InvalidArgument


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """``InvalidArgument`` with the path and the reason when the system cannot read a file."""
    try:
        yield
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}.") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """``InvalidArgument`` with the path and the reason when the system cannot write a file."""
    try:
        yield
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {error.strerror or error}.") from error


@contextmanager
def printing() -> Iterator[None]:
    """``InvalidArgument`` when the system cannot write the standard output."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, Error):  # the reader has gone, or nothing was printed yet
        raise
    except OSError as error:
        _discard_output()
        raise InvalidArgument(
            f"The standard output cannot be written: {error.strerror or error}."
        ) from error


def _discard_output() -> None:
    """What could not be written would be tried again, and told as a traceback, at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
