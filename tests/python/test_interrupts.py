"""Ctrl-C at any place, as when a notebook's cell is stopped, leaves everything usable."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
import torch
from models import cnn, same_state, transformer, twin
from torch import nn

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")

EXIT = rtswap.Job.__exit__.__code__
PACKAGE = str(Path(rtswap.__file__).parent)


class Stage:
    """Two models that do not fit together."""

    def __init__(self) -> None:
        self.model, self.x = cnn()
        self.model.eval()
        self.plain = twin(self.model)
        self.other, self.y = transformer()
        self.task = rtswap.register(self.model)
        self.rival = rtswap.register(self.other)

    def explicit(self) -> None:
        with torch.no_grad(), self.task.job():
            self.model(self.x)

    def implicit(self) -> None:
        with torch.no_grad():
            self.model(self.x)

    def expect_usable(self) -> None:
        """First for others, who wait while this thread does nothing; then for this thread."""
        failures: list[BaseException] = []

        def use_rival() -> None:
            try:
                with torch.no_grad(), self.rival.job(timeout=30):
                    self.other(self.y)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=use_rival)
        thread.start()
        thread.join()
        assert not failures
        assert rtswap.current_job() is None
        with torch.no_grad(), self.task.job(timeout=30):
            assert torch.equal(self.model(self.x), self.plain(self.x))
            assert same_state(self.model, self.plain)
        with pytest.raises(RuntimeError, match="task 'cnn'"):
            self.model.layers[0].weight.sum()


def press_ctrl_c(*_: object) -> None:
    signal.raise_signal(signal.SIGINT)


def test_a_job_that_is_interrupted_in_its_body():
    stage = Stage()
    stage.model.layers[2].register_forward_hook(press_ctrl_c)
    with pytest.raises(KeyboardInterrupt), torch.no_grad(), stage.task.job():
        stage.model(stage.x)
    stage.model.layers[2]._forward_hooks.clear()
    stage.expect_usable()


def test_a_call_outside_any_job_that_is_interrupted():
    stage = Stage()
    stage.model.layers[2].register_forward_hook(press_ctrl_c)
    with pytest.raises(KeyboardInterrupt) as kept:  # as a notebook keeps it, with its frames
        stage.implicit()
    stage.model.layers[2]._forward_hooks.clear()
    stage.expect_usable()
    assert kept.traceback


@pytest.mark.parametrize("again", ["job", "call"])
def test_the_next_cell_may_come_at_once(again):
    stage = Stage()
    stage.model.layers[2].register_forward_hook(press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        stage.implicit()
    stage.model.layers[2]._forward_hooks.clear()
    {"job": stage.explicit, "call": stage.implicit}[again]()
    assert stage.task.stats().released == 2
    stage.expect_usable()


def test_calls_inside_calls_are_one_job():
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(64, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(self.inner(x))

    model, x = Nested(), torch.ones(64)
    expected = model(x)
    task = rtswap.register([model, model.inner], name="both")
    assert torch.equal(model(x), expected)
    assert task.stats().released == 1


def interrupted_at(place: int, run: Callable[[], None]) -> bool:
    """Whether it has so many places: where Python looks for signals in the package's own code.

    Not at the very start of ``__exit__``: nothing written in Python can guard that.
    """
    seen = 0

    def look(frame: FrameType, event: str, argument: object) -> None:
        nonlocal seen
        if event not in ("call", "c_return") or (event == "call" and frame.f_code is EXIT):
            return
        if frame.f_code.co_filename.startswith(PACKAGE):
            seen += 1
            if seen == place:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(look)
    try:
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.parametrize("way", ["explicit", "implicit"])
def test_an_interrupt_at_any_place_of_a_job(way):
    stage = Stage()
    place = 1
    while interrupted_at(place, getattr(stage, way)):
        stage.expect_usable()
        place += 1
    assert place > 30
    stage.task.close()
    stage.rival.close()
    assert same_state(stage.model, stage.plain)
