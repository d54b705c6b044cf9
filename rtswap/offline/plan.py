"""May these tasks be promised their deadlines, and what would each of them get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rtswap import _core
from rtswap.offline.device import Device
from rtswap.offline.task_file import TaskSpec, planner_tasks


@dataclass(frozen=True)
class TaskPlan:
    """One task of an answer. Sizes in bytes, durations in ns."""

    spec: TaskSpec
    resident_bytes: int  # stays on the device
    restored_bytes: int  # most that one job has to restore
    mode: str  # "direct", or "staged": restored in the background before it takes the GPU
    lead_bytes: int  # of a staged one, restored so,
    lead_ns: int  # and how long that takes if no direct job comes in between
    block_ns: int | None  # longest that one job holds the GPU; None: not known
    bound_ns: int | None  # of the response; None: nothing is promised
    limited_by: str  # one sentence


@dataclass(frozen=True)
class Plan:
    """The answer of the admission test for a whole set."""

    admitted: bool
    reason: str  # of a refusal, with a change that was tested and would do
    change: str  # that change alone; may be empty
    failing_task: str | None
    failing_window_ns: int | None  # the first window that asks for more than its length
    failing_demand_ns: int | None
    utilisation: float
    best_effort_block_ns: int  # best effort up to this length is part of the promises
    release_latency_ns: int
    device: Device
    specs: list[TaskSpec]
    tasks: list[TaskPlan]  # in the order of the file; empty when no memory plan exists

    def as_json(self) -> dict[str, Any]:
        return {
            "admitted": self.admitted,
            "reason": self.reason,
            "change": self.change,
            "failing_task": self.failing_task,
            "failing_window_ns": self.failing_window_ns,
            "failing_demand_ns": self.failing_demand_ns,
            "utilisation": self.utilisation,
            "best_effort_block_ns": self.best_effort_block_ns,
            "budget_bytes": self.device.budget_bytes,
            "chunk_bytes": self.device.chunk_bytes,
            "link_bytes_per_s": self.device.bytes_per_s,
            "tasks": [
                {
                    "name": task.spec.name,
                    "period_ns": task.spec.period_ns,
                    "deadline_ns": task.spec.deadline_ns,
                    "wcet_ns": task.spec.wcet_ns,
                    "size_bytes": task.spec.size_bytes,
                    "resident_bytes": task.resident_bytes,
                    "restored_bytes": task.restored_bytes,
                    "importance": task.spec.importance,
                    "mode": task.mode,
                    "lead_bytes": task.lead_bytes,
                    "lead_ns": task.lead_ns,
                    "block_ns": task.block_ns,
                    "bound_ns": task.bound_ns,
                    "limited_by": task.limited_by,
                }
                for task in self.tasks
            ],
        }


# Of a restore over a link of unknown speed.
_UNKNOWN_NS = 2**63 - 1


def make_plan(specs: list[TaskSpec], device: Device) -> Plan:
    """Asks the planner and the test that decide at run time."""
    answer = _core.plan(
        {
            "chunk_bytes": device.chunk_bytes,
            "chunk_count": device.chunk_count,
            "bytes_per_s": device.bytes_per_s,
        },
        planner_tasks(specs, device.chunk_bytes),
    )
    promised = [spec for spec in specs if spec.period_ns]
    best_effort = [spec for spec in specs if not spec.period_ns]
    plans = {
        spec.name: _task_plan(spec, values, promised, answer, device)
        for group, found in ((promised, "promised"), (best_effort, "best_effort"))
        for spec, values in zip(group, answer[found], strict=False)
    }
    failure = answer["failure"]
    return Plan(
        admitted=answer["admitted"],
        reason=answer["reason"],
        change=answer["change"],
        failing_task=promised[failure["missing_task"]].name if failure else None,
        failing_window_ns=failure["window_ns"] or None if failure else None,
        failing_demand_ns=failure["demand_ns"] or None if failure else None,
        utilisation=answer["utilisation"],
        best_effort_block_ns=answer["best_effort_block_ns"],
        release_latency_ns=answer["release_latency_ns"],
        device=device,
        specs=specs,
        tasks=[plans[spec.name] for spec in specs if spec.name in plans],
    )


def _task_plan(
    spec: TaskSpec,
    values: dict[str, Any],
    promised: list[TaskSpec],
    answer: dict[str, Any],
    device: Device,
) -> TaskPlan:
    bound = values.get("response_ns") if spec.period_ns else None
    known = spec.wcet_ns > 0 and values["block_ns"] != _UNKNOWN_NS
    return TaskPlan(
        spec=spec,
        resident_bytes=min(values["resident_chunks"] * device.chunk_bytes, spec.size_bytes),
        restored_bytes=min(values["missing_chunks"] * device.chunk_bytes, spec.size_bytes),
        mode=values["mode"],
        lead_bytes=min(values["lead_chunks"] * device.chunk_bytes, spec.size_bytes),
        lead_ns=values["lead_ns"],
        block_ns=values["block_ns"] if known else None,
        bound_ns=bound,
        limited_by=(
            _sentence(spec, values, promised, answer)
            if bound
            else _unpromised(spec, values["block_ns"] if known else None, promised, answer)
        ),
    )


def show_ms(ns: int) -> str:
    return f"{ns / 1e6:.1f} ms"


def _sentence(
    spec: TaskSpec, values: dict[str, Any], promised: list[TaskSpec], answer: dict[str, Any]
) -> str:
    """What the longest response consists of beside the job's own lead and block."""
    staged = values["mode"] == "staged"
    own = values["lead_ns"] + values["block_ns"]
    waits = values["response_ns"] - own - answer["release_latency_ns"]
    blocking = values["blocking_ns"]
    if waits <= 0:
        return f"{spec.name} waits for nobody: its own block is all there is"
    parts = []
    if blocking > 0 and values["blocking_task"] is not None:
        blocker = promised[values["blocking_task"]].name
        what = "lead and run" if staged else "a block"
        parts.append(f"{show_ms(blocking)} for {what} of {blocker}")
    elif blocking > 0:
        parts.append(f"{show_ms(blocking)} for best-effort work")
    if waits - blocking > 0:
        others = "jobs that go or are due before" if staged else "jobs that are due before"
        parts.append(f"{show_ms(waits - blocking)} for {others}")
    ahead = f" is restored in {show_ms(values['lead_ns'])} beside others and" if staged else ""
    return f"{spec.name}{ahead} waits at most {' and '.join(parts)}"


def _unpromised(
    spec: TaskSpec, block_ns: int | None, promised: list[TaskSpec], answer: dict[str, Any]
) -> str:
    """When best effort runs, by the rules of csrc/arbiter/dispatch.cc."""
    if spec.period_ns:
        return f"{spec.name}: nothing is promised, the set is refused"
    if not spec.wcet_ns:
        return f"{spec.name} is best effort of unknown length: promises are suspended while it runs"
    if block_ns is None:
        return (
            f"{spec.name} is best effort; for how long it holds the GPU is not known without --link"
        )
    if not answer["admitted"]:
        return f"{spec.name} is best effort: when it runs depends on what is promised to the others"
    if not promised or block_ns <= answer["best_effort_block_ns"]:
        return f"{spec.name} is best effort: it runs when no promised job waits"
    long = f"a job may hold the GPU for {show_ms(block_ns)}"
    hurried = min(promised, key=lambda other: other.period_ns)
    if block_ns > hurried.period_ns:
        return (
            f"{spec.name} is best effort and never runs beside {hurried.name}: {long}, and "
            f"{hurried.name} may come every {show_ms(hurried.period_ns)}"
        )
    return (
        f"{spec.name} is best effort: {long}, so it begins only where no promised job waits or may "
        "come meanwhile"
    )


def why_no_curve(plan: Plan) -> str | None:
    """Why there is no demand to draw, if so."""
    promised = [task for task in plan.tasks if task.spec.period_ns]
    if not plan.tasks:
        return "there is no plan whose demand could be drawn"
    if not promised:
        return "no task has a period, so none has a demand"
    if any(task.block_ns is None for task in promised):
        return "without --link it is not known for how long jobs hold the GPU"
    if all(task.mode == "staged" for task in promised):
        return "all tasks are staged; the curve is that of direct ones"
    return None


def demand_curve(plan: Plan, until_ns: int) -> tuple[list[int], list[int]]:
    """Window lengths up to `until_ns` and the most that direct tasks may ask of the GPU in each,
    with the longest block that may be in the way: where it exceeds the window, the set fails.

    REQUIRES: why_no_curve() is None.
    """
    tasks = [task for task in plan.tasks if task.spec.period_ns]
    points = sorted(
        {
            deadline
            for task in tasks
            if task.mode == "direct"
            for deadline in range(task.spec.deadline_ns, until_ns + 1, task.spec.period_ns)
        }
    )
    return points, [_demand_ns(plan, tasks, point) for point in points]


def _demand_ns(plan: Plan, tasks: list[TaskPlan], window_ns: int) -> int:
    demand = plan.release_latency_ns
    blocking = plan.best_effort_block_ns
    for task in tasks:
        spec, block_ns = task.spec, task.block_ns or 0
        if task.mode == "direct" and spec.deadline_ns <= window_ns:
            jobs = 1 + (window_ns - spec.deadline_ns) // spec.period_ns
            demand += jobs * block_ns
        else:
            blocking = max(blocking, block_ns)
    return demand + blocking
