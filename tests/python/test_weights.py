"""Models on the meta device, whose bytes come straight from files."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from eviction import Rival
from models import TiedTransformer, cnn, recurrent, same_state, transformer
from test_process import finish, start
from torch import Tensor, nn
from weight_files import write, write_shards

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")


class Table(nn.Module):
    """A buffer that no file has, and a view of a parameter that is none either."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 64))
        self.register_buffer("table", torch.arange(64.0), persistent=False)
        self.register_buffer("rows", self.weight.detach()[2:4], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight @ (x * self.table) + self.rows.sum()


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return make()


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Without the second names of tied tensors, as files are written."""
    first: dict[int, str] = {}
    state = model.state_dict()
    for name, tensor in state.items():
        first.setdefault(tensor.data_ptr(), name)
    return {name: state[name] for name in first.values()}


def plain_linear() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 8))


@pytest.mark.parametrize("make", [cnn, transformer, recurrent])
@pytest.mark.parametrize("layout", ["file", "list", "index", "folder"])
def test_a_model_on_meta_runs_with_the_bytes_of_the_files(make, layout, tmp_path):
    plain, x = make()
    plain.eval()
    state = state_of(plain)
    index = write_shards(tmp_path, state, 3)
    weights = {
        "file": lambda: write(tmp_path / "alone.safetensors", state),
        "list": lambda: [str(path) for path in sorted(tmp_path.glob("*.safetensors"))],
        "index": lambda: index,
        "folder": lambda: tmp_path,
    }[layout]()
    model = on_meta(lambda: make()[0]).eval()
    kept = dict(model.named_parameters())
    rival = Rival()
    with rival.task.job():  # the whole device is somebody else's
        task = rtswap.register(model, weights=weights)
        assert task.stats().resident_bytes == 0
    with torch.no_grad():
        for _ in range(3):
            with task.job():
                assert torch.equal(model(x), plain(x))
                assert same_state(model, plain)
            rival.evict(task)
    task.close()
    assert dict(model.named_parameters()).keys() == kept.keys()
    assert all(parameter is kept[name] for name, parameter in model.named_parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(model(x), plain(x))


def test_a_view_from_before_stays_on_meta_and_is_named(tmp_path, caplog):
    file = write(tmp_path / "m.safetensors", plain_linear().state_dict())
    model = on_meta(plain_linear)
    rtswap.register(model, weights=file).close()
    assert not caplog.records
    model = on_meta(plain_linear)
    model.first = model[0].weight.detach()[0]
    rtswap.register(model, weights=file)
    (warning,) = [record.message for record in caplog.records]
    assert "share memory with '0.weight'" in warning
    assert model.first.is_meta


def test_an_interrupted_load_changes_nothing(tmp_path, monkeypatch):
    plain = plain_linear()
    file = write(tmp_path / "m.safetensors", plain.state_dict())
    model = on_meta(plain_linear)

    def interrupt(*arguments: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rtswap.register(model, weights=file)
    assert all(parameter.is_meta for parameter in model.parameters())
    task = rtswap.register(model, weights=file)
    with task.job():
        assert same_state(model, plain)


def test_ties_stay_ties_and_one_name_is_enough(tmp_path):
    plain, x = transformer()
    state = plain.state_dict()
    del state["embed.weight"]
    file = write(tmp_path / "m.safetensors", state)
    model = on_meta(TiedTransformer).eval()
    task = rtswap.register(model, weights=file)
    assert model.head.weight is model.embed.weight
    with task.job():
        assert torch.equal(model(x), plain(x))


def test_two_names_of_one_tensor_must_agree(tmp_path):
    plain, x = transformer()
    file = write(tmp_path / "both.safetensors", plain.state_dict())
    task = rtswap.register(on_meta(TiedTransformer).eval(), weights=file)
    with task.job():
        assert torch.equal(task.modules[0](x), plain(x))
    task.close()

    state = plain.state_dict()
    state["head.weight"] = state["head.weight"].clone()
    state["head.weight"][-1, -1] += 1
    write(file, state)
    model = on_meta(TiedTransformer)
    with pytest.raises(rtswap.WeightsMismatch, match=r"'embed\.weight'.*different bytes"):
        rtswap.register(model, weights=file)
    assert model.embed.weight.is_meta


def test_training_a_loaded_model_reaches_its_parameters(tmp_path):
    plain = plain_linear()
    file = write(tmp_path / "m.safetensors", plain.state_dict())
    model = on_meta(plain_linear)
    task = rtswap.register(model, weights=file)
    x = torch.ones(64)
    with task.job():
        model(x).sum().backward()
    plain(x).sum().backward()
    for loaded, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(loaded.grad, expected.grad)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.int8]
)
def test_dtypes_are_taken_as_they_are(dtype, tmp_path):
    held = (torch.randn(16, 16) * 4).to(dtype)
    model = nn.Module()
    model.register_buffer("held", torch.empty_like(held, device="meta"))
    task = rtswap.register(model, weights=write(tmp_path / "m.safetensors", {"held": held}))
    with task.job():
        assert torch.equal(model.held.view(torch.uint8), held.view(torch.uint8))


def test_files_replace_what_a_model_on_the_cpu_has(tmp_path):
    plain = Table()
    file = write(tmp_path / "m.safetensors", plain.state_dict())
    model = Table()
    model.table += 1
    task = rtswap.register(model, weights=file)
    with task.job():
        assert torch.equal(model.weight, plain.weight)
        assert torch.equal(model.rows, plain.weight[2:4])
        assert torch.equal(model.table, plain.table + 1)  # in no file: keeps its own


def test_a_buffer_that_no_file_has_must_have_values(tmp_path):
    plain = Table()
    file = write(tmp_path / "m.safetensors", plain.state_dict())
    model = on_meta(Table)
    with pytest.raises(rtswap.WeightsMismatch, match=r"what is in 'table': .*persistent=False"):
        rtswap.register(model, weights=file)
    model.table = torch.arange(64.0)
    task = rtswap.register(model, weights=file)
    with task.job():
        assert torch.equal(model(torch.ones(64)), plain(torch.ones(64)))


def test_everything_that_differs_is_listed_and_nothing_is_changed(tmp_path):
    state = plain_linear().state_dict()
    del state["0.weight"]
    state["extra"] = torch.ones(1)
    state["0.bias"] = state["0.bias"].half()
    state["1.weight"] = torch.ones(4, 4)
    file = write(
        tmp_path / "m.safetensors", state, odd={"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}
    )
    for model in (on_meta(plain_linear), plain_linear()):
        pointers = [p.data_ptr() for p in model.parameters()]
        with pytest.raises(rtswap.WeightsMismatch) as caught:
            rtswap.register(model, weights=file)
        message = str(caught.value)
        assert "Missing in the files (1):\n  0.weight\n" in message
        assert "not in the model (2):\n  extra\n  odd\n" in message
        assert "0.bias: F16 [32] in the file, float32 [32] in the model" in message
        assert "1.weight: F32 [4, 4] in the file, float32 [8, 32] in the model" in message
        assert "Nothing is converted" in message
        assert isinstance(caught.value, rtswap.InvalidArgument)
        assert [p.data_ptr() for p in model.parameters()] == pointers
        assert not rtswap.stats().tasks


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def overwrite(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def header(**fields: object) -> Callable[[Path], object]:
    return lambda path: write(path, {}, **fields)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (overwrite(b""), "length of a header"),
    "pickle": (overwrite(b"\x80\x02}q\x00" * 99), "length of a header"),
    "json": (overwrite((3).to_bytes(8, "little") + b"{ab"), "JSON"),
    "no table": (overwrite((2).to_bytes(8, "little") + b"[]"), "no table"),
    "twice": (overwrite((17).to_bytes(8, "little") + b'{"a": 1, "a": 2} '), "appears twice"),
    "truncated": (cut, r"'1\.bias' lies outside.*whole"),
    "fields": (header(x={"dtype": "F32"}), "nothing sensible about 'x'"),
    "negative": (
        header(x={"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}),
        "'x' lies outside",
    ),
    "shape": (
        header(x={"dtype": "U8", "shape": [3], "data_offsets": [0, 0]}),
        r"'x' has 0 bytes, which do not make \(3,\)",
    ),
}


@pytest.mark.parametrize(("damage", "named"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused_with_their_name(damage, named, tmp_path):
    path = write(tmp_path / "m.safetensors", plain_linear().state_dict())
    damage(path)
    with pytest.raises(rtswap.InvalidArgument, match=rf"m\.safetensors.*{named}"):
        rtswap.register(on_meta(plain_linear), weights=path)


def test_indexes_and_folders_are_checked(tmp_path):
    model = on_meta(plain_linear)
    for path in ("nowhere", "nowhere.safetensors", "nowhere.safetensors.index.json"):
        with pytest.raises(rtswap.InvalidArgument, match=rf"{path} cannot be read: No such file"):
            rtswap.register(model, weights=tmp_path / path)
    with pytest.raises(rtswap.InvalidArgument, match=r"no \*\.safetensors file"):
        rtswap.register(model, weights=tmp_path)
    state = plain_linear().state_dict()
    paths = [write(tmp_path / f"{name}.safetensors", state) for name in "ab"]
    with pytest.raises(rtswap.InvalidArgument, match=r"a\.safetensors, b\.safetensors.*Say which"):
        rtswap.register(model, weights=tmp_path)
    with pytest.raises(
        rtswap.InvalidArgument, match=r"'0\.weight' is in .*a\.saf.* again in .*b\."
    ):
        rtswap.register(model, weights=paths)
    index = tmp_path / "model.safetensors.index.json"
    for places, named in (
        ([], "weight_map"),
        ({"0.weight": "../a.safetensors"}, "no file beside it"),
        ({"other": "a.safetensors"}, "'other' is not in a.safetensors"),
    ):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(rtswap.InvalidArgument, match=named):
            rtswap.register(model, weights=tmp_path)
    index.write_text(json.dumps({"weight_map": {"0.weight": "gone.safetensors"}}))
    with pytest.raises(rtswap.InvalidArgument, match=r"gone\.safetensors cannot be read"):
        rtswap.register(model, weights=index)
    assert not rtswap.stats().tasks


class Extra(nn.Linear):
    def get_extra_state(self) -> object:
        return {"version": 3}

    def set_extra_state(self, state: object) -> None:
        pass


def test_what_files_cannot_fill_is_refused_by_name(tmp_path):
    model = on_meta(lambda: nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)))
    file = write(
        tmp_path / "m.safetensors", nn.Sequential(*model).to_empty(device="cpu").state_dict()
    )
    with pytest.raises(rtswap.InvalidArgument, match=r"one module.*ModuleDict"):
        rtswap.register([model[0], model[1]], weights=file)
    model[1].weight = nn.Parameter(torch.empty(64, 64, device="meta").t())
    with pytest.raises(rtswap.Unsupported, match=r"'1\.weight'.*not contiguous"):
        rtswap.register(model, weights=file)
    model[1] = on_meta(lambda: Extra(64, 64))
    with pytest.raises(rtswap.Unsupported, match=r"'1\._extra_state'.*extra state"):
        rtswap.register(model, weights=file)


def test_a_refused_task_leaves_the_model_on_meta(tmp_path):
    file = write(tmp_path / "m.safetensors", plain_linear().state_dict())
    model = on_meta(plain_linear)
    with pytest.raises(rtswap.AdmissionRefused):
        rtswap.register(model, weights=file, period_ms=10, wcet_ms=12)
    assert all(parameter.is_meta for parameter in model.parameters())
    rtswap.register(model, weights=file, period_ms=1000, example_inputs=(torch.ones(64),))


def test_files_of_the_safetensors_library_are_read(tmp_path):
    library = pytest.importorskip("safetensors.torch", reason="needs the safetensors package")
    plain, x = cnn()
    library.save_file(plain.state_dict(), tmp_path / "m.safetensors", metadata={"format": "pt"})
    model = on_meta(lambda: cnn()[0])
    task = rtswap.register(model, weights=tmp_path)
    with task.job():
        assert torch.equal(model(x), plain(x))


def test_a_model_that_fills_nine_tenths_of_the_budget_loads_and_runs(arbiter, tmp_path):
    rows = arbiter.budget_bytes * 9 // 10 // 4096
    plain = torch.randn(rows, 1024)
    file = write(tmp_path / "m.safetensors", {"weight": plain})
    model = on_meta(lambda: nn.Linear(1024, rows, bias=False))
    task = rtswap.register(model, weights=file)
    stats = task.stats()
    assert plain.nbytes <= stats.host_bytes <= 1.05 * plain.nbytes
    for _ in range(2):
        with task.job():
            assert torch.equal(model.weight, plain)


def test_a_model_that_the_host_cannot_hold_is_refused_with_the_numbers(tmp_path):
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rows = 2 * machine_bytes // 4096
    fields = {"dtype": "F32", "shape": [rows, 1024], "data_offsets": [0, rows * 4096]}
    file = write(tmp_path / "m.safetensors", {}, weight=fields)
    os.truncate(file, file.stat().st_size + rows * 4096)  # a hole: nothing is on the disk
    model = on_meta(lambda: nn.Linear(1024, rows, bias=False))
    with pytest.raises(rtswap.HostMemoryError, match=r"GiB .*this machine has .* left") as caught:
        rtswap.register(model, weights=file)
    assert isinstance(caught.value, MemoryError)
    assert model.weight.is_meta
    assert not rtswap.stats().tasks


LOADING = """
import pathlib, re
import torch, rtswap
from torch import nn

def memory(field):
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(field + r":\\s+(\\d+) kB", status)[1])

rtswap.enable({arbiter})
warm_up = nn.Linear(8, 8)
rtswap.register(warm_up).close()
with torch.device("meta"):
    layers = (nn.Linear({width}, {width}, bias=False) for _ in range({layers}))
    model = nn.Sequential(*layers)
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = memory("VmRSS")
task = rtswap.register(model, weights={folder!r})
grown = memory("VmHWM") - before
size = sum(parameter.nbytes for parameter in model.parameters())
assert task.stats().host_bytes <= 1.05 * size
assert size / rtswap.info().budget_bytes > {share}
with task.job():
    assert all((parameter == 1).all() for parameter in model.parameters())
print("loaded", size, grown)
"""


REGISTERING = """
import gc, pathlib, re
import torch, rtswap
from torch import nn

def memory():  # the simulated device's chunks are shared memory
    status = pathlib.Path("/proc/self/status").read_text()
    return sum(1024 * int(re.search(name + r":\\s+(\\d+) kB", status)[1])
               for name in ("RssAnon", "RssFile"))

rtswap.enable(simulate="256MiB", link_bandwidth="4GB")
warm_up = nn.Linear(512, 512)
rtswap.register(warm_up).close()
before = memory()
model = nn.Sequential(*(nn.Linear(512, 512, bias=False) for _ in range(128)))
for layer in model:  # of other storages, as on a GPU, if it is a part of its own
    layer.weight.data = torch.rand({rows}, 512)[:512]
task = rtswap.register(model)
gc.collect()
grown = memory() - before
print(task.stats().host_bytes, grown)
"""


@pytest.mark.parametrize("rows", [512, 1536])
def test_a_model_on_the_cpu_is_moved_and_leaves_no_second_copy(rows):
    # Tensors of a few MiB come from malloc's heap, which keeps what is freed.
    size, grown = map(int, finish(start(REGISTERING.format(rows=rows))).split())
    assert size == 128 << 20
    assert grown < 1.2 * size  # with the tensors of before: 2 * size, or 4 * size


def memory_for_loading(folder: Path, arbiter: str, layers: int, share: float) -> tuple[int, int]:
    """(bytes of a model that fills ``share`` of the budget, bytes by which the host's resident
    memory rose at most while it was read from files), in a process of its own."""
    width = 2048  # 16 MiB a layer
    with torch.device("meta"):
        names = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))
    write_shards(folder, {name: torch.ones(width, width) for name in names.state_dict()}, 3)
    gc.collect()
    program = LOADING.format(
        arbiter=arbiter, width=width, layers=layers, folder=str(folder), share=share
    )
    _, size, grown = finish(start(program)).split()
    return int(size), int(grown)


def test_loading_needs_the_memory_of_the_model_once(tmp_path):
    arbiter = 'simulate="208MiB", link_bandwidth="4GB"'
    size, grown = memory_for_loading(tmp_path, arbiter, layers=12, share=0.9)
    assert 0.9 * size < grown < 1.05 * size + (32 << 20)  # with a second copy: 2 * size
