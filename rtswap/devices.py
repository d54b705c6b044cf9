"""CUDA devices as torch, the user and the arbiter name them: index, ``cuda:1``, UUID."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from rtswap.errors import UnknownDevice


def cuda_index(device: torch.device | str | int | None) -> int:
    """torch's index of a CUDA device of this process, given in any form."""
    if device is None:
        return torch.cuda.current_device()
    text = str(device)
    uuids = [cuda_uuid(index) for index in range(torch.cuda.device_count())]
    for index, uuid in enumerate(uuids):
        if text.lower() == uuid.lower():
            return index
    try:
        index = int(text) if text.isdigit() else torch.device(text).index
    except RuntimeError:
        index = len(uuids)  # none of them
    if index is None:
        return torch.cuda.current_device()
    if index >= len(uuids):
        raise UnknownDevice(
            f"device {text!r} is no CUDA device of this process. There are: " + ", ".join(uuids)
        )
    return index


def cuda_uuid(index: int) -> str:
    """UUID of torch's CUDA device ``index``, as the driver and NVML write it."""
    return f"GPU-{torch.cuda.get_device_properties(index).uuid}"


def uuid_of(device: torch.device | str | int, devices: list[dict[str, Any]]) -> str:
    """UUID of a device given as index, torch device or UUID."""
    text = str(device)
    known = {entry["uuid"].lower(): entry["uuid"] for entry in devices}
    if text.lower() in known:
        return str(known[text.lower()])
    simulated = [entry["uuid"] for entry in devices if entry["simulated"]]
    if text == "cpu" and len(simulated) == 1:
        return str(simulated[0])
    if text.upper().startswith(("GPU-", "SIM-", "MIG-")):
        return text
    if not torch.cuda.is_available():
        raise UnknownDevice(
            f"device {text!r}: there is no CUDA device in this process."
            + (f" The arbiter has {', '.join(known.values())}." if known else "")
        )
    return cuda_uuid(cuda_index(device))


def default_device(devices: list[dict[str, Any]]) -> int:
    """Index of the arbiter's only device, else of torch's current one."""
    if len(devices) == 1:
        return 0
    if torch.cuda.is_available():
        current = cuda_uuid(torch.cuda.current_device())
        for index, device in enumerate(devices):
            if device["uuid"] == current:
                return index
    raise UnknownDevice(
        "The arbiter manages several devices; say which by device=: "
        + ", ".join(device["uuid"] for device in devices)
    )


def torch_device(device: dict[str, Any]) -> torch.device:
    """Where tensors of a device of the arbiter live in this process."""
    if device["simulated"]:
        return torch.device("cpu")
    for index in range(torch.cuda.device_count()):
        if cuda_uuid(index) == device["uuid"]:
            return torch.device("cuda", index)
    raise UnknownDevice(
        f"The arbiter manages {device['uuid']}, which torch does not see in this process "
        "(CUDA_VISIBLE_DEVICES, or a torch without CUDA)."
    )


def synchronize(devices: Iterable[torch.device]) -> None:
    """Waits until everything queued there has completed."""
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
