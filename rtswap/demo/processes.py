"""The clients of the demo as child processes."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from typing_extensions import Self

from rtswap.demo.daemon import DemoError

# The machine may be busy with other things; only a process that hangs takes this long.
_PATIENCE_S = 120.0


class ClientError(DemoError):
    """A command failed in a client; `kind` is the class name of its exception."""

    def __init__(self, role: str, kind: str, reason: str) -> None:
        super().__init__(f"{role}: {kind}: {reason}")
        self.kind = kind
        self.reason = reason


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

    def receive(self, limit_s: float = _PATIENCE_S) -> dict[str, Any]:
        """The answer to the oldest command not yet answered."""
        line = self._read_line(limit_s)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ClientError(self.role, answer["error"], answer["message"])
        return answer

    def call(self, command: str, limit_s: float = _PATIENCE_S, **arguments: Any) -> dict[str, Any]:
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
        status = self._process.wait(_PATIENCE_S)
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
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise DemoError(
                    f"{self.role}: did not end within {_PATIENCE_S:.0f} s{self._words()}"
                ) from None
        if self._process.returncode != 0:
            raise self._ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()
