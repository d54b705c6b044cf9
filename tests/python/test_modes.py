"""Modes of torch around and inside of jobs: autocast, inference mode, gradients, compiled code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from eviction import Rival, place, same
from models import cnn, same_state, transformer, twin
from test_process import finish, start
from torch import nn

import rtswap

arbiter = pytest.mark.usefixtures("arbiter")


@arbiter
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
def test_autocast_inside_jobs_is_exact(dtype, cached):
    model, x = transformer()
    plain = twin(model)
    task = rtswap.register(model)
    rival = Rival()
    for _ in range(3):
        rival.evict(task)
        with task.job(), torch.autocast(place().type, dtype, cache_enabled=cached):
            y = model(x)
        with torch.autocast(place().type, dtype, cache_enabled=cached):
            expected = plain(x)
        assert same(y, expected)
        assert y.dtype == dtype


@arbiter
def test_autocast_around_several_jobs_sees_what_is_written_between():
    model, x = transformer()
    plain = twin(model)
    task = rtswap.register(model, kinds="mutable")
    rival = Rival()

    def run(chosen: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            chosen.embed.weight.add_(0.5)
            torch.clear_autocast_cache()  # torch keeps cast weights until autocast is left
            return chosen(x)

    for _ in range(2):
        with torch.autocast(place().type, torch.bfloat16):
            made = []
            for _ in range(3):
                rival.evict(task)
                with task.job():
                    made.append(run(model))
        with torch.autocast(place().type, torch.bfloat16):
            assert same(made, [run(plain) for _ in range(3)])


MODES: dict[str, Callable[[], torch.autograd.grad_mode._DecoratorContextManager]] = {
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "inference_mode": torch.inference_mode,
}


@arbiter
@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("made_in", MODES.values(), ids=MODES)
def test_models_made_and_used_in_any_mode_are_exact(made_in, outer):
    with made_in():
        model, x = cnn()
    model.eval()
    with outer():
        expected = model(x)
        task = rtswap.register(model)
        rival = Rival()
        for _ in range(3):
            rival.evict(task)
            assert torch.equal(model(x), expected)
            rival.evict(task)
            with task.job():
                assert torch.equal(model(x), expected)
        task.close()
        assert torch.equal(model(x), expected)


@arbiter
def test_registering_inside_inference_mode_leaves_parameters_trainable():
    model, x = cnn()
    plain = twin(model)
    with torch.inference_mode():
        task = rtswap.register(model, kinds="mutable")
    for chosen in (model, plain):
        with task.job():
            chosen(x).sum().backward()
            with torch.no_grad():
                for parameter in chosen.parameters():
                    parameter.sub_(parameter.grad)
    Rival().evict(task)
    with task.job():
        assert same_state(model, plain)


@arbiter
def test_a_backward_pass_belongs_into_the_job_of_its_forward_pass():
    model, x = cnn()
    plain = twin(model)
    task = rtswap.register(model, name="learner")
    rival = Rival()
    with task.job():
        y = model(x)
    rival.evict(task)
    with pytest.raises(RuntimeError, match=r"task 'learner'.*task\.job\(\)"):
        y.sum().backward()
    model.zero_grad()
    with task.job():
        model(x).sum().backward()
    plain(x)
    plain(x).sum().backward()
    assert same([p.grad for p in model.parameters()], [p.grad for p in plain.parameters()])


@arbiter
def test_gradients_are_ordinary_tensors():
    model, x = cnn()
    task = rtswap.register(model)
    with task.job():
        model(x).sum().backward()
    Rival().evict(task)
    assert all(p.grad.isfinite().all() for p in model.parameters())  # outside any job


@pytest.mark.slow
def test_compiled_code_is_exact_and_its_writes_are_kept():
    finish(
        start("""
        import shutil, sys
        import torch; torch.set_num_threads(1)
        import rtswap
        from eviction import Rival
        from models import same_state, twin
        from torch import nn

        rtswap.enable(simulate="12MiB", link_bandwidth="4GB", verify=True)
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 8)).train()
        plain, x = twin(model), torch.randn(4, 64)
        backend = "inductor" if shutil.which("g++") else "aot_eager"

        def step(module, x):
            y = module(x)
            module[0].weight.add_(0.125)
            module[2].bias.copy_(y.sum(0))
            return y

        task = rtswap.register(model, kinds="mutable")
        rival = Rival()
        compiled = torch.compile(step, backend=backend)
        with torch.no_grad():
            for _ in range(3):
                rival.evict(task)
                with task.job():
                    assert torch.equal(compiled(model, x), compiled(plain, x))
                rival.evict(task)
                with task.job():
                    assert same_state(model, plain)
        assert task.stats().repaired_bytes == 0

        # A compiled module outside a job: its hook makes the call a job.
        whole = torch.compile(model.eval(), backend="aot_eager")
        plain.eval()
        with torch.no_grad():
            for _ in range(3):
                rival.evict(task)
                y = whole(x)
                assert torch.allclose(y, plain(x), atol=1e-5)
        released = task.stats().released
        with torch.no_grad(), task.job():
            assert torch.equal(whole(x), y)
        assert task.stats().released == released + 1
        """)
    )
