"""One torch thread, and an arbiter of its own for every test: simulated device, embedded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import rtswap
from rtswap import jobs, measure

torch.set_num_threads(1)


@pytest.fixture
def arbiter() -> Iterator[rtswap.Info]:
    """A simulated device of 12 MiB behind a fast link, with write verification."""
    info = rtswap.enable(simulate="12MiB", link_bandwidth="4GB", verify=True, name="test")
    yield info
    rtswap.disable()


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process compile models, after which jobs begin with all their memory."""
    monkeypatch.setattr(jobs, "operators_may_be_bypassed", lambda: False)
    monkeypatch.setattr(measure, "operators_may_be_bypassed", lambda: False)
