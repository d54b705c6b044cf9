"""Every mistake ends in a typed error that says what to do, and changes nothing."""

from __future__ import annotations

import copy
import math
import os
import pickle
from pathlib import Path

import pytest
import torch
from models import cnn, same_state, transformer, twin
from torch import nn

import rtswap


@pytest.fixture
def model() -> nn.Module:
    return cnn()[0]


@pytest.mark.usefixtures("arbiter")
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"period_ms": 0, "wcet_ms": 1}, "period_ms"),
        ({"period_ms": -5, "wcet_ms": 1}, "period_ms"),
        ({"period_ms": math.nan, "wcet_ms": 1}, "period_ms"),
        ({"period_ms": math.inf, "wcet_ms": 1}, "period_ms"),
        ({"period_ms": "33", "wcet_ms": 1}, "period_ms"),
        ({"rate_hz": 0, "wcet_ms": 1}, "rate_hz"),
        ({"rate_hz": 1e12, "wcet_ms": 1}, r"rate_hz=1000000000000\.0 is outside"),
        ({"rate_hz": 1e-300, "wcet_ms": 1}, r"rate_hz=1e-300 is outside"),
        ({"rate_hz": 10**400, "wcet_ms": 1}, r"rate_hz=\(a number of 1329 bits\) is outside"),
        ({"period_ms": 10**400, "wcet_ms": 1}, r"period_ms=\(a number of 1329 bits\) is outside"),
        ({"period_ms": -(10**400), "wcet_ms": 1}, "period_ms must be a positive, finite number"),
        ({"period_ms": 10, "rate_hz": 100, "wcet_ms": 1}, "not both"),
        ({"period_ms": 10, "deadline_ms": 11, "wcet_ms": 1}, "beyond the period"),
        ({"period_ms": 10, "deadline_ms": 0, "wcet_ms": 1}, "deadline_ms"),
        ({"deadline_ms": 10}, "needs a period"),
        ({"period_ms": 10}, "needs a cost"),
        ({"period_ms": 10, "wcet_ms": 0}, "wcet_ms"),
        ({"late": "sometimes"}, "late"),
        ({"on_refusal": "shrug"}, "on_refusal"),
        ({"importance": 0.5}, "importance"),
        ({"importance": 10**400}, "importance must be a whole number"),
        ({"kinds": "fast"}, "kind"),
        ({"kinds": {"*": "fast"}}, "kind"),
        ({"kinds": ["mutable"]}, "kinds"),
        ({"kinds": {3: "mutable"}}, "pattern"),
        ({"kinds": {"*.wieght": "mutable"}}, r"wieght.*layers"),
        ({"timeout": -1}, "timeout"),
        ({"name": ""}, "name"),
        ({"name": "a@b"}, "name"),
        ({"name": 3}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "\udc80"}, "name"),
        ({"example_inputs": torch.ones(1), "period_ms": 10}, "tuple"),
        ({"weights": 3}, "path or a list"),
        ({"weights": [3]}, "path or a list"),
        ({"weights": {"0.weight": torch.ones(1)}}, r"not a dict\..*load_state_dict\(\)"),
        ({"weights": "nowhere"}, "nowhere cannot be read"),
        ({"profile": 3, "period_ms": 10}, "path of a file"),
        ({"profile": "nowhere", "period_ms": 10}, "nowhere cannot be read"),
    ],
)
def test_register_refuses_nonsense(model, arguments, match):
    plain = twin(model)
    with pytest.raises(rtswap.InvalidArgument, match=match) as caught:
        rtswap.register(model, **arguments)
    assert isinstance(caught.value, ValueError)
    assert same_state(model, plain)
    rtswap.register(model)  # nothing was left behind


@pytest.mark.usefixtures("arbiter")
def test_register_refuses_what_is_no_module():
    for wrong in (None, 3, "cnn", torch.ones(3), [], [nn.ReLU(), 3], nn.ReLU()):
        with pytest.raises(rtswap.InvalidArgument):
            rtswap.register(wrong)


@pytest.mark.usefixtures("arbiter")
def test_names_and_models_are_registered_once(model):
    other, _ = transformer()
    rtswap.register(model, name="one")
    with pytest.raises(rtswap.DuplicateName, match="share"):
        rtswap.register(other, name="one")
    with pytest.raises(rtswap.InvalidArgument, match=r"belongs to task 'one'.*share"):
        rtswap.register(model, name="two")


@pytest.mark.usefixtures("arbiter")
def test_sharing_refuses_nonsense(model):
    task = rtswap.register(model, name="one", period_ms=1000, wcet_ms=10)
    for arguments in (
        {"name": 3},
        {"name": None},
        {"name": "a@b"},
        {"name": ""},
        {"name": "two", "period_ms": math.nan},
        {"name": "two", "period_ms": 100, "deadline_ms": 200},
        {"name": "two", "late": "sometimes"},
        {"name": "two", "on_refusal": "shrug"},
        {"name": "two", "timeout": "soon"},
    ):
        with pytest.raises(rtswap.InvalidArgument):
            task.share(**arguments)
    with pytest.raises(rtswap.DuplicateName):
        task.share(name="one")
    assert [known.name.split("@")[0] for known in rtswap.stats().tasks] == ["one"]
    task.share(name="two", period_ms=2000)


@pytest.mark.usefixtures("arbiter")
def test_a_period_without_any_cost_is_refused(model):
    task = rtswap.register(model, name="one")
    with pytest.raises(rtswap.InvalidArgument, match="A promise needs a cost"):
        task.share(name="two", period_ms=100)
    with pytest.raises(rtswap.InvalidArgument, match="A promise needs a cost"):
        task.set_period(100)
    task.set_period(1000, wcet_ms=5)
    assert task.promise.state == "admitted"


def test_a_model_larger_than_the_budget_is_refused_and_stays_as_it_is(arbiter):
    large = nn.Linear(arbiter.budget_bytes // 4 // 512, 1024, bias=False)
    plain = twin(large)
    with pytest.raises(rtswap.ModelTooLarge) as caught:
        rtswap.register(large)
    assert isinstance(caught.value, torch.OutOfMemoryError)
    assert same_state(large, plain)
    task = rtswap.register(cnn()[0])
    with task.job():
        pass


@pytest.mark.usefixtures("arbiter")
def test_a_set_that_cannot_be_promised_is_refused_with_the_reason(model):
    plain = twin(model)
    x = cnn()[1]
    with pytest.raises(rtswap.AdmissionRefused) as caught:
        rtswap.register(model, name="greedy", period_ms=10, wcet_ms=12)
    assert "greedy" in str(caught.value)
    assert same_state(model, plain)
    assert torch.equal(model(x), plain(x))
    task = rtswap.register(model, name="greedy", period_ms=10, wcet_ms=12, on_refusal="best_effort")
    assert task.state == "best_effort"
    assert task.promise.reason


@pytest.mark.usefixtures("arbiter")
def test_calls_after_close_say_so(model):
    task = rtswap.register(model, period_ms=1000, wcet_ms=10)
    job = task.job()
    task.close()
    task.close()
    assert task.state == "closed"
    for call in (
        task.job,
        task.jobs,
        task.stats,
        task.pause,
        task.resume,
        lambda: task.set_period(10),
        lambda: task.share(name="x"),
        lambda: task.promise,
        lambda: rtswap.swappable(torch.ones(3), task=task),
        lambda: rtswap.region(task, "1MiB"),
        job.__enter__,
    ):
        with pytest.raises(rtswap.Closed):
            call()


@pytest.mark.usefixtures("arbiter")
def test_closing_inside_the_own_job_is_refused(model):
    task = rtswap.register(model)
    with task.job():
        with pytest.raises(rtswap.InvalidArgument):
            task.close()
        with pytest.raises(rtswap.InvalidArgument):
            rtswap.disable()
        with pytest.raises(rtswap.InvalidArgument):
            rtswap.swappable(torch.ones(3), task=task)
    with task.job() as job:
        pass
    with pytest.raises(rtswap.InvalidArgument, match="once"), job:
        pytest.fail("entered twice")


@pytest.mark.usefixtures("arbiter")
def test_tensors_with_memory_of_others_are_refused():
    task = rtswap.register(cnn()[0])
    shared = torch.ones(3).share_memory_()
    with pytest.raises(rtswap.InvalidArgument, match="shared"):
        rtswap.swappable(shared, task=task)
    with pytest.raises(rtswap.Unsupported, match="meta"):
        rtswap.swappable(torch.ones(3, device="meta"), task=task)
    with pytest.raises(rtswap.InvalidArgument, match="kind"):
        rtswap.swappable(torch.ones(3), "warm", task=task)
    with pytest.raises(rtswap.InvalidArgument):
        rtswap.swappable([1, 2], task=task)
    with pytest.raises(rtswap.NotRegistered):
        rtswap.swappable(torch.ones(3), task=nn.Linear(1, 1))
    with task.job():
        pass


def test_everything_says_when_rtswap_is_not_enabled(model):
    for call in (rtswap.info, rtswap.stats, lambda: rtswap.register(model)):
        with pytest.raises(rtswap.Closed, match="enable"):
            call()


@pytest.mark.parametrize(
    "arguments",
    [
        {"simulate": "lots"},
        {"simulate": 0},
        {"simulate": -1},
        {"simulate": "1GiB", "budget": "1GiB"},
        {"simulate": True, "socket": "/nowhere"},
        {"embedded": True, "socket": "/nowhere"},
        {"simulate": "16MiB", "link_bandwidth": "fast"},
        {"simulate": "16MiB", "static": "0"},
        {"simulate": 1.5},
        {"simulate": []},
        {"simulate": "16MiB", "name": 3},
        {"simulate": "16MiB", "name": ""},
        {"socket": 3},
        {"socket": ""},
        {"budget": "0%"},
        {"budget": "some%"},
        {"budget": 1.5},
        {"budget": math.nan},
    ],
)
def test_enable_refuses_nonsense(arguments):
    with pytest.raises(rtswap.InvalidArgument):
        rtswap.enable(**arguments)
    with pytest.raises(rtswap.Closed):
        rtswap.info()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"simulate": 4}, "simulate=4 is 4 bytes.*write '4GiB'"),
        ({"embedded": True, "budget": 4}, "budget=4 is 4 bytes.*write '4GiB'"),
        ({"simulate": "16MiB", "link_bandwidth": 24}, "2.4e-08 GB/s.*write '24GB/s'"),
    ],
)
def test_a_number_whose_unit_was_forgotten_is_named(arguments, words):
    if torch.cuda.is_available() and "budget" in arguments:
        pytest.skip("a budget of a GPU")
    with pytest.raises(rtswap.InvalidArgument, match=words):
        rtswap.enable(**arguments)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("0%", "budget='0%' is not a share"),
        ("200%", "budget='200%' is not a share"),
        (0.0, r"budget=0\.0 is not a share"),
        # Python writes no number of so many digits.
        pytest.param(10**5000, r"budget=\(a number of 16610 bits\) is not between", id="huge"),
    ],
)
def test_a_share_is_shown_as_it_was_given(budget, words):
    with pytest.raises(rtswap.InvalidArgument, match=words):
        rtswap.enable(embedded=True, budget=budget)


@pytest.mark.usefixtures("arbiter")
def test_a_file_of_torch_save_is_told_from_safetensors(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "model.pt")
    with pytest.raises(rtswap.InvalidArgument, match=r"model\.pt.*save_file\(\)"):
        rtswap.register(model, weights=tmp_path / "model.pt")


@pytest.mark.usefixtures("arbiter")
def test_arguments_in_the_wrong_order_are_not_taken_for_a_model(model):
    task = rtswap.register(model)
    with pytest.raises(rtswap.NotRegistered, match=r"This str is not registered\. Give a module"):
        rtswap.region("2MiB", task)


@pytest.mark.usefixtures("arbiter")
def test_a_task_says_why_it_cannot_go_to_another_process(model):
    task = rtswap.register(model, name="one")
    for use in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match=r"'one' cannot be copied or pickled.*register"):
            use(task)


@pytest.mark.usefixtures("arbiter")
def test_a_cell_that_runs_again_is_told_how_to_close_the_task_before(model):
    rtswap.register(model, name="one")  # nobody keeps the task
    with pytest.raises(rtswap.DuplicateName, match=r"task\.close\(\).*disable\(\)"):
        rtswap.register(cnn()[0], name="one")


def test_enable_twice_is_fine_with_equal_arguments_only(arbiter):
    again = rtswap.enable(simulate="12MiB", link_bandwidth="4GB", verify=True, name="test")
    assert again == arbiter
    with pytest.raises(rtswap.InvalidArgument, match=r"simulate='12MiB', .*verify=True.*disable"):
        rtswap.enable(simulate="16MiB")


def test_no_daemon_at_the_given_socket(tmp_path, monkeypatch):
    if not (Path(rtswap.__file__).parent / "librtswap_grpc.so").exists():
        pytest.skip("built without the gRPC link")
    socket = tmp_path / "nobody.sock"
    with pytest.raises(rtswap.DaemonUnavailable, match=r"nobody\.sock") as caught:
        rtswap.enable(socket=socket)
    assert isinstance(caught.value, ConnectionError)
    monkeypatch.setenv("RTSWAP_SOCKET", os.fspath(socket))
    with pytest.raises(rtswap.DaemonUnavailable, match=r"nobody\.sock"):
        rtswap.enable()


def test_strict_mode_refuses_calls_outside_jobs():
    rtswap.enable(simulate="16MiB", link_bandwidth="4GB", strict=True)
    try:
        model, x = cnn()
        task = rtswap.register(model)
        with pytest.raises(rtswap.NotResident, match="job") as caught:
            model(x)
        assert isinstance(caught.value, RuntimeError)
        with task.job():
            model(x)
    finally:
        rtswap.disable()


def test_cleaning_up_hides_no_error_whatever_fails_in_it(caplog):
    def fail() -> None:
        raise RuntimeError("CUDA error")

    rtswap.errors.quietly(fail, "putting buffers back")
    assert "putting buffers back: CUDA error" in caplog.text


def test_unknown_devices_are_named(arbiter):
    with pytest.raises(rtswap.UnknownDevice, match="SIM-"):
        rtswap.register(cnn()[0], device="GPU-00000000-0000-0000-0000-000000000000")


def test_the_allocator_of_cuda_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "cudaMallocAsync")
    with pytest.raises(rtswap.Unsupported, match=r"cudaMallocAsync.*native allocator"):
        rtswap.enable()
    with pytest.raises(rtswap.Closed):
        rtswap.info()
