"""Copies of a registered model, in memory and in files, are ordinary models."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from models import cnn, same_state, transformer, twin
from torch import fx, nn

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")


def by_torch(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    assert b"rtswap" not in file.getvalue()  # loads where there is none
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


def by_pickle(model: nn.Module) -> nn.Module:
    content = pickle.dumps(model)
    assert b"rtswap" not in content
    loaded: nn.Module = pickle.loads(content)
    return loaded


def double(module, args, kwargs, output):
    return 2 * output


@pytest.mark.parametrize("duplicated", [by_torch, by_pickle, copy.deepcopy])
def test_a_copy_is_an_ordinary_model_with_the_hooks_of_others(duplicated):
    model, x = transformer()
    plain = twin(model)
    model.register_forward_hook(double, with_kwargs=True, always_call=True)
    task = rtswap.register(model, name="first")
    with rtswap.resident(model):
        duplicate = duplicated(model)
    assert same_state(duplicate, plain)
    assert torch.equal(duplicate(x), 2 * plain(x))
    assert torch.equal(model(x), 2 * plain(x))
    assert task.stats().released == 1  # the copy's call was no job
    again = rtswap.register(duplicate, name="second")
    with again.job():
        assert torch.equal(duplicate(x), 2 * plain(x))


def test_what_contains_a_registered_model_is_copied_too():
    model, x = cnn()
    model.eval()
    whole = nn.Sequential(model, nn.Flatten())
    expected = whole(x)
    rtswap.register(model)
    with rtswap.resident(model):
        assert torch.equal(copy.deepcopy(whole)(x), expected)
        assert torch.equal(by_torch(whole)(x), expected)


def test_a_traced_model_is_copied_without_hooks():
    x = torch.ones(64)
    traced = fx.symbolic_trace(nn.Sequential(nn.Linear(64, 64)))
    expected = traced(x)
    rtswap.register(traced)
    with rtswap.resident(traced):
        copies = [copy.deepcopy(traced), by_pickle(traced)]
    for duplicate in copies:
        assert torch.equal(duplicate(x), expected)


class CopiesItself(nn.Linear):
    def __deepcopy__(self, memo):
        made = type(self).__new__(type(self))
        made.__dict__ = copy.deepcopy(self.__dict__, memo)
        return made


def test_a_copy_that_took_the_hooks_along_says_what_to_do():
    model, x = CopiesItself(64, 64), torch.ones(64)
    expected = model(x)
    rtswap.register(model)
    with rtswap.resident(model):
        duplicate = copy.deepcopy(model)
    with pytest.raises(rtswap.NotRegistered, match="forget"):
        duplicate(x)
    rtswap.forget(duplicate)
    assert torch.equal(duplicate(x), expected)
