"""The daemon and the clients of the demo as child processes."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from typing_extensions import Self

READY_WORD = "rtswapd ready"


class DemoError(RuntimeError):
    """Something that must not happen in a demo; the message is all the user gets to see."""


def daemon_binary() -> str:
    """The daemon to start: RTSWAPD, else the one installed with this package."""
    return os.environ.get("RTSWAPD") or str(Path(__file__).parents[1] / "bin" / "rtswapd")


class ClientError(DemoError):
    """A command failed in a client; `kind` is the class name of its exception."""

    def __init__(self, role: str, kind: str, reason: str) -> None:
        super().__init__(f"{role}: {kind}: {reason}")
        self.kind = kind
        self.reason = reason


class Daemon:
    """One rtswapd on a socket of its own; stopped at the end of the `with` block."""

    def __init__(self, socket: Path, log: Path, flags: list[str]) -> None:
        self._command = [daemon_binary(), "--socket", str(socket), *flags]
        self._log = log
        self.socket = str(socket)
        self.ready_line = ""

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    self._command, stdout=log, stderr=subprocess.STDOUT
                )
            except FileNotFoundError:
                raise DemoError(
                    f"{self._command[0]} does not exist: build it with `make build`"
                ) from None
        try:
            self._wait_until_ready(limit_s=120)
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_until_ready(self, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            text = self._log.read_text(encoding="utf-8", errors="replace")
            for line in text.splitlines():
                if READY_WORD in line:
                    self.ready_line = line[line.index(READY_WORD) :]
                    return
            if self._process.poll() is not None:
                raise DemoError(f"rtswapd ended with {self._process.returncode}:\n{text}")
            time.sleep(0.05)
        raise DemoError(f"rtswapd was not ready within {limit_s:.0f} s:\n{text}")

    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> int:
        """Ends it in good order and returns its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return int(self._process.returncode)

    def __exit__(self, *_: object) -> None:
        self.stop()


class Client:
    """Parent side of one client process: commands out, events in, one JSON object a line."""

    def __init__(self, role: str, scale: int, log: Path) -> None:
        self.role = role
        self._log = log
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        }
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rtswap.demo.client", role, str(scale)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._buffer = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, command: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        line = json.dumps({"command": command, **arguments}) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def receive(self, limit_s: float = 120.0) -> dict[str, Any]:
        """The answer to the oldest command not yet answered."""
        line = self._read_line(limit_s)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ClientError(self.role, answer["error"], answer["message"])
        return answer

    def call(self, command: str, limit_s: float = 120.0, **arguments: Any) -> dict[str, Any]:
        self.send(command, **arguments)
        return self.receive(limit_s)

    def _read_line(self, limit_s: float) -> bytes:
        assert self._process.stdout is not None
        end = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left_s = end - time.monotonic()
                if left_s <= 0:
                    raise DemoError(f"{self.role}: no answer within {limit_s:.0f} s{self._words()}")
                if selector.select(min(left_s, 1.0)):
                    chunk = self._process.stdout.read()
                    if chunk == b"":
                        raise self._ended()
                    self._buffer += chunk or b""
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _ended(self) -> DemoError:
        status = self._process.wait(20)
        return DemoError(f"{self.role}: the process ended with status {status}{self._words()}")

    def _words(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace").strip()
        return f"; its last words:\n{text[-2000:]}" if text else ""

    def kill(self) -> None:
        """SIGKILL, as `kill -9` does: the process gets no chance to say goodbye."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Ends it in good order; a status other than 0 is an error."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        if self._process.returncode != 0:
            raise self._ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()
