"""Adoption, closing and swapping on a real device."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional

import rtswap
from tests.gpu.python.conftest import CUDA, exact_arithmetic


def cnn() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Conv2d(3, 512, 3, padding=1), nn.BatchNorm2d(512), nn.ReLU()]
    for _ in range(72):
        layers += [nn.Conv2d(512, 512, 3, padding=1), nn.BatchNorm2d(512), nn.ReLU()]
    return nn.Sequential(*layers).train(), torch.randn(1, 3, 16, 16)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(32000, 1024)
        layer = nn.TransformerEncoderLayer(1024, 16, 4096, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 11, enable_nested_tensor=False)
        self.head = nn.Linear(1024, 32000, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.encoder(self.embed(tokens)))
        return y


def transformer() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(2)
    return Tied().eval(), torch.randint(0, 32000, (1, 64))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2048, 2048, num_layers=6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.lstm(x)[0]
        return y


def recurrent() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(3)
    return Recurrent().eval(), torch.randn(1, 4, 2048)


ALL = (cnn, transformer, recurrent)


@pytest.fixture(autouse=True)
def _exact_arithmetic(gpu):
    with exact_arithmetic():
        yield


@pytest.mark.parametrize("from_cpu", [True, False])
def test_three_models_at_twice_the_budget_are_bit_exact_over_50_cycles(gpu, from_cpu):
    made = [make() for make in ALL]
    plain = [copy.deepcopy(model).to(CUDA) for model, _ in made]
    inputs = [x.to(CUDA) for _, x in made]
    models = [model if from_cpu else model.to(CUDA) for model, _ in made]
    identities = [list(model.parameters()) for model in models]
    tasks = [rtswap.register(model, name=f"m{i}") for i, model in enumerate(models)]
    for model, parameters in zip(models, identities, strict=True):
        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
        assert all(p.device == torch.device(CUDA) for p in model.parameters())
    assert models[1].head.weight is models[1].embed.weight
    assert sum(task.stats().arena_bytes for task in tasks) > 2 * gpu.budget_bytes
    with torch.no_grad():
        for _ in range(50):
            for model, x, other, task in zip(models, inputs, plain, tasks, strict=True):
                with task.job():
                    y = model(x).clone()
                assert torch.equal(y, other(x))
    for model, other, task in zip(models, plain, tasks, strict=True):
        assert task.stats().evicted_bytes > 0
        task.close()
        home = "cpu" if from_cpu else CUDA
        for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
            assert a.device == torch.device(home)
            assert torch.equal(a, b.to(home))


def test_closed_storages_raise_and_the_context_survives(gpu):
    model, x = cnn()
    model.eval()
    plain = copy.deepcopy(model).to(CUDA)
    x = x.to(CUDA)
    task = rtswap.register(model, name="eyes")
    weight = model[0].weight
    flat = weight.detach().view(-1)
    accesses = {
        "submodule": lambda: model[0](x),
        "batch norm": lambda: model[1](torch.ones(1, 512, 4, 4, device=CUDA)),
        "functional": lambda: functional.conv2d(x, weight),
        "sum": lambda: weight.sum(),
        "in place": lambda: flat.add_(1),
        "cpu": lambda: weight.cpu(),
        "clone": lambda: weight.clone(),
        "half": lambda: weight.half(),
        "item": lambda: flat[0].item(),
        "print": lambda: repr(weight),
        "data_ptr": lambda: weight.data_ptr(),
        "deepcopy": lambda: copy.deepcopy(model),
        "save": lambda: torch.save(model.state_dict(), io.BytesIO()),
        "load": lambda: model.load_state_dict(plain.state_dict()),
        "foreach": lambda: torch._foreach_add_([flat], 1),
        "out": lambda: torch.add(flat[:1].detach(), 1, out=flat[1:2]),
        "dlpack": lambda: torch.utils.dlpack.to_dlpack(flat),
        "index": lambda: weight[torch.tensor([0], device=CUDA)],
        "norm": lambda: weight.norm(),
        "topk": lambda: flat.topk(2),
        "fft": lambda: torch.fft.fft(flat),
        "einsum": lambda: torch.einsum("abcd->a", weight),
    }
    for resident in (False, True):
        for name, access in accesses.items():
            error: RuntimeError | None = None
            try:
                access()
            except RuntimeError as caught:
                error = caught
            assert "task 'eyes'" in str(error), f"{name} (resident: {resident})"
        torch.cuda.synchronize()
        with task.job(), torch.no_grad():
            assert torch.equal(model(x), plain(x))


@pytest.mark.parametrize("make", [cnn, recurrent])
def test_an_implicit_job_and_warming(gpu, make):
    model, x = make()
    model.eval()
    plain = copy.deepcopy(model).to(CUDA)
    task = rtswap.register(model, period_ms=5000, example_inputs=(x,))
    assert task.state == "admitted"
    assert task.promise.measured_ms
    x = x.to(CUDA)
    with torch.no_grad():
        assert torch.equal(model(x), plain(x))


def test_compiled_modules_stay_exact(gpu):
    model = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 2048))
    other, y = recurrent()
    x = torch.randn(8, 2048, device=CUDA)
    task, other_task = rtswap.register(model), rtswap.register(other)
    compiled = torch.compile(model)
    with torch.no_grad():
        with task.job():
            expected = compiled(x).clone()
        for _ in range(3):
            with other_task.job():
                other(y.to(CUDA))
            with task.job():
                assert torch.equal(compiled(x), expected)


def test_a_region_holds_activations_inside_the_budget(gpu):
    model, x = cnn()
    model.eval()
    plain = copy.deepcopy(model).to(CUDA)
    x = x.to(CUDA)
    task = rtswap.register(model)
    scratch = rtswap.region(task, "256MiB")
    with torch.no_grad():
        expected = plain(x)
        for _ in range(5):
            with task.job():
                with scratch:
                    y = model(x)
                    assert scratch.held_bytes > 0
                result = y.clone()
                del y
            assert torch.equal(result, expected)
        with task.job():
            with scratch, pytest.raises(torch.OutOfMemoryError):
                torch.empty(512 << 20, dtype=torch.uint8, device=CUDA)
            torch.empty(512 << 20, dtype=torch.uint8, device=CUDA)
    assert scratch.peak_bytes <= scratch.bytes
    with pytest.raises(rtswap.NotResident), scratch:
        pytest.fail("entered outside a job")
