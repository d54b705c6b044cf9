"""What a task asks the arbiter for, and the verdict it gets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from rtswap import _core
from rtswap.errors import AdmissionRefused, InvalidArgument, quietly
from rtswap.units import limit_ns, period_ns, positive_ns, whole_within

if TYPE_CHECKING:
    from rtswap.memory import Memory
    from rtswap.runtime import Runtime

log = logging.getLogger("rtswap")

Late = Literal["drop", "run"]
OnRefusal = Literal["raise", "best_effort"]
Layers = list[tuple[int, int]]
"""(chunks, ns): what the stretches of a job need and cost; see rtswap/stretches.py."""


class Timing:
    """Checked timing of a task in the core's units."""

    def __init__(
        self,
        period_ms: float | None,
        rate_hz: float | None,
        deadline_ms: float | None,
        wcet_ms: float | None,
    ) -> None:
        if period_ms is not None and rate_hz is not None:
            raise InvalidArgument("Give period_ms or rate_hz, not both.")
        self.period_ns = 0
        if rate_hz is not None:
            self.period_ns = period_ns(rate_hz, "rate_hz")
        elif period_ms is not None:
            self.period_ns = positive_ns(period_ms, "period_ms")
        self.deadline_ns = self.period_ns
        if deadline_ms is not None:
            self.deadline_ns = positive_ns(deadline_ms, "deadline_ms")
            if not self.period_ns:
                raise InvalidArgument("deadline_ms needs a period: give period_ms or rate_hz too.")
            if self.deadline_ns > self.period_ns:
                raise InvalidArgument(
                    f"deadline_ms={deadline_ms} lies beyond the period of "
                    f"{self.period_ns / 1e6:g} ms. A job must end before the next is released: "
                    "use a deadline up to the period, or a longer period."
                )
        self.wcet_ns = 0 if wcet_ms is None else positive_ns(wcet_ms, "wcet_ms")
        self.layers: Layers = []
        """Of a measured cost, which they make up."""

    def take_cost(self, verdict: dict[str, Any]) -> None:
        """Where no cost was declared: that of another verdict. ``InvalidArgument`` without any."""
        if not self.wcet_ns:
            self.wcet_ns, self.layers = verdict["wcet_ns"], verdict["layers"]
        if self.period_ns and not self.wcet_ns:
            raise InvalidArgument(
                "A promise needs a cost, and this model was registered without one: give wcet_ms=, "
                "or register it with profile= or example_inputs=."
            )


def open_options(
    name: str,
    timing: Timing,
    late: Late,
    on_refusal: OnRefusal,
    *,
    importance: int,
    resident: bool,
) -> dict[str, Any]:
    if late not in ("drop", "run"):
        raise InvalidArgument(f"late={late!r}: 'drop' or 'run'.")
    if on_refusal not in ("raise", "best_effort"):
        raise InvalidArgument(f"on_refusal={on_refusal!r}: 'raise' or 'best_effort'.")
    return {
        "name": name,
        "period_ns": timing.period_ns,
        "deadline_ns": timing.deadline_ns,
        "wcet_ns": timing.wcet_ns,
        "layers": timing.layers,
        "resident": bool(resident),
        "late_run": late == "run",
        "best_effort": on_refusal == "best_effort",
        "importance": whole_within(importance, _core.most_importance, "importance"),
    }


def open_native(
    runtime: Runtime, memory: Memory, options: dict[str, Any], timeout: float | None
) -> _core.Task:
    """Opens the task and waits for the verdict; a refused one is closed again."""
    native = runtime.session.open_task(arenas=[arena.id for arena in memory.arenas], **options)
    try:
        verdict = native.wait_verdict(limit_ns(timeout))
        if verdict["state"] == "refused":
            raise AdmissionRefused(verdict["reason"])
    except BaseException:
        quietly(native.close, f"closing refused task '{options['name']}'")
        raise
    if verdict["state"] == "best_effort" and options["period_ns"]:
        log.warning("task '%s' runs as best effort: %s", options["name"], verdict["reason"])
    return native
