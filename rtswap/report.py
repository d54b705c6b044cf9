"""What rtswap tells about itself: plain, frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Info:
    """What ``enable()`` chose."""

    arbiter: str
    """For people: which daemon, or "the arbiter embedded in this process"."""
    embedded: bool
    connected: bool
    device: str
    """Where tensors of registered models live: ``cuda:0``, or ``cpu`` for the simulated device."""
    device_uuid: str
    device_name: str
    simulated: bool
    budget_bytes: int
    chunk_bytes: int
    version: str
    torch_built_for: str


@dataclass(frozen=True)
class Promise:
    """What admission promised to a task, and on which measurements it rests."""

    state: str
    """``loading``, ``warming``, ``admitted``, ``best_effort``, ``refused`` or ``paused``."""
    reason: str
    """Why the task is best effort or refused, and what would fit; else empty."""
    response_bound_ms: float | None
    """Worst response the test guarantees; None: nothing is promised."""
    wcet_ms: float | None
    """Declared, or measured times the margin."""
    measured_ms: float | None
    """Worst device time seen when it was measured; None when the cost in force was declared."""
    margin: float
    """Factor between the measured and the declared cost."""
    block_ms: float | None
    """GPU time the test charges for one job: of a direct task its restore included, of a staged one
    only what is left to restore when it takes the GPU."""
    mode: str
    """``direct``: a job restores its memory while it holds the GPU. ``staged``: it restores its
    lead before, while others run. Chosen at admission; may change as tasks come and go."""
    lead_ms: float | None
    """Of a staged task: how long restoring the lead takes if no direct job comes in between."""
    importance: int
    """In force (a daemon's task file may override the one that was given)."""
    suspended: str
    """Why the bound may not hold until the device is next idle (a job held it for longer than its
    block, or nobody knows for how long, or the link has become slower); empty: it holds."""
    begins_on_prefix: bool
    """Whether a job may begin while a part of its memory is still on the way: the stretches of its
    execution were measured, and the first use of each part waits for it."""


@dataclass(frozen=True)
class TaskStats:
    """Counts of one task since it was registered."""

    name: str
    state: str
    released: int
    met: int
    missed: int
    dropped: int
    skipped: int
    """Releases that the clock passed over because the job before was still running."""
    failed: int
    """Jobs that ended by time-out, cancellation or an error before they started."""
    begun_on_prefix: int
    """Jobs that began while a part of their memory was still on the way."""
    memory_wait_ms: float
    """What these waited for memory after their start, together."""
    restored_bytes: int
    evicted_bytes: int
    written_back_bytes: int
    repaired_bytes: int
    """Bytes of read_only tensors that jobs wrote and that were kept."""
    arena_bytes: int
    resident_bytes: int
    host_bytes: int
    kept_scratch_bytes: int
    """Of scratch regions: chunks that are copied as mutable ones, because tensors in them outlived
    their job."""
    guarded_bytes: int
    """Of evicted memory that reads as NaN now: with ``enable(guard=True)`` all that was evicted."""
    guard_failures: int
    """Attempts to make it so that failed. An access there still ends the context."""
    response_min_ms: float | None
    response_median_ms: float | None
    response_max_ms: float | None


@dataclass(frozen=True)
class ArbiterTask:
    """One task as the arbiter sees it; of any process."""

    name: str
    """``name@pid``."""
    device: int
    state: str
    period_ns: int
    deadline_ns: int
    wcet_ns: int
    released: int
    met: int
    missed: int
    dropped: int
    overruns: int
    restored_bytes: int
    evicted_bytes: int
    written_back_bytes: int
    arena_chunks: int
    resident_chunks: int
    response_max_ns: int
    response_bound_ns: int
    importance: int
    mode: str
    """``direct`` or ``staged``, as :attr:`Promise.mode`."""
    lead_ns: int


@dataclass(frozen=True)
class ArbiterDevice:
    """One device as the arbiter sees it."""

    uuid: str
    chunk_bytes: int
    chunk_count: int
    free_chunks: int
    static_bytes: int
    static_limit_bytes: int
    running: str
    """``name@pid`` of the job that holds the device, or empty."""
    utilisation: float
    suspended: str
    """Why the bounds of its tasks may not hold until it is next idle; empty: they hold."""
    suspensions: int
    """How often that has been so."""


@dataclass(frozen=True)
class Snapshot:
    """The arbiter's picture of all processes at one instant."""

    recovering: bool
    devices: tuple[ArbiterDevice, ...]
    tasks: tuple[ArbiterTask, ...]

    @staticmethod
    def of(values: dict[str, Any]) -> Snapshot:
        return Snapshot(
            recovering=values["recovering"],
            devices=tuple(ArbiterDevice(**device) for device in values["devices"]),
            tasks=tuple(ArbiterTask(**task) for task in values["tasks"]),
        )
