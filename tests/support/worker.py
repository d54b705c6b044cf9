"""A client process that is told what to do, one JSON object a line, and answers the same way.

Parent side: ``Worker``. Child side: ``python -m tests.support.worker``. Commands are the methods of
``Client`` below; an exception in one is answered as ``{"error": class name, "message": text}``.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import Self

ROOT = Path(__file__).resolve().parents[2]


class WorkerError(RuntimeError):
    """A command failed in the client; ``kind`` is the class name of its exception."""

    def __init__(self, kind: str, message: str):
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Worker:
    """Parent side of one client process."""

    def __init__(self, *wrapper: str, **environment: str):
        """``wrapper``: a command that runs the client, such as ``unshare``."""
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "tests.support.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
                **environment,
            },
        )

    def send(self, command: str, **arguments: Any) -> None:
        """Send a command without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        """Wait for the answer to the oldest unanswered command."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WorkerError("Ended", f"client ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"], answer["message"])
        return answer["result"]

    def call(self, command: str, **arguments: Any) -> Any:
        """Send a command and wait for its answer."""
        self.send(command, **arguments)
        return self.receive()

    @staticmethod
    def call_all(workers: Sequence[Worker], command: str, *each: dict[str, Any]) -> list[Any]:
        """The same command in all of them at once, with each one's arguments; answers in order."""
        for worker, arguments in zip(workers, each, strict=True):
            worker.send(command, **arguments)
        return [worker.receive() for worker in workers]

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End the client in good order."""
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Client:
    """Child side: one model, one task."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.torch = torch
        self.task: Any = None
        self.model: Any = None
        self.inputs: Any = None
        self.device = "cpu"

    def enable(self, **options: Any) -> dict[str, Any]:
        """``rtswap.enable``; answers which arbiter was chosen."""
        import rtswap

        info = rtswap.enable(**options)
        self.device = info.device
        return {"arbiter": info.arbiter, "pid": os.getpid()}

    def register(self, model: str, seed: int = 0, batch: int = 1, **options: Any) -> dict[str, Any]:
        """Build ``tests.support.models.<model>`` on the CPU, remember its output, register it."""
        import rtswap
        from tests.support import models

        self.model, self.inputs = models.build(model, seed=seed, batch=batch)
        self.model.eval()
        with self.torch.inference_mode():
            reference = self._unswapped_output()
        self.inputs = self.inputs.to(self.device)
        self.reference = reference
        self.task = rtswap.register(self.model, name=options.pop("name", model), **options)
        return {
            "state": self.task.state,
            "bytes": sum(t.nbytes for t in [*self.model.parameters(), *self.model.buffers()]),
            "reference": reference,
        }

    def _unswapped_output(self) -> str:
        """Digest of the output of a plain copy of the model on the same device."""
        import copy

        plain = copy.deepcopy(self.model).to(self.device)
        digest = self._digest(plain(self.inputs.to(self.device)))
        del plain
        if self.device != "cpu":
            self.torch.cuda.empty_cache()
        return digest

    def _digest(self, output: Any) -> str:
        raw = output.detach().contiguous().view(self.torch.uint8).cpu().numpy().tobytes()
        return hashlib.sha256(raw).hexdigest()

    def jobs(self, count: int = 1, pause_s: float = 0.0) -> list[dict[str, Any]]:
        """Run jobs; for each its begin, wall time, waiting time, restored bytes and whether exact.

        Begins are CLOCK_MONOTONIC, which all processes share.
        """
        results = []
        for _ in range(count):
            begin = time.monotonic()
            with self.torch.inference_mode(), self.task.job() as job:
                output = self.model(self.inputs)
            end = time.monotonic()
            results.append(
                {
                    "begin_ms": begin * 1e3,
                    "wall_ms": (end - begin) * 1e3,
                    "waited_ms": job.waited_ms,
                    "restored_bytes": job.restored_bytes,
                    "exact": self._digest(output) == self.reference,
                }
            )
            if pause_s:
                time.sleep(pause_s)
        return results

    def execution_ms(self, count: int = 20) -> list[float]:
        """Execution alone: job wall time minus waiting, for jobs that restore nothing."""
        times: list[float] = []
        while len(times) < count:
            [job] = self.jobs()
            if job["restored_bytes"] == 0:
                times.append(job["wall_ms"] - job["waited_ms"])
        return times

    def spin(self, seconds: float) -> None:
        """Enter a job and keep the GPU busy in it: to be killed meanwhile."""
        with self.task.job():
            print(json.dumps({"result": "spinning"}), flush=True)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                with self.torch.inference_mode():
                    self.model(self.inputs)

    def hold(self) -> None:
        """Enter a job and stay in it until the next line of input comes."""
        with self.task.job():
            print(json.dumps({"result": "holding"}), flush=True)
            sys.stdin.readline()

    def clock(self, count: int) -> dict[str, Any]:
        """Run that many releases of ``task.jobs()``; their instants, and what is in force."""
        releases = []
        for job in self.task.jobs():
            releases.append(job.release_ns)
            with self.torch.inference_mode(), job:
                self.model(self.inputs)
            if len(releases) == count:
                break
        return {"releases_ns": releases, "period_ms": self.task.period_ms}

    def state(self) -> str:
        """``task.state``."""
        return str(self.task.state)

    def mode(self) -> str:
        """``task.promise.mode``."""
        return str(self.task.promise.mode)

    def pause(self) -> None:
        """``task.pause()``."""
        self.task.pause()

    def close(self) -> str:
        """Close the task and compare an ordinary forward pass with the reference.

        The model goes back to where it was before it was registered: the CPU.
        """
        self.task.close()
        self.model.to(self.device)
        with self.torch.inference_mode():
            return "exact" if self._digest(self.model(self.inputs)) == self.reference else "wrong"


def main() -> None:
    """Serve commands until standard input ends."""
    client = Client()
    for line in sys.stdin:
        request = json.loads(line)
        command = request.pop("command")
        try:
            answer = {"result": getattr(client, command)(**request)}
        except Exception as error:  # whatever it is, the parent gets to see it
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
