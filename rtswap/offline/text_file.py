"""Files that people write, read with errors that they understand."""

from __future__ import annotations

from pathlib import Path

from rtswap.errors import InvalidArgument
from rtswap.files import reading


def read_lines(path: Path) -> list[str]:
    """``InvalidArgument`` says why a file cannot be read."""
    try:
        with reading(path):
            # "-sig": some editors begin a file with a byte order mark.
            return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InvalidArgument(f"{path} cannot be read: it is no text in UTF-8.") from None
    except ValueError as error:  # a path with a null character, which a file can name
        raise InvalidArgument(f"{str(path)!r} cannot be read: {error}.") from None
