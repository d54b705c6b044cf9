"""CUDA graphs and compiled code on swapped weights: addresses are stable, so both stay valid."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
import torch
from eviction import Rival, same
from models import recurrent, twin
from torch import Tensor, nn

import rtswap
from tests.gpu.python.conftest import embedded, exact_arithmetic, models_made_on_the_gpu

pytestmark = pytest.mark.usefixtures("arbiter")


class Captured:
    """A forward pass as a graph, with its own input and output."""

    def __init__(self, model: nn.Module, x: Tensor, mode: str = "global") -> None:
        self.model = model  # the graph knows addresses only
        self.x = x.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(side):  # libraries are set up outside the graph
            for _ in range(2):
                model(self.x)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.graph, capture_error_mode=mode):
            self.y = model(self.x)

    def __call__(self, x: Tensor) -> Tensor:
        self.x.copy_(x)
        self.graph.replay()
        return self.y.clone()


def perceptron() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(4)
    layers = (nn.Linear(512, 512), nn.GELU(), nn.LayerNorm(512), nn.Linear(512, 512))
    return nn.Sequential(*layers).eval(), torch.randn(8, 512)


def convolutions() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(5)
    layers = (nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, 2))
    return nn.Sequential(*layers).eval(), torch.randn(1, 3, 32, 32)


@pytest.mark.parametrize("make", [perceptron, convolutions, recurrent])
def test_a_graph_that_was_captured_in_a_job_is_replayed_in_later_ones(make):
    model, x = make()
    reference = Captured(twin(model), x)
    task = rtswap.register(model)
    with task.job():
        captured = Captured(model, x)
    rival = Rival()
    for count in range(50):
        rival.evict(task)
        with task.job():
            y = captured(x + count)
        assert same(y, reference(x + count)), f"replay {count}"
    assert task.stats().repaired_bytes == 0


def test_a_graph_that_trains_statistics_loses_none_of_them():
    model, x = convolutions()
    model.train()
    plain = twin(model)
    reference = Captured(plain, x)
    task = rtswap.register(model)
    with task.job():
        captured = Captured(model, x)
    rival = Rival()
    for count in range(10):
        rival.evict(task)
        with task.job():
            y = captured(x + count)
        assert same(y, reference(x + count))
    rival.evict(task)
    with task.job():
        assert same(dict(model.named_buffers()), dict(plain.named_buffers()))


class Others:
    """Two models that evict each other in another thread while something else is captured."""

    def __init__(self, *, compute: bool, asynchronous: bool = False) -> None:
        self._compute = compute
        self._asynchronous = asynchronous
        # Random numbers are drawn here: torch refuses them to all threads during a capture.
        made = [perceptron(), recurrent()]
        with torch.no_grad():
            self._models = [
                (model, x, model(x), rtswap.register(model, name=f"other-{index}"))
                for index, (model, x) in enumerate(made)
            ]
        self._rival = Rival()
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Others:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.check()
        assert all(task.stats().evicted_bytes > 0 for *_, task in self._models)

    def check(self) -> None:
        """Raises what went wrong there."""
        if self._failures:
            raise self._failures[0]

    def _run(self) -> None:
        try:
            with torch.no_grad():
                while not self._stop.is_set():
                    self._take_turns()
        except BaseException as error:
            self._failures.append(error)

    def _take_turns(self) -> None:
        if self._asynchronous:
            asyncio.run(self._take_turns_in_a_loop())
        else:
            for model, x, expected, task in self._models:
                with task.job():
                    assert not self._compute or same(model(x), expected)
        self._rival.evict(*(task for *_, task in self._models))

    async def _take_turns_in_a_loop(self) -> None:
        for model, x, expected, task in self._models:
            async with task.job():
                assert not self._compute or same(model(x), expected)


# In global mode torch itself must not do much in other threads; those of the engine may work on.
CAPTURE_MODES = {"thread_local": True, "relaxed": True, "global": False}


@pytest.mark.parametrize(("mode", "compute"), CAPTURE_MODES.items(), ids=CAPTURE_MODES)
def test_capturing_goes_on_while_other_tasks_are_restored_and_evicted(mode, compute):
    """Of an ordinary model, without a job."""
    model, x = perceptron()
    expected = Captured(model, x, mode)(x)
    with torch.no_grad():
        assert torch.allclose(expected, model(x), atol=1e-4)
    with Others(compute=compute) as others:
        for _ in range(10):
            assert same(Captured(model, x, mode)(x), expected)
            others.check()


@pytest.mark.parametrize(("mode", "compute"), CAPTURE_MODES.items(), ids=CAPTURE_MODES)
def test_capturing_goes_on_while_jobs_of_an_event_loop_end(mode, compute):
    """They look whether their work has completed: a query in another capture mode would end it."""
    model, x = perceptron()
    expected = Captured(model, x, mode)(x)
    with Others(compute=compute, asynchronous=True) as others:
        for _ in range(10):
            assert same(Captured(model, x, mode)(x), expected)
            others.check()


@pytest.mark.parametrize(("mode", "compute"), CAPTURE_MODES.items(), ids=CAPTURE_MODES)
def test_capturing_in_a_job_while_others_wait_for_theirs(mode, compute):
    model, x = perceptron()
    reference = Captured(twin(model), x, mode)
    task = rtswap.register(model, name="captured")
    with Others(compute=compute) as others:
        for _ in range(5):
            with task.job():
                captured = Captured(model, x, mode)
            with task.job():
                y = captured(x + 1)
            assert same(y, reference(x + 1))
            others.check()


@pytest.fixture
def large(arbiter) -> Iterator[None]:
    """In place of the small one: a restore takes longer than the start of a job."""
    rtswap.disable()
    with embedded("768MiB", verify=False), exact_arithmetic(), models_made_on_the_gpu():
        yield


@pytest.mark.usefixtures("large", "nothing_compiled")
def test_a_replay_waits_for_memory_that_is_still_arriving():
    torch.manual_seed(6)
    model = nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(8)))  # 512 MiB
    x = torch.randn(4, 4096)
    reference = Captured(twin(model), x)
    task = rtswap.register(model, example_inputs=(x,))
    assert task.promise.begins_on_prefix
    with rtswap.resident(model):
        captured = Captured(model, x)
    rival = Rival()
    for count in range(5):
        rival.evict(task)
        with task.job():
            y = captured(x + count)
        assert same(y, reference(x + count)), f"replay {count}"
    stats = task.stats()
    assert stats.begun_on_prefix > 0
    assert stats.memory_wait_ms > 0


@pytest.mark.parametrize("mode", [None, "reduce-overhead"], ids=["default", "reduce-overhead"])
def test_compiled_code_is_exact_after_evictions(mode):
    pytest.importorskip("triton", reason="inductor needs triton")
    torch._dynamo.reset()
    model, x = perceptron()
    plain = twin(model)
    torch.set_default_device(None)  # a mode that compiled code would have to look at
    task = rtswap.register(model)
    compiled, reference = torch.compile(model, mode=mode), torch.compile(plain, mode=mode)
    rival = Rival()
    with torch.no_grad():
        for count in range(8):  # the first ones warm up and record
            with task.job():
                y = compiled(x + count).clone()
            assert same(y, reference(x + count).clone()), f"job {count}"
            rival.evict(task)
    torch._dynamo.reset()
