"""Ways into a model that run no hook, and what is one job."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from eviction import Rival, same
from models import twin
from torch import Tensor, nn

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")


@pytest.fixture(autouse=True)
def _deprecated_but_used() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.*", DeprecationWarning)
        yield


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))

    def encode_image(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y

    def forward(self, x: Tensor) -> Tensor:
        return self.encode_image(x).softmax(-1)


def made() -> tuple[Encoder, Tensor]:
    torch.manual_seed(7)
    return Encoder().eval(), torch.randn(2, 64)


WAYS: dict[str, Callable[[Encoder, Tensor], Tensor]] = {
    "forward": lambda model, x: model.forward(x),
    "method": lambda model, x: model.encode_image(x),
    "submodule": lambda model, x: model.body[0](x),
    "functional": lambda model, x: nn.functional.linear(x, model.body[0].weight),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_ways_past_the_hooks_work_inside_jobs_and_are_caught_outside(way):
    model, x = made()
    plain = twin(model)
    task = rtswap.register(model, name="eyes")
    rival = Rival()
    for _ in range(3):
        rival.evict(task)
        with pytest.raises(RuntimeError, match=r"task 'eyes'.*task\.job\(\)"):
            way(model, x)
        with task.job():
            assert torch.equal(way(model, x), way(plain, x))


@pytest.mark.parametrize("convert", [lambda m, x: torch.jit.trace(m, (x,)), torch.jit.script])
def test_torchscript_made_before_registering_shares_the_weights(convert):
    model, x = made()
    plain = twin(model)
    arguments = (model, x) if convert is not torch.jit.script else (model,)
    converted = convert(*arguments)
    task = rtswap.register(model, name="eyes")
    rival = Rival()
    for _ in range(3):
        rival.evict(task)
        with pytest.raises(RuntimeError, match="task 'eyes'"):
            converted(x)
        with task.job():
            assert torch.equal(converted(x), plain(x))


def test_tracing_and_exporting_work_inside_a_job():
    model, x = made()
    plain = twin(model)
    task = rtswap.register(model, name="eyes")
    rival = Rival()
    with task.job():
        traced = torch.jit.trace(model, (x,))
    rival.evict(task)
    with pytest.raises(RuntimeError, match="task 'eyes'"):
        traced(x)
    with task.job():
        assert torch.equal(traced(x), plain(x))
    rival.evict(task)
    with task.job():
        exported = torch.export.export(model, (x,))
        assert torch.allclose(exported.module()(x), plain(x))
    with pytest.raises(rtswap.EscapedTensor, match=r"torch\.export"):
        torch.export.export(model, (x,))
    with task.job():
        assert torch.equal(model(x), plain(x))


@pytest.mark.parametrize("convert", [lambda m, x: torch.jit.trace(m, (x,)), torch.jit.script])
def test_registering_torchscript_is_refused_with_a_way_out(convert):
    model, x = made()
    expected = model(x)
    arguments = (model, x) if convert is not torch.jit.script else (model,)
    converted = convert(*arguments)
    for module in (converted, nn.Sequential(converted)):
        with pytest.raises(rtswap.Unsupported, match=r"TorchScript.*Register the Python module"):
            rtswap.register(module)
    assert torch.equal(converted(x), expected)


def test_functional_call_with_other_weights_works_inside_a_job():
    model, x = made()
    other, _ = made()
    torch.nn.init.ones_(other.body[0].weight)
    task = rtswap.register(model)
    for _ in range(2):
        with task.job():
            y = torch.func.functional_call(model, dict(other.named_parameters()), (x,))
            assert torch.equal(y, other(x))
    with pytest.raises(rtswap.EscapedTensor, match="functional_call"):
        torch.func.functional_call(model, dict(other.named_parameters()), (x,))
    with task.job():
        pass


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 64)
        self.query, self.key, self.value = (nn.Linear(64, 64) for _ in range(3))
        self.head = nn.Linear(64, 100)

    def forward(
        self, tokens: Tensor, cache: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x = self.embed(tokens)
        key, value = self.key(x), self.value(x)
        if cache is not None:
            key, value = torch.cat([cache[0], key], 1), torch.cat([cache[1], value], 1)
        y = nn.functional.scaled_dot_product_attention(self.query(x), key, value)
        return self.head(y), (key, value)

    @torch.no_grad()
    def generate(self, prompt: Tensor, count: int, between: Callable[[], object]) -> object:
        tokens, cache, made = prompt, None, []
        for _ in range(count):
            logits, cache = self(tokens, cache)
            tokens = logits[:, -1:].argmax(-1)
            made.append(tokens)
            between()
        return made, cache


def test_generating_outside_a_job_yields_between_tokens_and_inside_it_does_not():
    torch.manual_seed(8)
    model = Decoder().eval()
    plain = twin(model)
    prompt = torch.tensor([[1, 2, 3]])
    task = rtswap.register(model)
    rival = Rival()
    expected = plain.generate(prompt, 6, lambda: None)
    # Others run between two tokens; the cache is the caller's and stays where it is.
    assert same(model.generate(prompt, 6, lambda: rival.evict(task)), expected)
    assert task.stats().released == 6
    with task.job():
        assert same(model.generate(prompt, 6, rtswap.current_job), expected)
    assert task.stats().released == 7
