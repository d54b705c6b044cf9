"""A registered model that is changed: works, or is named at the next job; never silently wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from eviction import Rival, place
from models import same_state, twin
from torch import nn
from torch.nn.utils import fusion, parametrizations, parametrize
from torch.testing._internal.two_tensor import TwoTensor

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")

Change = Callable[[nn.Module], object]


def batch() -> torch.Tensor:
    return torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8) / 100


def made() -> nn.Sequential:
    torch.manual_seed(6)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 288)
    ).eval()


class Triangle(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu()


def set_child(make: Callable[[], nn.Module]) -> Change:
    def change(model: nn.Module) -> None:
        model[3] = make()

    return change


def fuse(model: nn.Module) -> None:
    model[0] = fusion.fuse_conv_bn_eval(model[0], model[1])
    model[1] = nn.Identity()


def wrap(model: nn.Module) -> None:
    model[3] = nn.Sequential(model[3])


def delete_bias(model: nn.Module) -> None:
    model[3].bias = None


def empty_and_fill(model):
    """What to_empty() leaves may be NaN, which equals nothing."""
    for value in model.to_empty(device=place()).state_dict().values():
        value.fill_(3)


def share(model: nn.Module) -> None:
    model.share_memory()


HARMLESS: dict[str, Change] = {
    "state_dict": lambda model: model.state_dict(),
    "iteration": lambda model: sum(p.numel() for _, p in model.named_parameters()),
    "requires_grad_": lambda model: model.requires_grad_(False),
    "train": lambda model: model.train().eval(),
    "to its device": lambda model: model.to(place()),
    "remove a module": set_child(nn.Identity),
    "remove a parameter": delete_bias,
    "wrap a module": wrap,
    "new attribute": lambda model: setattr(model, "label", "x"),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_changes_that_leave_the_tensors_alone_work(change, inside, caplog):
    model = made()
    plain = twin(model)
    task = rtswap.register(model)
    rival = Rival()
    rival.evict(task)
    if inside:
        with task.job():
            change(model)
    else:
        change(model)
    change(plain)
    for _ in range(3):
        rival.evict(task)
        with task.job():
            assert torch.equal(model(batch()), plain(batch()))
    task.close()
    assert same_state(model, plain)
    assert torch.equal(model(batch()), plain(batch()))
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_parametrization_of_tensors_that_stay_works():
    model = made()
    plain = twin(model)
    task = rtswap.register(model)
    rival = Rival()
    with rtswap.resident(model):
        parametrize.register_parametrization(model[3], "weight", Triangle())
    parametrize.register_parametrization(plain[3], "weight", Triangle())
    for _ in range(3):
        rival.evict(task)
        with task.job():
            assert torch.equal(model(batch()), plain(batch()))


ESCAPES: dict[str, tuple[Change, str]] = {
    "half": (lambda model: model.half(), r"0\.weight"),
    "double": (lambda model: model.to(torch.float64), r"0\.weight"),
    "channels_last": (lambda model: model.to(memory_format=torch.channels_last), r"0\.weight"),
    "meta": (lambda model: model.to("meta"), r"0\.weight"),
    "to_empty": (empty_and_fill, r"0\.weight"),
    "assign": (
        lambda model: model.load_state_dict(made().state_dict(), assign=True),
        r"0\.weight",
    ),
    "share_memory": (share, r"0\.weight"),
    "data": (
        lambda model: setattr(model[3].weight, "data", torch.zeros(288, 288)),
        r"3\.weight",
    ),
    "new parameter": (
        lambda model: setattr(model[3], "weight", nn.Parameter(torch.zeros(288, 288))),
        r"3\.weight",
    ),
    "new module": (
        set_child(lambda: nn.Linear(288, 288)),
        r"'3\.weight', '3\.bias' left.*register",
    ),
    "other module": (set_child(lambda: nn.Conv1d(1, 1, 1)), r"3\.weight.*came in.*register"),
    "fuse": (fuse, r"'0\.weight'.*left.*register"),
    "weight_norm": (
        lambda model: parametrizations.weight_norm(model[3]),
        r"'3\.weight' left.*original0.*register",
    ),
}


@pytest.mark.parametrize(("change", "named"), ESCAPES.values(), ids=ESCAPES)
def test_replaced_tensors_are_named_at_the_next_job_and_closing_is_safe(change, named):
    if change is share and place().type == "cuda":
        pytest.skip("tensors of a GPU stay where they are")
    model = made()
    task = rtswap.register(model)
    rival = Rival()
    with task.job():
        change(model)
        after = {key: value.clone() for key, value in model.state_dict().items()}
    for _ in range(2):
        rival.evict(task)
        with pytest.raises(rtswap.EscapedTensor, match=named), task.job():
            pytest.fail("entered")
        with pytest.raises(rtswap.EscapedTensor, match=named):
            model(batch())
    task.close()
    if "meta" in str(next(model.parameters()).device):
        return
    assert all(torch.equal(value, after[key]) for key, value in model.state_dict().items())
    again = twin(model)  # memory shared with other processes would be refused
    with rtswap.register(again).job():
        assert same_state(again, model)


@pytest.mark.parametrize(
    "add",
    [
        lambda model: setattr(model, "extra", nn.Parameter(torch.ones(10))),
        lambda model: model.register_buffer("extra", torch.ones(10)),
        lambda model: model.add_module("extra", nn.PReLU(10)),
    ],
    ids=["parameter", "buffer", "module"],
)
def test_added_tensors_stay_in_ordinary_memory_and_are_named_once(add, caplog):
    model = nn.ModuleDict({"layer": nn.Linear(64, 64)})
    task = rtswap.register(model, name="eyes")
    add(model)
    rival = Rival()
    for _ in range(3):
        rival.evict(task)
        with task.job():
            pass
        assert all(
            value.isfinite().all() for key, value in model.state_dict().items() if "x" in key
        )
    (warning,) = [r.message for r in caplog.records if r.levelno >= logging.WARNING]
    assert "task 'eyes'" in warning
    assert "extra" in warning
    assert "swappable" in warning


def test_an_added_tensor_can_be_made_swappable(caplog):
    model = made()
    task = rtswap.register(model)
    model.extra = nn.Parameter(torch.ones(10))
    rtswap.swappable(model.extra, task=task)
    rival = Rival()
    for _ in range(2):
        rival.evict(task)
        with pytest.raises(RuntimeError, match="resident"):
            model.extra.sum()
        with task.job():
            assert model.extra.eq(1).all()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_tensor_inside_a_wrapper_that_was_replaced_is_named():
    model = nn.Module()
    model.weight = nn.Parameter(TwoTensor(torch.ones(64), torch.zeros(64)))
    task = rtswap.register(model)
    with task.job():
        model.weight.a = torch.zeros(64)
    with pytest.raises(rtswap.EscapedTensor, match=r"weight\.a"), task.job():
        pytest.fail("entered")
