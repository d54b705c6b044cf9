"""Start and stop a real ``rtswapd`` on a temporary socket."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

READY_WORD = "rtswapd ready"


def daemon_binary() -> str:
    """Path of the daemon: ``RTSWAPD`` in the environment, else the one in the package."""
    chosen = os.environ.get("RTSWAPD")
    if chosen:
        return chosen
    import rtswap

    return str(Path(rtswap.__file__).parent / "bin" / "rtswapd")


class Daemon:
    """One ``rtswapd`` process; a context manager that leaves nothing behind."""

    def __init__(self, *flags: str, socket: str | None = None, start_limit_s: float = 120.0):
        self._folder = tempfile.TemporaryDirectory(prefix="rtswap-test-")
        self.socket = socket or str(Path(self._folder.name) / "rtswapd.sock")
        self._flags: Sequence[str] = flags
        self._start_limit_s = start_limit_s
        self.log = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait for the ready line; raises with the daemon's own words if it ends."""
        self.process = subprocess.Popen(
            [daemon_binary(), "--socket", self.socket, *self._flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        deadline = time.monotonic() + self._start_limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while time.monotonic() < deadline:
                selector.select(0.2)
                self.read_log()
                if READY_WORD in self.log:
                    return
                if self.process.poll() is not None:
                    raise RuntimeError(f"rtswapd ended with {self.process.returncode}:\n{self.log}")
        raise TimeoutError(f"rtswapd was not ready in {self._start_limit_s} s:\n{self.log}")

    def read_log(self) -> str:
        """Everything the daemon has said so far."""
        assert self.process is not None
        assert self.process.stdout is not None
        try:
            while chunk := os.read(self.process.stdout.fileno(), 1 << 16):
                self.log += chunk.decode(errors="replace")
        except BlockingIOError:
            pass  # nothing more for now
        return self.log

    def kill(self) -> None:
        """SIGKILL: no clean-up of any kind."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.read_log()
        return int(self.process.returncode)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._folder.cleanup()
