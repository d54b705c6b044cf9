"""What was wrong, and the exit status that follows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from rtswap.demo.acts import TITLES, Act
from rtswap.demo.replay import Replay


def wrongs(acts: Sequence[Act], bank_bytes: int, replayed: Replay) -> list[str]:
    """Wrong bytes, memory beyond the budget, a miss in virtual time: never right on any machine."""
    problems = []
    for act in acts:
        title = TITLES[act.discipline]
        problems += [f"{title}: {r.wrong} wrong outputs of {r.task}" for r in act.rows if r.wrong]
        if act.timeline.resident_bytes_max > bank_bytes:
            problems.append(
                f"{title}: {act.timeline.resident_bytes_max} bytes were held at one time, "
                f"the budget is {bank_bytes}"
            )
    if not replayed.clean:
        problems.append(f"the replay in virtual time is not clean: {replayed}")
    return problems


def give(
    console: Console, act: Act, late_live: int, problems: Sequence[str], *, strict: bool
) -> int:
    """Says how rtswap's run (`act`) and the live part went. Misses fail only where `strict`."""
    for problem in problems:
        console.print(f"[bold red]Wrong:[/] {problem}")
    late = act.late + late_live
    if late:
        console.print(
            f"{late} deadlines were not met under rtswap: this machine is busier than it was when "
            "the models were measured. In virtual time the same set misses none."
        )
    if not problems:
        outputs = sum(bool(job.end_ns) for job in act.jobs)
        console.print(
            f"[bold green]All outputs equal the unswapped models', bit for bit[/] ({outputs} under "
            "rtswap alone), memory stayed inside the budget, the replay in virtual time misses "
            "no deadline."
        )
    return 1 if problems or (strict and late) else 0
