"""One torch thread, and an arbiter of its own for every test: simulated device, embedded."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch
from arriving import nothing_compiled  # noqa: F401

import rtswap

torch.set_num_threads(1)

# A shell has what it starts in the background ignore Ctrl-C, and the processes that tests interrupt
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def arbiter() -> Iterator[rtswap.Info]:
    """A simulated device of 12 MiB behind a fast link, with write verification."""
    info = rtswap.enable(simulate="12MiB", link_bandwidth="4GB", verify=True, name="test")
    yield info
    rtswap.disable()
