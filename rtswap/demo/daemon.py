"""One rtswapd as a child process: of the demo, of tests, of benchmarks."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import Self

READY_WORD = "rtswapd ready"

_LOOK_S = 0.02
# The machine may be busy with other things; only a daemon that hangs takes this long.
_PATIENCE_S = 120.0


class DemoError(RuntimeError):
    """Something that must not happen in a demo; the message is all the user gets to see."""


def daemon_binary() -> str:
    """The daemon to start: RTSWAPD, else the one installed with this package."""
    return os.environ.get("RTSWAPD") or str(Path(__file__).parents[1] / "bin" / "rtswapd")


class Daemon:
    """Socket and log lie in ``folder``. Stopped at the end of the ``with`` block."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.socket = str(folder / "rtswapd.sock")
        self._flags = flags
        self._log = folder / "rtswapd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, limit_s: float = _PATIENCE_S, flags: Sequence[str] | None = None) -> None:
        """Returns when it is ready. A daemon that was ended is started again on the same socket,
        with other flags if some are given."""
        if flags is not None:
            self._flags = tuple(flags)
        command = [daemon_binary(), "--socket", self.socket, *self._flags]
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            except FileNotFoundError:
                raise DemoError(
                    f"{command[0]} does not exist: build it with `make build`"
                ) from None
        try:
            self._wait_until_ready(limit_s)
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not self.ready_line:
            if not self.alive():
                status = self.stop()
                raise DemoError(f"rtswapd ended with {status}:\n{self.read_log()}")
            if time.monotonic() > end:
                raise DemoError(f"rtswapd was not ready within {limit_s:.0f} s:\n{self.read_log()}")
            time.sleep(_LOOK_S)

    @property
    def ready_line(self) -> str:
        """``rtswapd ready: socket=... budget=... chunks=...``; empty while it is not."""
        lines = (line for line in self.read_log().splitlines() if line.startswith(READY_WORD))
        return next(lines, "")

    def read_log(self) -> str:
        """Everything it has said since it was started."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: no clean-up of any kind."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Ends it in good order and returns its exit status."""
        if self._process is None:
            return 0
        if self.alive():
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()
        return int(self._process.returncode)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
