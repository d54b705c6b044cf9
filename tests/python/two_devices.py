"""A daemon with two devices, and models of which two do not fit one of them together.

The simulated devices of tests/python; tests/gpu/python names two GPUs instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
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

SIMULATED = ("--link-bandwidth", "2GB", "--simulate", "14MiB"), ("--simulate", "14MiB")


class DaemonOfTwo(Daemon):
    """``first``: its flags, but for the second device; ``second``: those for that."""

    def __init__(self, first: Sequence[str], second: Sequence[str]) -> None:
        self._one = tuple(first)
        self._both = (*first, *second)
        super().__init__(*self._both)

    def come_back(self) -> None:
        """Killed, and started again."""
        self.kill()
        self.start(flags=self._both)

    def come_back_without_second(self) -> None:
        self.kill()
        self.start(flags=self._one)


@contextmanager
def client_of_two(
    flags: tuple[Sequence[str], Sequence[str]] = SIMULATED, device: str = "SIM-0"
) -> Iterator[DaemonOfTwo]:
    """This process, connected; ``device`` is its default."""
    with DaemonOfTwo(*flags) as daemon:
        rtswap.enable(daemon.socket, device=device, verify=True, name="test")
        yield daemon
        rtswap.disable()


def devices() -> list[str]:
    """As the daemon names them, in its order."""
    return [device.uuid for device in rtswap.stats().devices]


def home() -> torch.device:
    """Where models in ordinary memory compute what swapped ones are compared with."""
    return torch.device(rtswap.info().device)


class Swapped:
    """A model of 7 to 8 MiB on one device."""

    def __init__(self, make: Callable[[], tuple[nn.Module, Tensor]], device: str, name: str):
        self.model, x = make()
        self.model.eval()
        self.x = x.to(home())
        with torch.no_grad():
            self.expected = twin(self.model).to(home())(self.x)
        self.task = rtswap.register(self.model, name=name, device=device)

    def run(self, count: int = 1) -> None:
        for _ in range(count):
            with torch.no_grad(), self.task.job(timeout=60):
                y = self.model(self.x.to(self.task.device))
                assert torch.equal(y.to(home()), self.expected)


def on_both() -> list[list[Swapped]]:
    return [
        [Swapped(make, device, f"{make.__name__}-{device}") for make in (cnn, recurrent)]
        for device in devices()
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
