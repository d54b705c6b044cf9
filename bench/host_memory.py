"""What a registered model takes of this process's memory, over the bytes of its host images."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Any

import torch

import rtswap
from tests.support import models

MODEL = "encoder_24"


def resident_bytes() -> int:
    """Without shared memory, in which the simulated device keeps its chunks.

    Host images are private mappings, which count here whether they are pinned or not.
    """
    fields = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().strip().splitlines()
    )
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssFile")) * 1024


def trimmed_bytes() -> int:
    """The same once malloc has given back what it keeps for later."""
    ctypes.CDLL(None).malloc_trim(0)
    return resident_bytes()


def host_memory() -> dict[str, Any]:
    """REQUIRES: rtswap is enabled. Growth from before the model is built until it is registered."""
    small, x = models.build("tiny")
    warm = rtswap.register(small.eval(), name="warm", on_refusal="best_effort")
    with torch.inference_mode(), warm.job():
        small(x.to(rtswap.info().device))
    gc.collect()
    before = trimmed_bytes()

    model, _ = models.build(MODEL)
    task = rtswap.register(model.eval(), name=MODEL, on_refusal="best_effort")
    gc.collect()
    with_freed = resident_bytes() - before  # malloc keeps the tensors from before for later
    growth = trimmed_bytes() - before
    image_bytes = task.stats().host_bytes
    task.close()
    warm.close()
    return {
        "model": MODEL,
        "image_bytes": image_bytes,
        "growth_bytes": growth,
        "growth_with_freed_bytes": with_freed,
        "ratio": growth / image_bytes,
        "ratio_with_freed": with_freed / image_bytes,
    }
