"""The LibTorch part alone, over anonymous memory in place of an arena."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable

import pytest
import torch
from models import cnn, recurrent, same_state, transformer, twin
from moved import CPU, Moved
from torch import nn

import rtswap
from rtswap import _core
from rtswap.collect import Kind


@pytest.mark.parametrize("make", [cnn, transformer, recurrent])
def test_outputs_are_exact_and_identity_is_kept(make):
    model, x = make()
    model.eval()
    plain = twin(model)
    parameters = list(model.parameters())
    moved = Moved(model)
    assert torch.equal(model(x), plain(x))
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    moved.tensors.release()
    assert torch.equal(model(x), plain(x))
    assert same_state(model, plain)


def test_ties_share_one_storage_and_stay_tied():
    model, _ = transformer()
    moved = Moved(model)
    assert model.head.weight is model.embed.weight
    distinct = {tensor.untyped_storage()._cdata for tensor in model.state_dict().values()}
    assert moved.tensors.storage_count == len(distinct)


def test_views_made_before_move_along():
    model, _ = cnn()
    weight = model.layers[0].weight
    view = weight.detach()[1:3].t if weight.dim() == 2 else weight.detach()[1:3]
    moved = Moved(model)
    assert view.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()
    moved.tensors.close("closed for the test")
    with pytest.raises(RuntimeError, match="closed for the test"):
        view.sum()
    moved.tensors.open()
    assert torch.equal(view, weight.detach()[1:3])


def test_closing_refuses_every_access_and_harms_nothing():
    model, x = cnn()
    model.eval()
    plain = twin(model)
    moved = Moved(model)
    weight = model.layers[0].weight
    old_view = weight.detach().view(-1)
    moved.tensors.close("not now")
    moved.arenas[Kind.READ_ONLY].poison()
    accesses = {
        "forward": lambda: model(x),
        "submodule": lambda: model.layers[0](x),
        "print": lambda: repr(weight),
        "sum": lambda: weight.sum(),
        "in place": lambda: weight.data.add_(1),
        "clone": lambda: weight.clone(),
        "item": lambda: old_view[0].item(),
        "numpy": lambda: weight.detach().numpy()[0],
        "half": lambda: weight.half(),
        "data_ptr": lambda: weight.data_ptr(),
        "deepcopy": lambda: copy.deepcopy(model),
        "save": lambda: torch.save(model.state_dict(), io.BytesIO()),
        "load": lambda: model.load_state_dict(plain.state_dict()),
        "foreach": lambda: torch._foreach_add([weight.detach()], 1),
        "out": lambda: torch.add(x.sum(), 1, out=old_view[0]),
        "dlpack": lambda: torch.from_dlpack(weight.detach()),
        "index": lambda: weight[torch.tensor([0])],
        "cat": lambda: torch.cat([old_view, old_view]),
        "topk": lambda: old_view.topk(2),
        "equal": lambda: torch.equal(old_view, old_view.clone()),
        "tolist": lambda: old_view.tolist(),
        "to": lambda: weight.to(torch.float64),
        "share": lambda: weight.detach().share_memory_(),
    }
    for name, access in accesses.items():
        assert "not now" in str(error_of(access)), name
    moved.restore()
    moved.tensors.open()
    assert moved.tensors.escaped() == []
    assert torch.equal(model(x), plain(x))


def test_a_thread_that_is_being_refused_reads_the_whole_message():
    """It does so without the GIL, while the storage is opened and closed again and again."""
    model, _ = cnn()
    moved = Moved(model)
    weight = model.layers[0].weight.detach()
    message = "not now: " + "x" * 1000
    stop = threading.Event()
    refused = [0, 0]
    wrong: list[object] = []

    def read(which: int) -> None:
        while not stop.is_set():
            error = error_of(weight.clone)
            if error is None:
                continue
            refused[which] += 1
            if message not in str(error):
                wrong.append(error)
                return

    moved.tensors.close(message)
    readers = [threading.Thread(target=read, args=(which,)) for which in range(2)]
    for reader in readers:
        reader.start()
    try:
        while min(refused) < 2_000 and not wrong:
            moved.tensors.open()
            for _ in range(3):
                moved.tensors.close(message)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not wrong
    moved.tensors.open()
    assert not weight.isnan().any()


def test_a_small_view_of_a_large_storage_moves_alone():
    checkpoint = torch.arange(1 << 20, dtype=torch.float32)
    model = nn.Linear(16, 16, bias=False)
    model.weight = nn.Parameter(checkpoint[1000:1256].view(16, 16))
    plain = twin(model)
    moved = Moved(model)
    assert moved.tensors.bytes(Kind.READ_ONLY) < 4096
    assert torch.equal(model.weight, plain.weight)
    assert checkpoint[1000].item() == 1000  # the rest stays where it was
    moved.tensors.release()
    assert torch.equal(model.weight, plain.weight)


def test_storages_cannot_be_resized_while_moved_and_can_afterwards():
    model, _ = cnn()
    moved = Moved(model)
    with pytest.raises(RuntimeError):
        model.layers[0].weight.untyped_storage().resize_(1 << 20)
    moved.tensors.release()
    model.layers[0].weight.untyped_storage().resize_(1 << 20)


def test_escapes_are_found_by_name():
    model, _ = cnn()
    moved = Moved(model)
    assert moved.tensors.escaped() == []
    model.layers[0].half()
    assert "layers.0.weight" in moved.tensors.escaped()
    model.load_state_dict(twin(model).state_dict(), assign=True)
    assert "layers.3.weight" in moved.tensors.escaped()


def test_released_tensors_have_the_bytes_of_the_image():
    model, _ = cnn()
    moved = Moved(model)
    mean = model.layers[1].running_mean
    mean.fill_(7)  # in the arena; an eviction would bring it to the image
    moved.tensors.release()
    assert mean[0].item() == 0


def test_changed_read_only_storages_reach_the_image():
    model, _ = cnn()
    moved = Moved(model)
    weight = model.layers[0].weight
    moved.tensors.note_versions()
    with torch.no_grad():
        weight.fill_(5)
    assert moved.tensors.changed() == ["layers.0.weight"]
    saved = moved.tensors.save_changed(False)
    assert saved == weight.untyped_storage().nbytes()
    moved.arenas[Kind.READ_ONLY].poison()
    moved.restore()
    assert weight.eq(5).all()


def error_of(access: Callable[[], object]) -> RuntimeError | None:
    try:
        access()
    except RuntimeError as error:
        return error
    return None


def refused(tensor: torch.Tensor, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        _core.TensorSet([("w", tensor, 0)], CPU, "task 'x'")


def test_what_cannot_be_moved_is_refused_by_type():
    refused(torch.empty(3, device="meta"), rtswap.Unsupported, "meta")
    refused(torch.eye(3).to_sparse(), rtswap.Unsupported, "sparse")
    refused(
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        rtswap.Unsupported,
        "quantised",
    )
    if torch.backends.mkldnn.is_available():
        refused(torch.ones(3, 3).to_mkldnn(), rtswap.Unsupported, "opaque")
    freed = torch.ones(3)
    freed.untyped_storage().resize_(0)
    refused(freed, rtswap.Unsupported, "no memory")
    refused(torch.ones(3, dtype=torch.complex64).conj(), rtswap.Unsupported, "conj")


def test_a_tensor_that_was_moved_is_refused_with_its_owner():
    model, _ = cnn()
    moved = Moved(model)
    moved.tensors.close("closed")
    refused(model.layers[0].weight.detach(), rtswap.InvalidArgument, "belongs to task 'x'")


def test_inference_parameters_can_be_moved():
    with torch.inference_mode():
        model = nn.Linear(64, 64)
    plain = model.weight.clone()
    moved = Moved(model)
    with torch.inference_mode():
        assert torch.equal(model.weight, plain)
    moved.tensors.release()
    with torch.inference_mode():
        assert torch.equal(model.weight, plain)
