"""Access outside jobs on a GPU: an exception, and nothing else happens.

Which accesses are refused: test_gpu_adoption.py.
"""

from __future__ import annotations

import threading

import pytest
import torch
from eviction import Rival, place, same
from models import ALL, twin
from test_residency import test_escaped_tensors_are_named_at_the_next_job  # noqa: F401

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")


@pytest.mark.parametrize("make", ALL)
def test_threads_that_use_a_model_between_its_jobs_harm_nobody(make):
    """Each access is refused, whatever part of the memory is leaving just then."""
    model, x = make()
    model.eval()
    plain = twin(model)
    task = rtswap.register(model, name="raced")
    rival = Rival()
    weights = [parameter.detach() for parameter in model.parameters()]
    accesses = (
        lambda: weights[0].sum(),
        lambda: weights[-1].clone(),
        lambda: torch._foreach_mul(weights, 2.0),
        lambda: torch.cat([weight.view(-1) for weight in weights]),
        lambda: weights[-1].add_(1),
        lambda: next(model.children())(x),
    )
    begun, stop = threading.Barrier(3), threading.Event()
    between_jobs = threading.Lock()
    refused = [0, 0]
    wrong: list[object] = []

    def race(which: int) -> None:
        begun.wait()
        while not stop.is_set():
            for access in accesses:
                try:
                    with between_jobs, torch.no_grad():
                        wrong.append(access())
                    return
                except RuntimeError as error:
                    if "task 'raced'" not in str(error):
                        wrong.append(error)
                        return
                    refused[which] += 1

    threads = [threading.Thread(target=race, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    begun.wait()
    try:
        with torch.no_grad():
            for _ in range(30):
                rival.evict(task)
                with between_jobs, task.job():
                    y = model(x)
                assert same(y, plain(x))
        while not all(refused) and not wrong:
            pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong
    torch.cuda.synchronize(place())  # the context lives
    with torch.no_grad(), task.job():
        assert same(model(x), plain(x))
