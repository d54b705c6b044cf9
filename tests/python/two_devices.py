"""A daemon with two simulated devices, and models of which two do not fit one of them together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from models import cnn, recurrent, twin
from torch import Tensor, nn

import rtswap
from tests.support.daemon import Daemon

needs_daemon = pytest.mark.skipif(
    not (Path(rtswap.__file__).parent / "bin" / "rtswapd").exists(),
    reason="built without the daemon",
)

DEVICES = ("SIM-0", "SIM-1")
ONE = ("--link-bandwidth", "2GB", "--simulate", "14MiB")
TWO = (*ONE, "--simulate", "14MiB")


@contextmanager
def client_of_two() -> Iterator[Daemon]:
    """This process, connected; ``SIM-0`` is its default."""
    with Daemon(*TWO) as daemon:
        rtswap.enable(daemon.socket, device="SIM-0", verify=True, name="test")
        yield daemon
        rtswap.disable()


class Swapped:
    """A model of 7 to 8 MiB on one device."""

    def __init__(self, make: Callable[[], tuple[nn.Module, Tensor]], device: str, name: str):
        self.model, self.x = make()
        self.model.eval()
        self.plain = twin(self.model)
        with torch.no_grad():
            self.expected = self.model(self.x)
        self.task = rtswap.register(self.model, name=name, device=device)

    def run(self, count: int = 1) -> None:
        for _ in range(count):
            with torch.no_grad(), self.task.job(timeout=60):
                assert torch.equal(self.model(self.x), self.expected)


def on_both() -> list[list[Swapped]]:
    return [
        [Swapped(make, device, f"{make.__name__}-{device}") for make in (cnn, recurrent)]
        for device in DEVICES
    ]


def run_in_turn(models: list[Swapped], rounds: int) -> None:
    for _ in range(rounds):
        for model in models:
            model.run()


def together(*calls: Callable[[], object]) -> None:
    """Each in a thread of its own; what one of them raises is raised here."""
    failures: list[BaseException] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


def once_connected(call: Callable[[], object]) -> None:
    """Again and again while the daemon is not back."""
    end = time.monotonic() + 60
    while True:
        try:
            call()
            return
        except rtswap.DaemonUnavailable:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
