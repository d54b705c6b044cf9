"""Needs a CUDA device; everything here is skipped without one.

Scenarios that the simulated device exercises as well are in tests/python and are imported from
there: they run on whatever the fixture ``arbiter`` enabled, with tensors of torch's default device.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

SCENARIOS = Path(__file__).parents[2] / "python"
sys.path.insert(0, str(SCENARIOS))
pytest.register_assert_rewrite(
    *{file.stem for file in SCENARIOS.glob("*.py")} - {"conftest", *sys.modules}
)
# Before cuBLAS is used: its results depend on the size of its workspace.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

from arriving import nothing_compiled  # noqa: E402, F401

import rtswap  # noqa: E402

CUDA = "cuda:0"


@contextmanager
def embedded(budget: str, *, verify: bool = True, guard: bool = False) -> Iterator[rtswap.Info]:
    """An arbiter in this process with a bank on the first device."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    info = rtswap.enable(
        embedded=True, budget=budget, device=0, verify=verify, guard=guard, name="test"
    )
    try:
        yield info
    finally:
        rtswap.disable()


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """The same algorithm for swapped and unswapped: only then can bytes be compared."""
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def models_made_on_the_gpu() -> Iterator[None]:
    torch.set_default_device(CUDA)
    try:
        yield
    finally:
        torch.set_default_device(None)


@pytest.fixture
def gpu() -> Iterator[rtswap.Info]:
    """A bank of 1 GiB, with write verification."""
    with embedded("1GiB") as info:
        yield info


@pytest.fixture
def arbiter() -> Iterator[rtswap.Info]:
    """As that of tests/python: 12 MiB in chunks of 2 MiB, with write verification."""
    with embedded("12MiB") as info, exact_arithmetic(), models_made_on_the_gpu():
        yield info


@pytest.fixture
def unverified() -> Iterator[rtswap.Info]:
    """The same without verification."""
    with embedded("12MiB", verify=False) as info, exact_arithmetic(), models_made_on_the_gpu():
        yield info
