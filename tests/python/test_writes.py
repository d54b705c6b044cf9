"""What a job writes to its model survives eviction, or is noticed."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from eviction import Rival
from models import same_state, twin
from torch import nn

import rtswap

Write = Callable[[nn.Module], None]


def batch() -> torch.Tensor:
    return torch.arange(256.0).view(4, 64)


def made() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 8)).train()


def in_place(model: nn.Module) -> None:
    with torch.no_grad():
        model[0].weight.add_(1)


def through_a_view(model: nn.Module) -> None:
    view = model[0].weight.detach().view(-1)[3:9]
    view += 1


def load(model: nn.Module) -> None:
    model.load_state_dict({key: value + 1 for key, value in model.state_dict().items()})


def through_data(model: nn.Module) -> None:
    model[0].weight.data.add_(1)


def through_numpy(model: nn.Module) -> None:
    model[0].weight.detach().numpy()[:] += 1


def through_dlpack(model: nn.Module) -> None:
    torch.from_dlpack(model[0].weight.detach()).add_(1)


def through_from_numpy(model: nn.Module) -> None:
    torch.from_numpy(model[0].weight.detach().numpy()).mul_(2)


def as_output(model: nn.Module) -> None:
    with torch.no_grad():
        torch.add(model[0].weight, 1, out=model[0].weight)


def at_indices(model: nn.Module) -> None:
    with torch.no_grad():
        model[0].weight[torch.tensor([1, 5])] = 7
        nn.init.ones_(model[2].bias)


def foreach(model: nn.Module) -> None:
    with torch.no_grad():
        torch._foreach_mul_(list(model.parameters()), 2.0)


def average(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.lerp_(torch.ones_like(parameter), 0.1)


def in_inference_mode(model: nn.Module) -> None:
    with torch.inference_mode():
        model[0].weight.add_(1)


def by_batch_norm(model: nn.Module) -> None:
    model(batch())


def step(optimizer: type[torch.optim.Optimizer], **options: bool) -> Write:
    def train(model: nn.Module) -> None:
        chosen = optimizer(model.parameters(), lr=0.1, **options)
        model(batch()).sum().backward()
        chosen.step()
        chosen.zero_grad()

    return train


COUNTED = {
    "in place": in_place,
    "view": through_a_view,
    "load_state_dict": load,
    "out": as_output,
    "indices": at_indices,
    "foreach": foreach,
    "moving average": average,
    "inference mode": in_inference_mode,
    "SGD": step(torch.optim.SGD, foreach=False),
    "foreach SGD": step(torch.optim.SGD, foreach=True),
    "foreach AdamW": step(torch.optim.AdamW, foreach=True),
}
UNCOUNTED = {
    "data": through_data,
    "numpy": through_numpy,
    "from_numpy": through_from_numpy,
    "DLPack": through_dlpack,
    "fused SGD": step(torch.optim.SGD, fused=True),
    "fused Adam": step(torch.optim.Adam, fused=True),
}
ALL = {**COUNTED, **UNCOUNTED}


def survives(write: Write, kinds: str | None = None) -> rtswap.TaskStats:
    """Writes in three jobs with an eviction after each, then once more without a job between."""
    model = made()
    plain = twin(model)
    task = rtswap.register(model, name="written", kinds=kinds)
    rival = Rival()
    for _ in range(3):
        with task.job():
            write(model)
        write(plain)
        rival.evict(task)
        with task.job():
            assert same_state(model, plain)
    with task.job():
        write(model)
    write(plain)
    stats = task.stats()
    task.close()
    assert same_state(model, plain)
    return stats


@pytest.fixture
def unverified():
    rtswap.enable(simulate="12MiB", link_bandwidth="4GB", name="test")
    yield
    rtswap.disable()


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in log.records if r.levelno >= logging.WARNING]


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("write", ALL.values(), ids=ALL)
def test_mutable_memory_keeps_every_write(write, caplog):
    assert survives(write, "mutable").repaired_bytes == 0
    assert not warnings(caplog)


@pytest.mark.usefixtures("unverified")
def test_batch_norm_statistics_are_mutable_by_default(caplog):
    assert survives(by_batch_norm).repaired_bytes == 0
    assert not warnings(caplog)


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("write", COUNTED.values(), ids=COUNTED)
def test_counted_writes_to_read_only_memory_are_kept_and_warned_about_once(write, caplog):
    assert survives(write).repaired_bytes > 0
    (warning,) = warnings(caplog)
    assert "'0.weight'" in warning
    assert "mutable" in warning


@pytest.mark.usefixtures("arbiter")
@pytest.mark.parametrize("write", ALL.values(), ids=ALL)
def test_verify_notices_every_write_to_read_only_memory(write, caplog):
    assert survives(write).repaired_bytes > 0
    (warning,) = warnings(caplog)
    assert "task 'written'" in warning
    assert "mutable" in warning


@pytest.mark.usefixtures("unverified")
def test_statistics_that_were_declared_read_only_are_kept_when_they_are_trained(caplog):
    assert survives(by_batch_norm, "read_only").repaired_bytes > 0
    (warning,) = warnings(caplog)
    assert "'1.running_mean'" in warning


@pytest.mark.usefixtures("unverified")
def test_a_job_that_fails_keeps_what_it_wrote():
    model = made()
    plain = twin(model)
    task = rtswap.register(model)
    with pytest.raises(ZeroDivisionError), task.job():
        _ = in_place(model) or 1 / 0
    in_place(plain)
    Rival().evict(task)
    with task.job():
        assert same_state(model, plain)


@pytest.mark.usefixtures("unverified")
def test_loading_on_purpose_is_no_reason_to_warn(caplog):
    model = made()
    plain = twin(model)
    task = rtswap.register(model)
    with rtswap.resident(model):
        load(model)
    load(plain)
    Rival().evict(task)
    with task.job():
        assert same_state(model, plain)
    assert not warnings(caplog)
