"""The whole demo, from measuring to the last line."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rtswap.demo import live, picture, report, verdict
from rtswap.demo.acts import TITLES, Act
from rtswap.demo.calibrate import (
    Link,
    Measured,
    Timing,
    calibrate,
    demand_is_met,
    total_load,
)
from rtswap.demo.daemon import Daemon, DemoError
from rtswap.demo.processes import Client
from rtswap.demo.replay import Replay, replay
from rtswap.demo.stage import CHUNK_BYTES, Discipline, Stage
from rtswap.demo.tally import JobRecord, tally
from rtswap.demo.taskset import ROLES, Memory
from rtswap.timeline import build, load

PICTURE_PERIODS = 3  # of the longest period: enough to see the pattern, short enough to read
START_DELAY_NS = 300_000_000  # until every client has its orders


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    seconds: float = 12.0
    quick: bool = False
    strict: bool = False
    report: Path | None = None

    @property
    def passes(self) -> int:
        return 8 if self.quick else 20

    @property
    def run_seconds(self) -> float:
        return min(self.seconds, 5.0) if self.quick else self.seconds


@dataclass(frozen=True)
class Set:
    """The calibrated tasks and the device they share."""

    stage: Stage
    link: Link
    memories: dict[str, Memory]
    timings: list[Timing]
    bank_bytes: int
    horizon_ns: int
    replayed: Replay

    def timing(self, name: str) -> Timing:
        return next(timing for timing in self.timings if timing.name == name)


def perform(options: Options, console: Console) -> int:
    """Runs everything; the exit status of `rtswap demo`. ``OSError`` if no report can be left."""
    if options.report is not None:  # found before minutes of running
        options.report.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rtswap-demo-") as name:
        folder = Path(name)
        try:
            return _perform(options, console, folder)
        except DemoError as error:
            console.print(f"[bold red]The demo failed.[/] {error}")
            return 1


def _perform(options: Options, console: Console, folder: Path) -> int:
    stage = Stage.choose()
    console.print(f"Device: {stage.describe()}.")
    with ExitStack() as stack:
        cast = _enter_cast(stage, folder, "first", stack)
        plan = _rehearse(stage, cast, options, console)
        console.print(report.task_table(plan.timings, plan.memories, plan.bank_bytes))
        with _daemon(plan, "request-order", folder) as daemon:
            with _step(console, f"Running {TITLES['request-order']}"):
                first = _act(plan, "request-order", cast, daemon)
            first.end_ns = time.monotonic_ns()
            problems = _leave(cast)
    with ExitStack() as stack:
        cast = _enter_cast(stage, folder, "second", stack)
        for client in cast:
            client.call("prepare", cuda=stage.cuda)
        with _daemon(plan, "edf", folder) as daemon:
            with _step(console, f"Running {TITLES['edf']}"):
                second = _act(plan, "edf", cast, daemon)
            console.print(
                report.result_table([(TITLES[a.discipline], a.rows) for a in (first, second)])
            )
            story = live.perform(
                cast, plan.timings, plan.horizon_ns, stage, daemon, folder, console
            )
            second.end_ns = time.monotonic_ns()
            problems += _leave([client for client in cast if client.role != story.killed])
            ended = daemon.stop()
        if ended != 0:
            problems.append(f"rtswapd ended with status {ended}")
    for act in (first, second):
        act.timeline = build(load(_trace_file(folder, act.discipline)), act.end_ns)
    problems += verdict.wrongs([first, second], plan.bank_bytes, plan.replayed) + story.problems
    _leave_report(options, console, plan, [first, second], story, problems)
    status = verdict.give(console, second, story.late, problems, strict=options.strict)
    console.print(
        "Next: [bold]python examples/one_process.py[/], or your own model: "
        "`rtswap.register(model, period_ms=...)`; README.md shows how.",
    )
    return status


# ------------------------------------------------------------------------------------ preparation


def _enter_cast(stage: Stage, folder: Path, name: str, stack: ExitStack) -> list[Client]:
    return [
        stack.enter_context(Client(role.name, stage.scale, folder / f"{name}-{role.name}.log"))
        for role in ROLES
    ]


def _rehearse(stage: Stage, cast: list[Client], options: Options, console: Console) -> Set:
    """Measures every model alone, one after the other, and derives periods from that."""
    memories: dict[str, Memory] = {}
    measured: list[Measured] = []
    link_bytes_per_s = stage.link_bytes_per_s
    with _step(console, "Starting four processes and measuring their models"):
        for role, client in zip(ROLES, cast, strict=True):
            answer = client.call(
                "prepare",
                cuda=stage.cuda,
                link_bytes_per_s=stage.link_bytes_per_s,
                passes=options.passes,
            )
            memories[role.name] = memory = Memory(**answer["memory"])
            link_bytes_per_s = answer.get("link_bytes_per_s", link_bytes_per_s)
            measured.append(
                Measured(
                    role.name,
                    memory.chunks(CHUNK_BYTES),
                    answer["cost"]["worst_ns"],
                    role.pace,
                    round(role.offset_ms * 1e6),
                )
            )
    link = stage.link(link_bytes_per_s)
    bank_bytes = stage.bank_bytes(list(memories.values()))
    chunks = {task.name: task.chunks for task in measured}
    timings, replayed, horizon_ns = _settle(measured, link, chunks, bank_bytes, options)
    return Set(stage, link, memories, timings, bank_bytes, horizon_ns, replayed)


def _settle(
    measured: list[Measured], link: Link, chunks: dict[str, int], bank_bytes: int, options: Options
) -> tuple[list[Timing], Replay, int]:
    """Stretches the periods until the test on the blocks and the replay both pass."""
    for stretch in (1.0, 1.15, 1.35, 1.6, 2.0):
        timings = calibrate(measured, link, stretch)
        if not demand_is_met(timings):
            continue
        longest_ns = max(timing.period_ns for timing in timings)
        # On a slow machine periods are long: two releases of each task must be seen all the same.
        horizon_ns = max(round(options.run_seconds * 1e9), 2 * longest_ns)
        replayed = replay(timings, chunks, bank_bytes // CHUNK_BYTES, link, 10 * horizon_ns)
        if not replayed.refused:
            return timings, replayed, horizon_ns
    raise DemoError("no periods were found that admission takes: this is a bug in the demo")


# ------------------------------------------------------------------------------------ performance


def _daemon(plan: Set, discipline: Discipline, folder: Path) -> Daemon:
    own = folder / discipline
    own.mkdir()
    trace = _trace_file(folder, discipline)
    return Daemon(own, *plan.stage.daemon_flags(discipline, plan.bank_bytes, trace))


def _trace_file(folder: Path, discipline: Discipline) -> Path:
    return folder / f"{discipline}.trace"


def _act(plan: Set, discipline: Discipline, cast: list[Client], daemon: Daemon) -> Act:
    """All clients register, then run the same releases; `cast` stays registered."""
    for client in cast:
        timing = plan.timing(client.role)
        client.call("enable", socket=daemon.socket)
        answer = client.call(
            "register",
            period_ms=timing.period_ns / 1e6,
            deadline_ms=timing.deadline_ns / 1e6,
            wcet_ms=timing.wcet_ns / 1e6,
            whole_model=discipline == "request-order",
        )
        if discipline == "edf" and answer["state"] != "admitted":
            raise DemoError(f"{client.role} is {answer['state']} instead of admitted")
    start_ns = time.monotonic_ns() + START_DELAY_NS
    for client in cast:
        timing = plan.timing(client.role)
        client.send(
            "run",
            start_ns=start_ns,
            releases_ns=timing.releases_ns(plan.horizon_ns),
            deadline_ns=timing.deadline_ns,
        )
    answers = [client.receive(60 + 10 * plan.horizon_ns / 1e9) for client in cast]
    jobs = [JobRecord(**job) for answer in answers for job in answer["jobs"]]
    rows = [
        tally(client.role, jobs, answer["moved"]["in"], answer["moved"]["out"])
        for client, answer in zip(cast, answers, strict=True)
    ]
    return Act(discipline, start_ns, jobs, rows)


def _leave(cast: list[Client]) -> list[str]:
    """Ends the clients; a model that no longer works on ordinary memory is a problem."""
    problems = []
    for client in cast:
        if not client.call("leave")["exact"]:
            problems.append(f"{client.role}: wrong output after its task was closed")
        client.close()
    return problems


# ----------------------------------------------------------------------------------------- report


def _leave_report(
    options: Options,
    console: Console,
    plan: Set,
    acts: list[Act],
    story: live.Story,
    problems: list[str],
) -> None:
    if options.report is None:
        return
    image = options.report / "timeline.png"
    panels = [
        picture.Panel(
            f"{TITLES[act.discipline]}: {act.met} of {len(act.jobs)} deadlines met",
            act.timeline,
            act.jobs,
            act.start_ns,
        )
        for act in acts
    ]
    longest_ns = max(timing.period_ns for timing in plan.timings)
    seconds = min(PICTURE_PERIODS * longest_ns, plan.horizon_ns) / 1e9
    with _step(console, "Drawing both timelines"):
        picture.draw(panels, [role.name for role in ROLES], seconds, image)
    report.write(options.report / "report.json", _facts(plan, acts, story, problems))
    console.print(f"Report: {image} and report.json beside it.")


def _facts(plan: Set, acts: list[Act], story: live.Story, problems: list[str]) -> dict[str, Any]:
    return {
        "machine": report.machine_facts(),
        "device": plan.stage.describe(),
        "link": asdict(plan.link),
        "bank_bytes": plan.bank_bytes,
        "models_bytes": sum(memory.total_bytes for memory in plan.memories.values()),
        "load": total_load(plan.timings),
        "tasks": [asdict(timing) for timing in plan.timings],
        "disciplines": {
            act.discipline: {
                "resident_bytes_max": act.timeline.resident_bytes_max,
                "tasks": [row.as_dict() for row in act.rows],
                "jobs": [asdict(job) for job in act.jobs],
            }
            for act in acts
        },
        "replay": asdict(plan.replayed),
        "live": asdict(story),
        "problems": problems,
    }


@contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    """Says what goes on while it goes on, and how long it took."""
    begin = time.monotonic()
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        console.print(f"{what} ...")
        yield
    console.print(f"{what}: {time.monotonic() - begin:.1f} s")
