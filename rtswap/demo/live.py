"""What goes wrong in real life, live: a client is killed, a model too many asks to join."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rtswap.demo.calibrate import Timing
from rtswap.demo.daemon import Daemon
from rtswap.demo.processes import Client, ClientError
from rtswap.demo.stage import Stage
from rtswap.demo.tally import JobRecord
from rtswap.demo.taskset import LATECOMER

VICTIM = "signs"
VICTIM_DIES_AFTER_RELEASE_NS = 15_000_000  # waiting, restoring or running: any will do


@dataclass
class Story:
    """What happened, for the report."""

    killed: str = VICTIM
    survivors_jobs: int = 0
    late: int = 0
    refusal: str = ""
    problems: list[str] = field(default_factory=list)


def perform(
    cast: Sequence[Client],
    timings: Sequence[Timing],
    horizon_ns: int,
    stage: Stage,
    daemon: Daemon,
    folder: Path,
    console: Console,
) -> Story:
    """The clients are registered and idle; afterwards all but the victim are so again."""
    story = Story()
    by_name = {timing.name: timing for timing in timings}
    with Client(LATECOMER.name, stage.scale, folder / "latecomer.log") as latecomer:
        latecomer.call("prepare", cuda=stage.cuda)
        latecomer.call("enable", socket=daemon.socket)
        start_ns = time.monotonic_ns() + 200_000_000
        for client in cast:
            timing = by_name[client.role]
            client.send(
                "run",
                start_ns=start_ns,
                releases_ns=timing.releases_ns(max(horizon_ns // 2, 2 * timing.period_ns)),
                deadline_ns=timing.deadline_ns,
            )
        _kill_victim(cast, by_name[VICTIM], start_ns, console)
        _refuse(latecomer, by_name, story, console)
        latecomer.close()
    survivors = [client for client in cast if client.role != VICTIM]
    jobs = [
        JobRecord(**job)
        for client in survivors
        for job in client.receive(60 + 10 * horizon_ns / 1e9)["jobs"]
    ]
    story.survivors_jobs = len(jobs)
    story.late = sum(job.outcome != "met" for job in jobs)
    wrong = sum(not job.exact for job in jobs)
    if wrong:
        story.problems.append(f"{wrong} wrong outputs after {VICTIM} was killed")
    if not daemon.alive():
        story.problems.append(f"rtswapd did not survive the death of {VICTIM}")
    console.print(
        f"The other three ran {len(jobs)} jobs meanwhile: {len(jobs) - story.late} in time, "
        f"{len(jobs) - wrong} exact.",
    )
    return story


def _kill_victim(cast: Sequence[Client], timing: Timing, start_ns: int, console: Console) -> None:
    victim = next(client for client in cast if client.role == VICTIM)
    at_ns = start_ns + timing.releases_ns(2 * timing.period_ns)[-1] + VICTIM_DIES_AFTER_RELEASE_NS
    time.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9))
    victim.kill()
    console.print(f"Live: kill -9 {victim.pid} ({VICTIM}), in the middle of a job.")


def _refuse(latecomer: Client, by_name: dict[str, Timing], story: Story, console: Console) -> None:
    """A second large model that would ask for almost the whole device on its own."""
    large = max(by_name.values(), key=lambda timing: timing.block_ns)
    period_ms = 1.1 * large.block_ns / 1e6
    try:
        answer = latecomer.call(
            "register",
            period_ms=period_ms,
            deadline_ms=period_ms,
            wcet_ms=large.wcet_ns / 1e6,
            whole_model=False,
        )
    except ClientError as error:
        if error.kind != "AdmissionRefused":
            raise
        story.refusal = error.reason
        console.print(
            f"Live: a further model asks for {period_ms:.0f} ms and is refused:\n  {error.reason}",
        )
        return
    story.problems.append(f"a model that cannot be served was {answer['state']}")
