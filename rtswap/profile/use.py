"""What `register(profile=)` takes from a profile, after it has looked whether the two fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from rtswap import _core
from rtswap.admission import Layers
from rtswap.collect import Kind
from rtswap.errors import InvalidArgument
from rtswap.profile.file import read_profile

log = logging.getLogger("rtswap")


def declared_cost(
    path: Path, tensors: _core.TensorSet, device: dict[str, Any], task: str
) -> tuple[int, Layers]:
    """Cost and stretches of a job on such memory. Warns where they come from another device.

    ``InvalidArgument`` for a file that is no profile, or that is one of another model.
    """
    profile = read_profile(path)
    read_only_bytes = tensors.bytes(int(Kind.READ_ONLY))
    mutable_bytes = tensors.bytes(int(Kind.MUTABLE))
    if (profile.read_only_bytes, profile.mutable_bytes) != (read_only_bytes, mutable_bytes):
        raise InvalidArgument(
            f"{path} is the profile of a model with {profile.read_only_bytes} bytes of read only "
            f"and {profile.mutable_bytes} bytes of mutable memory ({profile.model}); task '{task}' "
            f"has {read_only_bytes} and {mutable_bytes}. Measure this model with `rtswap profile`."
        )
    if profile.device != device["name"]:
        log.warning(
            "task '%s': its profile comes from another GPU, %s; this one is %s. What its jobs take "
            "here may be different: measure again with `rtswap profile`.",
            task,
            profile.device,
            device["name"],
        )
    return profile.wcet_ns, profile.layers(device["chunk_bytes"])
