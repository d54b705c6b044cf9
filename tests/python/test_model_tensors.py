"""What a job does to all tensors of its model, over anonymous memory in place of an arena."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from models import cnn
from moved import Moved
from torch import nn

from rtswap import _core


class Stage:
    def __init__(self) -> None:
        self.model = cnn()[0]
        self.moved = Moved(self.model)
        self.tensors = _core.ModelTensors("closed for the test")
        self.tensors.add(self.moved.tensors)
        self.weight = self.model.layers[0].weight

    def is_open(self) -> bool:
        try:
            self.weight.sum()
        except RuntimeError:
            return False
        return True


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter | None]:
    return module._parameters


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "a tensor in its place": lambda m: parameters_of(m.layers[0]).update(
        weight=nn.Parameter(torch.ones(1))
    ),
    "other memory": lambda m: setattr(m.layers[0].weight, "data", torch.ones(1)),
    "a tensor less": lambda m: parameters_of(m.layers[0]).update(bias=None),
    "a tensor more": lambda m: m.layers[0].register_buffer("more", torch.ones(1)),
    "another module": lambda m: m._modules.update(layers=nn.Sequential(*m.layers)),
    "a module more": lambda m: m.add_module("more", nn.Identity()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed_each_time_it_is_looked_for(change):
    stage = Stage()
    assert stage.tensors.intact()
    assert stage.tensors.intact()
    change(stage.model)
    assert not stage.tensors.intact()
    assert not stage.tensors.intact()


def test_what_was_put_back_is_intact():
    stage = Stage()
    parameters = parameters_of(stage.model.layers[0])
    assert stage.tensors.intact()
    parameters["weight"] = None
    assert not stage.tensors.intact()
    parameters["weight"] = stage.weight
    assert stage.tensors.intact()


def test_the_last_holder_closes():
    stage = Stage()
    first, second = object(), object()
    assert not stage.is_open()
    assert not stage.tensors.held
    stage.tensors.close(first, unless_written=True)
    stage.tensors.open(first)
    stage.tensors.open(second)
    stage.tensors.close(first, unless_written=True)
    stage.tensors.close(first, unless_written=True)
    assert stage.is_open()
    assert stage.tensors.held
    stage.tensors.close(second, unless_written=True)
    assert not stage.is_open()
    assert not stage.tensors.held


def test_who_has_all_memory_gets_all_of_it_beside_one_that_began_on_a_prefix():
    stage = Stage()
    first, second = object(), object()
    stage.tensors.open(first, 0)
    assert not stage.is_open()
    stage.tensors.open(second)
    assert stage.is_open()
    stage.tensors.close(first, unless_written=True)
    assert stage.is_open()
    stage.tensors.close(second, unless_written=True)
    assert not stage.is_open()


def test_what_was_written_is_held_until_it_is_saved():
    stage = Stage()
    holder, other = object(), object()
    stage.tensors.open(holder)
    with torch.no_grad():
        stage.weight.fill_(5)
    for _ in range(2):  # interrupted, and once more
        assert not stage.tensors.close(holder, unless_written=True)
        assert stage.tensors.held
        assert not stage.is_open()
    stage.tensors.open(other)  # before it is saved
    assert stage.is_open()
    assert stage.moved.tensors.changed() == ["layers.0.weight"]
    stage.tensors.close(holder, unless_written=False)
    assert not stage.tensors.close(other, unless_written=True)
    stage.tensors.close(other, unless_written=False)
    assert not stage.tensors.held
    stage.tensors.open(holder)
    assert stage.tensors.close(holder, unless_written=True)  # of the grant before


def test_a_set_that_comes_during_a_grant_is_closed_at_its_end():
    stage, more = Stage(), Stage()
    stage.tensors.open(stage)
    with torch.no_grad():
        more.moved.tensors.open()
        more.weight.add_(1)  # before: no write of this grant
    stage.tensors.add(more.moved.tensors)
    assert more.is_open()
    assert stage.tensors.close(stage, unless_written=True)
    assert not more.is_open()
    assert not stage.is_open()


def test_the_message_may_change():
    stage = Stage()
    for message in ("closed for ever", "closed for now"):
        stage.tensors.set_message(message)
        with pytest.raises(RuntimeError, match=message):
            stage.weight.sum()
    stage.tensors.open(stage)
    stage.tensors.set_message("closed for good")
    assert stage.is_open()
    stage.tensors.close(stage, unless_written=True)
    with pytest.raises(RuntimeError, match="closed for good"):
        stage.weight.sum()


def test_retired_tensors_are_opened_for_nobody():
    stage = Stage()
    stage.tensors.retire()
    assert stage.tensors.retired
    assert not stage.tensors.intact()
    assert not stage.tensors.open(stage)
    assert not stage.is_open()
