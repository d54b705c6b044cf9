"""Several periodic PyTorch models share one GPU whose memory cannot hold them all.

In short::

    import rtswap

    rtswap.enable()
    task = rtswap.register(model, name="detector", period_ms=33.3, example_inputs=(x,))
    with task.job(stamp_ns=message.stamp_ns):
        boxes = model(message.image)
"""

import torch as _torch

from rtswap import _build

_build.check(_torch.__version__)

# E402: only after that check may the extension be loaded, and everything below loads it.
from rtswap import errors  # noqa: E402
from rtswap._core import version as __version__  # noqa: E402
from rtswap.clock import JobClock  # noqa: E402
from rtswap.errors import (  # noqa: E402
    AdmissionRefused,
    Closed,
    DaemonUnavailable,
    DescriptorLimit,
    DeviceInUse,
    DeviceLost,
    DriverError,
    DuplicateName,
    Error,
    EscapedTensor,
    HostMemoryError,
    Internal,
    Interrupted,
    InvalidArgument,
    JobDropped,
    ModelTooLarge,
    NestedJob,
    NotRegistered,
    NotResident,
    OutOfMemory,
    ProtocolMismatch,
    ProtocolViolation,
    StaticMemoryError,
    Timeout,
    UnknownDevice,
    Unsupported,
    WeightsMismatch,
)
from rtswap.hooks import forget  # noqa: E402
from rtswap.jobs import Job, current_job  # noqa: E402
from rtswap.region import Region, region  # noqa: E402
from rtswap.register import register, swappable  # noqa: E402
from rtswap.report import Info, Promise, Snapshot, TaskStats  # noqa: E402
from rtswap.residency import resident  # noqa: E402
from rtswap.runtime import disable, enable, info, stats  # noqa: E402
from rtswap.tasks import Task  # noqa: E402

__all__ = [
    "AdmissionRefused",
    "Closed",
    "DaemonUnavailable",
    "DescriptorLimit",
    "DeviceInUse",
    "DeviceLost",
    "DriverError",
    "DuplicateName",
    "Error",
    "EscapedTensor",
    "HostMemoryError",
    "Info",
    "Internal",
    "Interrupted",
    "InvalidArgument",
    "Job",
    "JobClock",
    "JobDropped",
    "ModelTooLarge",
    "NestedJob",
    "NotRegistered",
    "NotResident",
    "OutOfMemory",
    "Promise",
    "ProtocolMismatch",
    "ProtocolViolation",
    "Region",
    "Snapshot",
    "StaticMemoryError",
    "Task",
    "TaskStats",
    "Timeout",
    "UnknownDevice",
    "Unsupported",
    "WeightsMismatch",
    "__version__",
    "current_job",
    "disable",
    "enable",
    "errors",
    "forget",
    "info",
    "region",
    "register",
    "resident",
    "stats",
    "swappable",
]
