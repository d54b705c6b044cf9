"""A real ``rtswapd`` in a temporary folder."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

from rtswap.demo import daemon


class Daemon(daemon.Daemon):
    """A context manager that leaves nothing behind."""

    def __init__(self, *flags: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rtswap-test-")
        super().__init__(Path(self._folder.name), *flags)

    def suspend(self) -> None:
        """It hangs from now on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()
