"""Tensors outside jobs: closed storages, ``resident()``, copies, tensors that moved away."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from models import cnn, recurrent, same_state, transformer, twin
from torch._subclasses.fake_tensor import FakeTensorMode

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")


def test_closed_storages_outside_jobs_and_nothing_lost():
    model, x = cnn()
    model.eval()
    plain = twin(model)
    task = rtswap.register(model, name="eyes")
    view = model.layers[0].weight.detach()[0]
    for _ in range(2):
        for access in (
            lambda: model.layers[0](x),
            lambda: model.layers[0].weight.sum(),
            lambda: view.clone(),
            lambda: copy.deepcopy(model),
            lambda: torch.save(model.state_dict(), io.BytesIO()),
            lambda: torch.save(model, io.BytesIO()),
            lambda: model.share_memory(),
            lambda: view.is_shared(),
            lambda: model.load_state_dict(plain.state_dict()),
            lambda: model.double(),
            lambda: print(model.layers[1].running_mean),
        ):
            with pytest.raises(RuntimeError, match=r"task 'eyes'.*resident"):
                access()
        with task.job():
            assert torch.equal(model(x), plain(x))
            assert torch.equal(view, plain.layers[0].weight[0])


def test_fake_tensors_are_asked_nothing_that_they_warn_of(recwarn):
    with FakeTensorMode():
        assert torch.empty(3).is_shared() in (True, False)
    assert not recwarn.list


def test_resident_reads_saves_and_loads():
    model, x = transformer()
    other, _ = transformer()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    task = rtswap.register(model)
    filler, y = recurrent()
    filler_task = rtswap.register(filler)
    with rtswap.resident(model):
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        model.load_state_dict(other.state_dict())
    with filler_task.job():
        filler(y)
    with task.job():
        assert torch.equal(model(x), other(x))
    file.seek(0)
    original, _ = transformer()
    original.load_state_dict(torch.load(file))
    assert same_state(original, transformer()[0])


def test_escaped_tensors_are_named_at_the_next_job():
    model, x = cnn()
    task = rtswap.register(model, name="eyes")
    with task.job():
        model.layers[0].half()
    with pytest.raises(rtswap.EscapedTensor, match=r"layers\.0\.weight"), task.job():
        pytest.fail("entered")
    task.close()
    model.float()(x)
