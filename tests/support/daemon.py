"""A real ``rtswapd`` in a temporary folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rtswap.demo import daemon


class Daemon(daemon.Daemon):
    """A context manager that leaves nothing behind."""

    def __init__(self, *flags: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rtswap-test-")
        super().__init__(Path(self._folder.name), *flags)

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()
