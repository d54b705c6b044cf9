"""Jobs that begin while a part of their memory is still on the way."""

from __future__ import annotations

import _thread
import asyncio
import ctypes
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from arriving import PATIENCE_S, Arrivals
from eviction import Rival, same
from models import Cnn, TiedTransformer, twin
from torch import Tensor, nn
from torch.nn import functional

import rtswap
from rtswap import jobs, raw_access
from rtswap.errors import DriverError

pytestmark = pytest.mark.usefixtures("nothing_compiled")


@pytest.fixture
def slow() -> Iterator[None]:
    """A simulated device of 12 MiB in chunks of 2 MiB that take 4 ms each to arrive."""
    rtswap.enable(simulate="12MiB", link_bandwidth="500MB", verify=True, name="prefix")
    yield
    rtswap.disable()


class Layers(nn.Module):
    """Four layers of a chunk each, in the order in which they are registered."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(512, 1024, bias=False) for _ in range(4))

    def step(self, index: int, x: Tensor) -> Tensor:
        y: Tensor = self.layers[index](x)
        return y[..., :512].tanh()

    def forward(self, x: Tensor) -> Tensor:
        for index in range(4):
            x = self.step(index, x)
        return x


class Backwards(Layers):
    """The last layer is used first: the first use needs everything."""

    def forward(self, x: Tensor) -> Tensor:
        for index in (3, 1, 0, 2):
            x = self.step(index, x)
        return x


class Twice(Layers):
    """One layer is used again after the others."""

    def forward(self, x: Tensor) -> Tensor:
        for index in (0, 1, 0, 2, 3, 1):
            x = self.step(index, x)
        return x


class Switching(Layers):
    """The input chooses the order."""

    def forward(self, x: Tensor) -> Tensor:
        order = (0, 1, 2, 3) if x.sum() > 0 else (0, 3, 2, 1)
        for index in order:
            x = self.step(index, x)
        return x


class OthersWeights(Layers):
    """Uses weights past the modules that own them, through views and functions."""

    def __init__(self) -> None:
        super().__init__()
        self.transposed = [layer.weight.detach().t() for layer in self.layers]

    def forward(self, x: Tensor) -> Tensor:
        x = functional.linear(x, self.layers[0].weight)[..., :512].tanh()
        x = (x @ self.transposed[1])[..., :512].tanh()
        x = torch.einsum("bi,oi->bo", x, self.layers[2].weight)[..., :512].tanh()
        return torch.cat([x, self.layers[3].weight[:2, :].sum(0, keepdim=True)])


def layers(kind: type[Layers]) -> Callable[[], tuple[nn.Module, list[Tensor]]]:
    def make() -> tuple[nn.Module, list[Tensor]]:
        torch.manual_seed(4)
        x = torch.randn(2, 512)
        return kind().eval(), [x, -x]

    return make


def cnn() -> tuple[nn.Module, list[Tensor]]:
    torch.manual_seed(5)
    model = Cnn().train()  # its buffers change at every call
    return model, [torch.randn(1, 3, 8, 8) for _ in range(2)]


def tied() -> tuple[nn.Module, list[Tensor]]:
    torch.manual_seed(6)
    model = TiedTransformer(vocabulary=4096).eval()
    return model, [torch.randint(0, 4096, (1, 8)) for _ in range(2)]


MODELS = {
    "cnn": cnn,
    "tied": tied,
    "in order": layers(Layers),
    "backwards": layers(Backwards),
    "a module used twice": layers(Twice),
    "order by input": layers(Switching),
    "weights of others": layers(OthersWeights),
}
BEGIN_ON_PREFIX = {"cnn", "tied", "in order", "a module used twice", "order by input"}


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_exact_over_50_evictions(name):
    model, inputs = MODELS[name]()
    plain = twin(model)
    task = rtswap.register(model, example_inputs=(inputs[0],))
    rival = Rival()
    with torch.no_grad():
        for count in range(50):
            rival.evict()
            x = inputs[count % 2]
            if count % 4 < 2:
                got = model(x)
            else:
                with task.job():
                    got = model(x)
            assert same(got, plain(x)), f"{name}, job {count}"
    stats = task.stats()
    assert task.promise.begins_on_prefix == (name != "backwards")
    if name in BEGIN_ON_PREFIX:
        assert stats.begun_on_prefix > 0
        assert stats.memory_wait_ms > 0


def arriving(monkeypatch, kind=Layers, at_start=1):
    model, inputs = layers(kind)()
    plain = twin(model)
    task = rtswap.register(model, name="layers", example_inputs=(inputs[0],))
    return model, plain, inputs[0], task, Arrivals(task, model, monkeypatch, at_start)


@pytest.mark.usefixtures("arbiter")
def test_the_first_layer_runs_before_the_last_arrives(monkeypatch):
    model, plain, x, task, arrivals = arriving(monkeypatch)
    ran: list[tuple[int, int]] = []
    first_ran = threading.Event()

    def note(layer: nn.Module, args: object, output: object) -> None:
        ran.append((list(model.layers).index(layer), arrivals.landed))
        first_ran.set()

    for layer in model.layers:
        layer.register_forward_hook(note)

    def deliver() -> None:  # nothing more arrives before the first layer has run
        if first_ran.wait(PATIENCE_S):
            for chunks in (2, 3, 4):
                arrivals.arrive(chunks)

    courier = threading.Thread(target=deliver)
    courier.start()
    with torch.no_grad(), task.job() as job:
        got = model(x)
    courier.join()
    assert ran[0] == (0, 1)
    assert [layer for layer, _ in ran] == [0, 1, 2, 3]
    assert job.began_on_prefix
    assert arrivals.waited_for == sorted(set(arrivals.waited_for))
    assert same(got, plain(x))


@pytest.mark.usefixtures("arbiter")
def test_each_layer_waits_for_its_own_memory_and_no_more(monkeypatch):
    model, plain, x, task, arrivals = arriving(monkeypatch)
    with arrivals.as_used():
        got = model(x)
        assert same(got, plain(x))
        assert arrivals.waited_for == [2, 3, 4]
        arrivals.waited_for.clear()
        with task.job():
            model.step(1, x)
            model.step(0, x)
        assert arrivals.waited_for == [2]
        with task.job():
            pass
        assert arrivals.waited_for == [2]
    assert task.stats().begun_on_prefix == 3


def use_out(weight: Tensor, x: Tensor) -> Tensor:
    out = torch.empty(2, 1024)
    torch.mm(x, weight.detach().t(), out=out)
    return out


USES: dict[str, Callable[[Layers, Tensor], object]] = {
    "module": lambda model, x: model.layers[3](x),
    "forward": lambda model, x: model.layers[3].forward(x),
    "function": lambda model, x: functional.linear(x, model.layers[3].weight),
    "out=": lambda model, x: use_out(model.layers[3].weight, x),
    "in a list": lambda model, x: torch.cat([x, model.layers[3].weight]),
    "foreach": lambda model, x: torch._foreach_mul([p.detach() for p in model.parameters()], 2.0),
    "optional list": lambda model, x: model.layers[3].weight[torch.tensor([0, 1023])],
    "item": lambda model, x: model.layers[3].weight[-1, -1].item(),
    "print": lambda model, x: str(model.layers[3].weight),
    "state_dict": lambda model, x: {k: v.clone() for k, v in model.state_dict().items()},
    "vmap": lambda model, x: torch.func.vmap(
        lambda row: functional.linear(row, model.layers[3].weight)
    )(x),
    "functional_call": lambda model, x: torch.func.functional_call(
        model, dict(model.named_parameters()), (x,)
    ),
    "gradient": lambda model, x: torch.autograd.grad(
        model(x.clone().requires_grad_()).sum(), model.layers[0].weight
    )[0],
    "autocast": lambda model, x: _autocast(model, x),
    "numpy": lambda model, x: torch.from_numpy(model.layers[3].weight.detach().numpy()).clone(),
    "resident inside": lambda model, x: _storage(model),
}


def _autocast(model: Layers, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return model(x)


def _storage(model: Layers) -> list[int]:
    if rtswap.current_job() is None:  # the twin
        return model.layers[3].weight.untyped_storage().tolist()[:8]
    with rtswap.resident(model):
        return model.layers[3].weight.untyped_storage().tolist()[:8]


@pytest.mark.usefixtures("arbiter")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_any_use_of_what_has_not_arrived_waits(use, monkeypatch):
    model, plain, x, task, arrivals = arriving(monkeypatch)
    with arrivals.as_used(), task.job():
        got = use(model, x)
    assert max(arrivals.waited_for) == 4
    assert same(got, use(plain, x))


@pytest.mark.usefixtures("arbiter")
def test_what_passes_no_operator_is_refused_until_the_memory_is_there(monkeypatch):
    model, _, x, task, arrivals = arriving(monkeypatch)
    last = model.layers[3].weight.detach()
    in_thread: list[str] = []

    def elsewhere() -> None:
        try:
            functional.linear(x, last)
        except RuntimeError as error:
            in_thread.append(str(error))

    with arrivals.as_used(), task.job() as job:
        with pytest.raises(RuntimeError, match=r"'layers'.*wait_for_memory\(\)"):
            last.data_ptr()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(in_thread) == 1
        assert arrivals.waited_for == []
        job.wait_for_memory()
        assert last.data_ptr() != 0
        elsewhere()
        assert len(in_thread) == 1
        job.wait_for_memory()
    assert set(arrivals.waited_for) == {4}
    with pytest.raises(rtswap.InvalidArgument, match="running job"):
        job.wait_for_memory()


@pytest.mark.usefixtures("arbiter")
def test_memory_that_does_not_come_is_an_error_of_its_first_use(monkeypatch):
    model, plain, x, task, arrivals = arriving(monkeypatch, at_start=2)
    arrivals.error = DriverError("the copy failed")
    with pytest.raises(DriverError, match="the copy failed"):
        model(x)
    with task.job():
        model.step(1, x)  # is there
        with pytest.raises(DriverError):
            model(x)
    assert rtswap.current_job() is None
    arrivals.error = None
    with arrivals.as_used():
        assert same(model(x), plain(x))


@pytest.mark.usefixtures("arbiter")
def test_an_exception_in_the_model_ends_the_job_and_nothing_else(monkeypatch):
    model, plain, x, _, arrivals = arriving(monkeypatch)
    with arrivals.as_used():
        handle = model.layers[1].register_forward_pre_hook(lambda module, args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(x)
        handle.remove()
        assert rtswap.current_job() is None
        with pytest.raises(RuntimeError, match="holds no memory now"):
            model.layers[0].weight.sum()
        assert same(model(x), plain(x))


@pytest.mark.usefixtures("arbiter")
def test_only_plain_with_begins_on_a_prefix(monkeypatch):
    model, plain, x, task, arrivals = arriving(monkeypatch)
    declared = rtswap.register(layers(Layers)()[0], name="declared", period_ms=500, wcet_ms=20)
    assert not declared.promise.begins_on_prefix

    async def serve() -> bool:
        async with task.job() as job:
            got = model(x)
        return not job.began_on_prefix and same(got, plain(x))

    assert asyncio.run(serve())
    with rtswap.resident(model):
        assert same(model(x), plain(x))
    monkeypatch.setattr(jobs, "operators_may_be_bypassed", lambda: True)
    with task.job() as job:
        assert same(model(x), plain(x))
    assert not job.began_on_prefix
    assert arrivals.waited_for == []


@pytest.mark.usefixtures("arbiter")
def test_a_region_is_entered_with_all_memory_there(monkeypatch):
    model, inputs = layers(Layers)()
    task = rtswap.register(model, name="layers", example_inputs=(inputs[0],))
    assert task.promise.begins_on_prefix
    region = rtswap.region(task, "1MiB")
    assert not task.promise.begins_on_prefix  # its passes were measured without
    arrivals = Arrivals(task, model, monkeypatch)
    with arrivals.as_used(), task.job(), region:
        assert arrivals.waited_for == [5]


@pytest.mark.usefixtures("arbiter")
def test_timing_keeps_its_stretches_where_the_cost_stays(monkeypatch):
    _, _, _, task, _ = arriving(monkeypatch)
    stretches = task._native_open().verdict()["layers"]
    assert [chunks for chunks, _ in stretches] == [1, 2, 3, 4]
    assert sum(ns for _, ns in stretches) == task._native_open().verdict()["wcet_ns"]
    shared = task.share(name="other", period_ms=4000)
    assert shared._native_open().verdict()["layers"] == stretches
    task.set_period(period_ms=2000)
    assert task._native_open().verdict()["layers"] == stretches
    task.set_period(period_ms=2000, wcet_ms=50)
    assert not task.promise.begins_on_prefix
    assert shared.promise.begins_on_prefix


@pytest.mark.usefixtures("arbiter")
def test_a_model_whose_memory_is_read_past_operators_begins_with_all_of_it(caplog):
    class Reads(Layers):
        def forward(self, x: Tensor) -> Tensor:
            address = self.layers[3].weight.data_ptr()
            return x * ctypes.cast(address, ctypes.POINTER(ctypes.c_float))[0]

    model = Reads().eval()
    with caplog.at_level("INFO", logger="rtswap"):
        task = rtswap.register(model, name="reads", example_inputs=(torch.ones(2),))
    assert not task.promise.begins_on_prefix
    assert "begins its jobs with all memory there" in caplog.text
    assert task.promise.measured_ms is not None


def test_ctrl_c_interrupts_the_wait_of_an_operator():
    rtswap.enable(simulate="12MiB", link_bandwidth="20MB", verify=True)  # 100 ms for a chunk
    try:
        model, inputs = layers(Layers)()
        plain = twin(model)
        rtswap.register(model, example_inputs=(inputs[0],))
        rival = Rival()

        def interrupt_soon(module: nn.Module, args: object, output: object) -> None:
            threading.Timer(0.02, _thread.interrupt_main).start()

        for _ in range(3):
            rival.evict()
            handle = model.layers[0].register_forward_hook(interrupt_soon)
            with pytest.raises(KeyboardInterrupt):
                model(inputs[0])
            handle.remove()
            assert rtswap.current_job() is None
            assert same(model(inputs[0]), plain(inputs[0]))
    finally:
        rtswap.disable()


@pytest.mark.usefixtures("slow")
def test_threads_with_models_of_their_own_stay_exact():
    made = [layers(kind)() for kind in (Layers, Twice)]
    plain = [twin(model) for model, _ in made]
    tasks = [rtswap.register(model, example_inputs=(inputs[0],)) for model, inputs in made]
    wrong: list[str] = []

    def work(index: int) -> None:
        model, inputs = made[index]
        with torch.no_grad():
            for _ in range(20):
                if not same(model(inputs[0]), plain[index](inputs[0])):
                    wrong.append(tasks[index].name)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sum(task.stats().begun_on_prefix for task in tasks) > 0


def test_compiled_code_and_torchscript_are_recognised():
    script = """
import warnings; warnings.simplefilter("ignore")
import torch, rtswap
from torch import nn
from rtswap import raw_access
rtswap.enable(simulate="4MiB")
rtswap.register(nn.Linear(4, 4))
torch.jit.script(nn.functional.relu)
assert not raw_access.operators_may_be_bypassed()
torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
assert raw_access._has_torchscript_modules() and not raw_access._has_compiled()
torch.compile(nn.Linear(2, 2))
assert raw_access._has_compiled()
assert raw_access.operators_may_be_bypassed()
torch._dynamo.reset()
assert raw_access.operators_may_be_bypassed()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_cuda_graph_waits_before_it_is_replayed(monkeypatch):
    order: list[str] = []

    class Graph:
        def replay(self) -> None:
            order.append("replay")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    for _ in range(2):
        raw_access.make_graphs_wait(lambda: order.append("wait"))
    Graph().replay()
    assert order == ["wait", "replay"]
