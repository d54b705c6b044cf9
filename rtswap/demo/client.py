"""One process of the demo: one model, one task, told what to do over standard input.

    python -m rtswap.demo.client ROLE SCALE

Each line on standard input is a JSON object with a `command` (a method of `Performer`) and its
arguments; each is answered by one line on standard output, an error as `error` and `message`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

import rtswap
from rtswap.demo import costs
from rtswap.demo.tally import JobRecord
from rtswap.demo.taskset import Memory, role_named

INPUTS = 3  # different inputs, taken in turn: a stale output cannot pass for a fresh one


class Performer:
    """The commands."""

    def __init__(self, role: str, scale: int) -> None:
        self._role = role_named(role)
        self._model: nn.Module = self._role.build(scale)
        self._inputs = [self._role.make_input(seed) for seed in range(INPUTS)]
        self._digests: list[str] = []
        self._task: Any = None

    def prepare(self, cuda: bool, link_bytes_per_s: int = 0, passes: int = 0) -> dict[str, Any]:
        """Outputs of the unswapped model, its size, and what a pass costs (`passes` > 0)."""
        model = self._model
        if cuda:
            model = copy.deepcopy(model).cuda()
            self._inputs = [example.cuda() for example in self._inputs]
        with torch.inference_mode():
            self._digests = [_digest(model(example)) for example in self._inputs]
        answer: dict[str, Any] = {"memory": asdict(Memory.of(self._model))}
        if passes:
            example = self._inputs[0]
            if cuda:
                answer["link_bytes_per_s"] = costs.cuda_link_bytes_per_s()
                cost = costs.measure_cuda(model, example, passes)
            else:
                cost = costs.measure_simulated(model, example, link_bytes_per_s, passes)
            answer["cost"] = asdict(cost)
        if cuda:
            del model
            torch.cuda.empty_cache()
        return answer

    def enable(self, socket: str) -> dict[str, Any]:
        info = rtswap.enable(socket=socket, name=self._role.name)
        return {"arbiter": info.arbiter}

    def register(
        self, period_ms: float, deadline_ms: float, wcet_ms: float, whole_model: bool
    ) -> dict[str, Any]:
        """`whole_model`: everything is written back at each eviction, used or not."""
        self._task = rtswap.register(
            self._model,
            name=self._role.name,
            period_ms=period_ms,
            deadline_ms=deadline_ms,
            wcet_ms=wcet_ms,
            kinds="mutable" if whole_model else None,
            on_refusal="best_effort" if whole_model else "raise",
        )
        return {"state": str(self._task.state)}

    def run(self, start_ns: int, releases_ns: list[int], deadline_ns: int) -> dict[str, Any]:
        """Runs one job at each release (offsets from `start_ns`); answers when all are done."""
        jobs = [
            asdict(self._job(index, start_ns + offset_ns, deadline_ns))
            for index, offset_ns in enumerate(releases_ns)
        ]
        return {"jobs": jobs, "moved": self._bytes_moved()}

    def _job(self, index: int, release_ns: int, deadline_ns: int) -> JobRecord:
        due_ns = release_ns + deadline_ns
        which = index % INPUTS
        early_ns = release_ns - time.monotonic_ns()
        if early_ns > 0:
            time.sleep(early_ns / 1e9)
        elif -early_ns >= deadline_ns:  # the job before took so long that this one is hopeless
            return JobRecord(self._role.name, index, release_ns, due_ns, "dropped")
        try:
            with torch.inference_mode(), self._task.job(stamp_ns=release_ns) as job:
                output = self._model(self._inputs[which])
        except rtswap.JobDropped:
            return JobRecord(self._role.name, index, release_ns, due_ns, "dropped")
        end_ns = release_ns + round(job.response_ms * 1e6)
        return JobRecord(
            self._role.name,
            index,
            release_ns,
            due_ns,
            "met" if end_ns <= due_ns else "missed",
            end_ns,
            _digest(output) == self._digests[which],
        )

    def _bytes_moved(self) -> dict[str, int]:
        stats = self._task.stats()
        return {"in": stats.restored_bytes, "out": stats.written_back_bytes}

    def leave(self) -> dict[str, Any]:
        """Ends the task; the model must then still work, with ordinary memory."""
        self._task.close()
        model = self._model.to(self._inputs[0].device)
        with torch.inference_mode():
            exact = _digest(model(self._inputs[0])) == self._digests[0]
        rtswap.disable()
        return {"exact": exact}


def _digest(output: Tensor) -> str:
    raw = output.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(raw).hexdigest()


def main() -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    performer = Performer(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        request = json.loads(line)
        command = request.pop("command")
        try:
            answer = getattr(performer, command)(**request)
        except Exception as error:  # whatever it is, the parent decides what it means
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
