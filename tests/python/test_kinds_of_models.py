"""Kinds of models and tensors, each exact over evictions, or refused by name before anything is
made."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import pytest
import torch
from eviction import Rival, same
from models import Cnn, TiedTransformer
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")


class Odd(nn.Module):
    """Tensors that share memory, have gaps or repeats in it, or have none."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 64))
        self.register_buffer("view", self.weight.detach()[3:9].t())
        self.register_buffer("transient", torch.randn(5), persistent=False)
        self.register_buffer("zero_dim", torch.tensor(3.0))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("absent", None)
        self.register_buffer("repeated", torch.randn(1, 3).expand(5, 3))
        self.empty = nn.Parameter(torch.empty(0, 4))
        self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)
        self.transposed = nn.Parameter(torch.randn(8, 16).t())
        self.expanded = nn.Parameter(torch.randn(1, 4).expand(6, 4))
        self.overlapping = nn.Parameter(torch.randn(20).as_strided((4, 6), (3, 2)))
        self.strided = nn.Parameter(torch.randn(10)[::2])

    def forward(self, x: Tensor) -> list[Tensor]:
        self.count += 1
        parts = (*self.parameters(), *self.buffers())
        return [self.weight @ x, *(part * 2 for part in parts)]


class TwoPasses(nn.Module):
    """A detector: proposals, then a second pass over those that were chosen by their values."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 32, 3, padding=1)
        self.objectness = nn.Conv2d(32, 1, 1)
        self.box = nn.Linear(32, 4)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(image)
        chosen = features.permute(0, 2, 3, 1)[self.objectness(features)[:, 0] > 0]
        return self.box(chosen), self.objectness(self.features(image.flip(-1)))


class Int8(torch.Tensor):
    """A quantised weight as quantisation libraries make them: a wrapper around plain tensors."""

    @staticmethod
    def __new__(cls, data: Tensor, scale: Tensor) -> Int8:
        return torch.Tensor._make_wrapper_subclass(
            cls, data.shape, dtype=scale.dtype, device=data.device
        )

    def __init__(self, data: Tensor, scale: Tensor) -> None:
        self.quantised, self.scale = data, scale

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["quantised", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return cls(args[0].quantised, args[0].scale)
        plain = pytree.tree_map_only(cls, lambda t: t.quantised.to(t.scale.dtype) * t.scale, args)
        return function(*plain, **(kwargs or {}))


class Hidden(torch.Tensor):
    """A wrapper that does not say what it wraps."""

    @staticmethod
    def __new__(cls, data: Tensor) -> Hidden:
        return torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=data.dtype)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise NotImplementedError


class Holder(nn.Module):
    """One buffer of any type."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.register_buffer("held", tensor)

    def forward(self) -> Tensor:
        return self.held.clone()


def quantised() -> nn.Module:
    model = nn.Linear(64, 32)
    scale = model.weight.detach().abs().amax(1, keepdim=True) / 127
    data = (model.weight.detach() / scale).round().to(torch.int8)
    model.weight = nn.Parameter(Int8(data, scale), requires_grad=False)
    return model


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(dtype)


MODELS: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "batch norm in train mode": lambda: (Cnn().train(), (random(2, 3, 8, 8),)),
    "tied": lambda: (TiedTransformer().eval(), (torch.arange(8)[None],)),
    "lstm": lambda: (nn.LSTM(32, 48, 2, bidirectional=True), (random(3, 2, 32),)),
    "gru": lambda: (nn.GRU(32, 48), (random(3, 2, 32),)),
    "attention": lambda: (nn.MultiheadAttention(32, 4), (random(3, 2, 32),) * 3),
    "encoder-decoder": lambda: (
        nn.Transformer(32, 4, 1, 1, 64, batch_first=True).eval(),
        (random(2, 3, 32), random(2, 3, 32)),
    ),
    "two passes": lambda: (TwoPasses(), (random(1, 3, 16, 16),)),
    "odd tensors": lambda: (Odd(), (random(64, 2),)),
    "quantised": lambda: (quantised(), (random(2, 64),)),
    **{
        str(dtype): lambda dtype=dtype: (
            nn.Linear(64, 64).to(dtype),
            (random(2, 64, dtype=dtype),),
        )
        for dtype in (torch.bfloat16, torch.float16, torch.float64)
    },
    **{
        str(dtype): lambda dtype=dtype: (Holder((torch.rand(64, 64) * 4).to(dtype)), ())
        for dtype in (torch.float8_e4m3fn, torch.int8, torch.uint16, torch.bool, torch.complex64)
    },
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_outputs_and_state_are_exact_over_evictions(make):
    torch.manual_seed(9)
    model, inputs = make()
    torch.manual_seed(9)
    plain, _ = make()
    kept = [(p, p.shape, p.stride(), p.requires_grad) for p in model.parameters()]
    task = rtswap.register(model)
    rival = Rival()
    with torch.no_grad():
        for _ in range(4):
            rival.evict(task)
            with task.job():
                assert same(model(*inputs), plain(*inputs))
        task.close()
        assert same(model(*inputs), plain(*inputs))
    now = [(p, p.shape, p.stride(), p.requires_grad) for p in model.parameters()]
    assert all(a[0] is b[0] and a[1:] == b[1:] for a, b in zip(kept, now, strict=True))


def test_a_loaded_torchscript_model_is_swapped_by_its_parameters():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.*", DeprecationWarning)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU()).eval()
        file, x = io.BytesIO(), torch.ones(64)
        torch.jit.save(torch.jit.script(model), file)
        file.seek(0)
        loaded = torch.jit.load(file)
    holder = nn.ParameterList(loaded.parameters())
    task = rtswap.register(holder, name="file")
    rival = Rival()
    for _ in range(3):
        rival.evict(task)
        with pytest.raises(RuntimeError, match="task 'file'"):
            loaded(x)
        with task.job():
            assert torch.equal(loaded(x), model(x))


def fake() -> Tensor:
    with FakeTensorMode():
        return torch.ones(3)


def mkldnn() -> Tensor:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no mkldnn")
    return torch.ones(3, 3).to_mkldnn()


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "meta": (lambda: Holder(torch.ones(3, device="meta")), r"'1\.held'.*meta.*to_empty"),
    "sparse": (lambda: Holder(torch.eye(3).to_sparse()), r"'1\.held'.*sparse"),
    "csr": (lambda: Holder(torch.eye(3).to_sparse_csr()), r"'1\.held'.*sparse"),
    "mkldnn": (lambda: Holder(mkldnn()), r"'1\.held'.*mkldnn"),
    "nested": (
        lambda: Holder(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
        r"'1\.held'.*nested",
    ),
    "lazy": (lambda: nn.LazyLinear(4), r"'1\.weight'.*not initialised.*Run the model once"),
    "fake": (lambda: Holder(fake()), r"'1\.held'.*FakeTensor"),
    "hidden": (lambda: Holder(Hidden(torch.ones(3))), r"'1\.held'.*Hidden.*__tensor_flatten__"),
    "script object": (
        lambda: torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Linear(8, 8)), dtype=torch.qint8
        ),
        "LinearPackedParams.*torchao",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("make", "named"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_memory_that_moves_is_refused_and_nothing_happened(make, named):
    beside = nn.Linear(8, 8)
    pointer = beside.weight.data_ptr()
    model = nn.Sequential(beside, make())
    with pytest.raises(rtswap.Unsupported, match=named):
        rtswap.register(model)
    assert beside.weight.data_ptr() == pointer
    assert not rtswap.stats().tasks
    rtswap.register(beside)


def test_nothing_but_empty_tensors_is_nothing_to_register():
    with pytest.raises(rtswap.InvalidArgument, match="nothing to register"):
        rtswap.register(Holder(torch.empty(0)))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_plain_attributes_of_any_type_stay_where_they_are():
    model = nn.Linear(64, 64)
    model.mask = torch.eye(3).to_sparse()
    model.lengths = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    model.table = torch.arange(5)
    task = rtswap.register(model)
    Rival().evict(task)
    assert model.mask.to_dense().sum() == 3
    assert model.table.sum() == 10
