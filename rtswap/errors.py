"""Everything rtswap raises on purpose: one family under :class:`Error`.

Where Python or torch already has a class for the situation, ours is also one of those, so that code
which knows nothing of rtswap handles it: time-outs are ``TimeoutError``, a lost daemon is a
``ConnectionError``, out of device memory is a ``torch.OutOfMemoryError``.
"""

# ruff: noqa: N818 (names say what happened; `rtswap.` says that it is an error)

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

log = logging.getLogger("rtswap")

_SHOWN = 5


class Error(Exception):
    """Base of all errors of rtswap. The message says what happened, why, and what to do."""

    code: str = "internal"


class InvalidArgument(Error, ValueError):
    """A value that was passed makes no sense; nothing was changed."""

    code = "invalid_argument"


class DuplicateName(InvalidArgument):
    """A task of this name exists in this process."""

    code = "duplicate_name"


class WeightsMismatch(InvalidArgument):
    """Weight files do not have the tensors of the model; the message lists what differs."""

    code = "weights_mismatch"


class AdmissionRefused(Error):
    """The schedulability test does not pass with this task; the message says why and what would."""

    code = "admission_refused"


class OutOfMemory(Error, torch.OutOfMemoryError):
    """Device memory ran out: bank, static share, or address space."""

    code = "out_of_memory"


class ModelTooLarge(OutOfMemory):
    """The model does not fit the budget even when it is alone."""

    code = "model_too_large"


class StaticMemoryError(OutOfMemory):
    """What this process needs beside the bank does not fit there."""

    code = "static_memory"


class HostMemoryError(Error, MemoryError):
    """The host copy of a model is larger than RAM or the memory cgroup leave."""

    code = "host_memory"


class DaemonUnavailable(Error, ConnectionError):
    """No daemon at the socket, or the link to it was lost. Data are kept; sessions resume."""

    code = "daemon_unavailable"


class ProtocolMismatch(Error, ConnectionError):
    """This library and the daemon speak different protocol versions."""

    code = "protocol_mismatch"


class ProtocolViolation(Error, ConnectionError):
    """The daemon answered with something that makes no sense."""

    code = "protocol_violation"


class DeviceInUse(Error):
    """Another arbiter manages this GPU."""

    code = "device_in_use"


class UnknownDevice(Error, ValueError):
    """A device that the arbiter does not manage."""

    code = "unknown_device"


class Unsupported(Error, NotImplementedError):
    """A platform, device, backend or tensor type that rtswap cannot work with."""

    code = "unsupported"


class DescriptorLimit(Error, OSError):
    """Too few file descriptors are allowed for this process."""

    code = "descriptor_limit"


class Timeout(Error, TimeoutError):
    """A wait ended at the time limit that was given."""

    code = "timed_out"


class JobDropped(Error):
    """The job can no longer meet its deadline and did not run."""

    code = "job_dropped"


class NestedJob(Error, RuntimeError):
    """A job was entered inside another job."""

    code = "nested_job"


class EscapedTensor(Error, RuntimeError):
    """A registered tensor no longer lies in its arena."""

    code = "escaped_tensor"


class NotResident(Error, RuntimeError):
    """A model was used without a grant."""

    code = "not_resident"


class NotRegistered(Error, RuntimeError):
    """A copy of a registered module, or a module whose task is gone, was called."""

    code = "not_registered"


class Closed(Error, RuntimeError):
    """The task or the session was closed, or never opened."""

    code = "closed"


class Interrupted(Error):
    """The wait was cancelled by its own process."""

    code = "interrupted"


class DriverError(Error, RuntimeError):
    """A call of the device driver failed; the message has the call and the driver's words."""

    code = "driver_failure"


class DeviceLost(DriverError):
    """The CUDA context of this process is gone, and the process has to be restarted.

    The message names the tasks and tensors that were not on the device. If the cause was an access
    to memory of rtswap, it was to one of them, outside its jobs: ``rtswap.enable(guard=True)``
    helps to find it.
    """

    code = "device_lost"


class Internal(Error, AssertionError):
    """A bug in rtswap."""

    code = "internal"


_BY_CODE: dict[str, type[Error]] = {
    cls.code: cls
    for cls in (
        InvalidArgument,
        DuplicateName,
        WeightsMismatch,
        AdmissionRefused,
        OutOfMemory,
        ModelTooLarge,
        StaticMemoryError,
        HostMemoryError,
        DaemonUnavailable,
        ProtocolMismatch,
        ProtocolViolation,
        DeviceInUse,
        UnknownDevice,
        Unsupported,
        DescriptorLimit,
        Timeout,
        JobDropped,
        NestedJob,
        EscapedTensor,
        NotResident,
        NotRegistered,
        Closed,
        Interrupted,
        DriverError,
        DeviceLost,
        Internal,
    )
}


def from_code(code: str, message: str) -> Error:
    """The exception for an error of the core (its name in csrc/base/result.h)."""
    if code == DeviceLost.code:
        from rtswap import runtime  # which imports this module

        message = runtime.describe_loss(message)
    return _BY_CODE.get(code, Internal)(message)


def quietly(step: Callable[[], object], what: str) -> None:
    """For clean-up that must not hide the error that led to it."""
    try:
        step()
    except Exception as error:  # of torch, too
        log.warning("%s: %s", what, error)


def shown(names: Sequence[str]) -> str:
    """The first names, for messages."""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + (", ..." if names[_SHOWN:] else "")
