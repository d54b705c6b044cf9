"""Needs a CUDA device; everything here is skipped without one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import rtswap

sys.path.insert(0, str(Path(__file__).parents[2] / "python"))


@pytest.fixture
def gpu() -> Iterator[rtswap.Info]:
    """An embedded arbiter with a bank of 1 GiB on the current device."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    info = rtswap.enable(embedded=True, budget="1GiB", device=0, verify=True)
    yield info
    rtswap.disable()
