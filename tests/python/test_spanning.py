"""One model with a half on each of two devices: all of its memory and both devices, or nothing."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from models import cnn, recurrent, same_state, transformer, twin
from test_process import start
from torch import nn
from two_devices import (
    DaemonOfTwo,
    Swapped,
    client_of_two,
    devices,
    home,
    needs_daemon,
    on_both,
    once_connected,
    run_in_turn,
    together,
)
from weight_files import write_shards

import rtswap
from tests.support.models import Half, Spread
from tests.support.waits import until

pytestmark = needs_daemon

WIDTH = 1350  # 7 MiB for each half


@pytest.fixture
def daemon() -> Iterator[DaemonOfTwo]:
    with client_of_two() as daemon:
        yield daemon


class Spanning:
    """A spread model in train mode, and a copy in ordinary memory that runs along."""

    def __init__(self, name: str = "spread", places: object = None, **options: object):
        torch.manual_seed(4)
        self.model = Spread(WIDTH)
        self.x = torch.randn(2, WIDTH).to(home())
        self.plain = twin(self.model).to(home())
        self.task = rtswap.register(self.model, name=name, device=places or halves(), **options)

    @property
    def halves(self) -> tuple[Half, Half]:
        return self.model.encoder, self.model.decoder

    def call(self) -> None:
        assert torch.equal(self.model(self.x).to(home()), self.plain(self.x))

    def run(self, count: int = 1) -> None:
        for _ in range(count):
            with torch.no_grad(), self.task.job(timeout=60):
                self.call()


def halves(*, swapped: bool = False) -> dict[str, str]:
    """Where the halves of a spread model lie."""
    places = reversed(devices()) if swapped else devices()
    return dict(zip(("encoder", "decoder"), places, strict=True))


def holders() -> list[str]:
    return [device.running for device in rtswap.stats().devices]


def expect_both_free() -> None:
    """Soon: the end of a job and a question for statistics reach the daemon on different ways."""
    until(lambda: holders() == ["", ""])


def evict(models: list[list[Swapped]], *spanning: Spanning) -> None:
    """Two models of 7 to 8 MiB push out what else is on a device of 14."""
    for alone in models:
        run_in_turn(alone, 1)
    for model in spanning:
        assert model.task.stats().resident_bytes == 0


# --- running --------------------------------------------------------------------------------------


def test_fifty_cycles_at_twice_the_budget_of_each_device_are_exact(daemon):
    spread = [Spanning("spread"), Spanning("other")]
    alone = on_both()
    snapshot = rtswap.stats()
    for index, device in enumerate(snapshot.devices):
        wanted = sum(task.arena_chunks for task in snapshot.tasks if task.device == index)
        assert wanted >= 2 * device.chunk_count
    for _ in range(50):
        for model in (*spread, *alone[0], *alone[1]):
            model.run()
    for model in spread:
        stats = model.task.stats()
        assert stats.released == 50
        assert stats.begun_on_prefix == 0
        # Both halves came back each time, and what they count went out with them.
        assert stats.restored_bytes >= 50 * stats.host_bytes
        assert stats.written_back_bytes > 0
        assert stats.arena_bytes >= 2 * (WIDTH * WIDTH * 4)
        assert model.model.training
        with rtswap.resident(model.model):
            assert [float(half.calls) for half in model.halves] == [50, 50]


def test_threads_of_both_devices_and_of_both_at_once(daemon):
    spread, alone = Spanning(), on_both()
    together(
        lambda: spread.run(10),
        lambda: run_in_turn(alone[0], 10),
        lambda: run_in_turn(alone[1], 10),
    )


def test_a_job_has_both_devices_or_none(daemon):
    spread, alone = Spanning(), on_both()
    with spread.task.job() as job:
        assert all(holder.startswith("spread@") for holder in holders())
        assert not job.began_on_prefix
        for model, _ in alone:
            with pytest.raises(rtswap.Timeout):
                together(model.task.job(timeout=0).__enter__)
    expect_both_free()

    def try_beside_another() -> None:
        with pytest.raises(rtswap.Timeout), spread.task.job(timeout=0.2):
            pytest.fail("entered")
        assert holders()[0] == ""
        alone[0][0].run()

    with alone[1][0].task.job():
        together(try_beside_another)
    spread.run()


def test_jobs_are_awaited_and_calls_outside_jobs_become_some(daemon):
    spread, alone = Spanning(), on_both()

    async def run() -> None:
        async with spread.task.job(timeout=60):
            spread.call()

    with torch.no_grad():
        for _ in range(3):
            evict(alone, spread)
            asyncio.run(run())
            evict(alone, spread)
            spread.call()
    assert spread.task.stats().released == 6


def test_a_job_inside_a_job_and_a_failing_body_give_both_devices_back(daemon):
    spread, alone = Spanning(), on_both()
    with spread.task.job(), pytest.raises(rtswap.NestedJob):
        alone[1][0].task.job().__enter__()
    with pytest.raises(ZeroDivisionError), spread.task.job():
        raise ZeroDivisionError
    expect_both_free()
    evict(alone, spread)
    spread.run()


# --- outside jobs ---------------------------------------------------------------------------------


def test_outside_jobs_every_half_is_closed_and_says_so(daemon):
    spread = Spanning()
    spread.run()
    for half in spread.halves:
        with pytest.raises(RuntimeError, match=r"task 'spread', which holds no memory now"):
            half.linear.weight.sum()
    with pytest.raises(RuntimeError, match="holds no memory now"):
        torch.save(spread.model.state_dict(), io.BytesIO())


def test_what_is_written_while_it_is_resident_stays_on_both(daemon):
    spread, alone = Spanning(), on_both()
    with rtswap.resident(spread.model), torch.no_grad():
        for half in spread.halves:
            half.linear.bias.fill_(3)
            half.calls.fill_(5)
    for half in (spread.plain.encoder, spread.plain.decoder):
        half.linear.bias.data.fill_(3)
        half.calls.fill_(5)
    for _ in range(2):
        evict(alone, spread)
        spread.run()


def test_verify_finds_what_no_counter_sees_on_either_device(daemon, caplog):
    spread, alone = Spanning(), on_both()
    for half in ("encoder", "decoder"):
        before = spread.task.stats().repaired_bytes
        with spread.task.job():
            getattr(spread.model, half).linear.weight.data.fill_(0.5)
        getattr(spread.plain, half).linear.weight.data.fill_(0.5)
        evict(alone, spread)
        assert spread.task.stats().repaired_bytes > before
    spread.run()
    assert "read_only" in caplog.text


def test_kinds_are_those_of_the_paths_on_every_device(daemon):
    spread, alone = Spanning(kinds={"*.weight": "mutable"}), on_both()
    for half in ("encoder", "decoder"):
        with spread.task.job():
            getattr(spread.model, half).linear.weight.data.fill_(0.5)
        getattr(spread.plain, half).linear.weight.data.fill_(0.5)
    evict(alone, spread)
    assert spread.task.stats().written_back_bytes >= 2 * WIDTH * WIDTH * 4
    assert spread.task.stats().repaired_bytes == 0
    spread.run()


def test_statistics_of_batch_norm_are_kept_on_every_device(daemon):
    torch.manual_seed(5)
    model = nn.Sequential(nn.BatchNorm1d(WIDTH), nn.BatchNorm1d(WIDTH)).train()
    plain, x = twin(model), torch.randn(4, WIDTH)
    places = {"0": "SIM-0", "1": "SIM-1"}
    task = rtswap.register(model, name="norms", device=places, kinds="read_only")
    alone = on_both()
    for _ in range(3):
        with torch.no_grad(), task.job():
            assert torch.equal(model(x), plain(x))
        evict(alone)
    with rtswap.resident(model):
        for ours, theirs in zip(model.buffers(), plain.buffers(), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda model: model.half(), ["encoder.linear.weight", "decoder.linear.weight"]),
        (lambda model: setattr(model.decoder, "linear", nn.Linear(4, 4)), ["decoder.linear"]),
        (lambda model: setattr(model, "encoder", Half(4)), ["encoder.linear"]),
        (
            lambda model: setattr(model.decoder.linear, "bias", nn.Parameter(torch.ones(WIDTH))),
            ["decoder.linear.bias"],
        ),
    ],
)
def test_what_left_either_device_is_named(daemon, change: Callable[[nn.Module], None], names):
    spread, alone = Spanning(), on_both()
    with rtswap.resident(spread.model):
        change(spread.model)
    with pytest.raises(rtswap.EscapedTensor) as caught, spread.task.job():
        pytest.fail("entered")
    assert all(name in str(caught.value) for name in names)
    expect_both_free()
    alone[0][0].run()


def test_a_tensor_that_was_added_is_warned_about_once(daemon, caplog):
    spread = Spanning()
    spread.model.decoder.register_buffer("extra", torch.ones(3))
    spread.run(2)
    assert caplog.text.count("'decoder.extra'") == 1


# --- the life of the task -------------------------------------------------------------------------


def test_weights_are_read_straight_into_the_image_of_each_half(daemon, tmp_path):
    torch.manual_seed(4)
    plain = Spread(WIDTH).eval()
    index = write_shards(tmp_path, plain.state_dict(), 3)
    with torch.device("meta"):
        model = Spread(WIDTH).eval()
    with pytest.raises(rtswap.WeightsMismatch):
        rtswap.register(Spread(8), device=halves(), weights=index)
    task = rtswap.register(model, name="loaded", device=halves(), weights=index)
    x, alone = torch.randn(2, WIDTH).to(home()), on_both()
    expected = twin(plain).to(home())(x)
    for _ in range(3):
        with torch.no_grad(), task.job():
            assert torch.equal(model(x).to(home()), expected)
        evict(alone)
    task.close()
    assert same_state(model, plain)


def test_what_it_is(daemon):
    spread = Spanning()
    assert spread.task.state == "best_effort"
    assert len(spread.task.devices) == 2
    assert spread.task.device == spread.task.devices[0]
    assert not spread.task.promise.begins_on_prefix
    assert spread.task.promise.response_bound_ms is None
    lines = [task for task in rtswap.stats().tasks if task.name.startswith("spread@")]
    assert sorted(line.device for line in lines) == [0, 1]


def test_it_is_paused_shared_and_closed(daemon):
    spread, alone = Spanning(), on_both()
    spread.task.pause()
    with pytest.raises(rtswap.JobDropped, match="paused"), spread.task.job():
        pytest.fail("entered")
    spread.task.resume()
    spread.run()
    second = spread.task.share(name="again")
    spread.task.close()
    evict(alone)
    with torch.no_grad(), second.job():
        spread.call()
    with torch.no_grad():
        spread.call()  # by the hooks, which serve the one that is left
    second.close()
    spread.model.to(home())
    for _ in range(2):
        with torch.no_grad():
            spread.call()
    assert spread.model.encoder.calls == spread.plain.encoder.calls
    again = rtswap.register(spread.model.cpu(), name="spread", device=halves(swapped=True))
    with torch.no_grad(), again.job():
        spread.call()


def test_a_deadline_counts_and_is_not_promised(daemon):
    with pytest.raises(rtswap.AdmissionRefused, match="spans several devices"):
        Spanning(period_ms=1000, wcet_ms=10)
    spread = Spanning(period_ms=1000, wcet_ms=10, on_refusal="best_effort")
    assert spread.task.state == "best_effort"
    assert "spans several devices" in spread.task.promise.reason
    with spread.task.job() as job:
        spread.call()
    assert job.deadline_ns == job.release_ns + 1_000_000_000
    spread.task.set_period(500, wcet_ms=10)
    assert spread.task.period_ms == 500


def test_a_job_that_is_late_on_one_device_is_dropped_on_both(daemon):
    spread = Spanning(period_ms=50, wcet_ms=1, on_refusal="best_effort")
    late = Spanning("late", period_ms=50, wcet_ms=1, on_refusal="best_effort", late="run")
    other = Swapped(cnn, devices()[1], "other")

    def dropped() -> None:
        with pytest.raises(rtswap.JobDropped, match="no longer meet"), spread.task.job():
            pytest.fail("entered")

    runs = threading.Thread(target=late.run)
    with other.task.job():
        runs.start()
        together(dropped)
        assert holders()[0] == ""
    runs.join()
    assert late.task.stats().released == 1
    spread.task.set_period(10_000, wcet_ms=1)
    spread.run()


def test_a_half_that_fits_no_device_is_refused_and_nothing_has_happened(daemon):
    torch.manual_seed(4)
    model = nn.ModuleDict({"encoder": Half(100), "decoder": Half(2000)})
    weight = model["encoder"].linear.weight.clone()
    with pytest.raises(rtswap.ModelTooLarge, match=devices()[1]):
        rtswap.register(model, name="large", device=halves())
    assert torch.equal(model["encoder"].linear.weight, weight)
    assert not rtswap.stats().tasks
    for device in rtswap.stats().devices:
        assert device.free_chunks == device.chunk_count


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [{"profile": "missing"}, {"example_inputs": (torch.zeros(1),)}],
)
def test_options_for_one_device_are_refused_by_name(daemon, option):
    with pytest.raises(rtswap.Unsupported, match=f"{next(iter(option))}= .*several devices"):
        Spanning(**option)
    Spanning().run()


def test_memory_is_not_added_to_it(daemon):
    spread = Spanning()
    with pytest.raises(rtswap.Unsupported, match=r"swappable\(\).*'spread'.*2 devices"):
        rtswap.swappable(torch.zeros(10), task=spread.task)
    with pytest.raises(rtswap.Unsupported, match=r"region\(\).*'spread'.*2 devices"):
        rtswap.region(spread.task, "1MiB")
    spread.run()


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"encoder": "SIM-0"}, r"no path leads to 'decoder\.calls', 'decoder\.linear"),
        ({}, r"no path leads to 'encoder\.calls'"),
        ({"": "SIM-0", "decode": "SIM-1"}, "nothing lies under 'decode'"),
        (
            {"": "SIM-1", "encoder": "SIM-0", "encoder.linear": "SIM-1", "encoder.calls": "SIM-1"},
            "nothing lies under 'encoder' that",
        ),
        ({1: "SIM-0", "": "SIM-1"}, "path of a module is a text"),
    ],
)
def test_places_that_make_no_sense_are_refused(daemon, places, message):
    with pytest.raises(rtswap.InvalidArgument, match=message):
        rtswap.register(Spread(8), device=places)


def test_an_unknown_device_is_named(daemon):
    with pytest.raises(rtswap.UnknownDevice, match="SIM-7"):
        rtswap.register(Spread(8), device={"": "SIM-0", "decoder": "SIM-7"})


def test_tied_weights_stay_on_one_device(daemon):
    model, tokens = transformer()
    with torch.no_grad():
        expected = model(tokens)
    with pytest.raises(rtswap.InvalidArgument, match=r"'embed\.weight' and 'head\.weight' share"):
        rtswap.register(model, device={"": "SIM-0", "head": "SIM-1"})
    places = {"embed": "SIM-0", "encoder": "SIM-1", "head": "SIM-0"}
    task = rtswap.register(model, name="tied", device=places)
    alone = on_both()
    for _ in range(3):
        with torch.no_grad(), task.job():
            assert torch.equal(model(tokens), expected)
        evict(alone)


def test_the_longest_path_counts_and_one_device_is_an_ordinary_model(daemon):
    model = Spread(600)
    task = rtswap.register(model, device={"encoder": "SIM-1", "": "SIM-1", "decoder": "SIM-1"})
    assert len(task.devices) == 1
    rtswap.swappable(torch.zeros(10), task=task)
    task.close()
    places = {"": "SIM-0", "decoder": "SIM-1", "decoder.linear.weight": "SIM-0"}
    rtswap.register(model, name="longest", device=places)
    chunks = {line.device: line.arena_chunks for line in rtswap.stats().tasks}
    assert chunks[0] >= 2 * 600 * 600 * 4 // rtswap.info().chunk_bytes
    assert chunks[1] <= 2  # a bias and a count


def test_several_modules_are_told_apart_by_their_number(daemon):
    models = [cnn()[0].eval(), recurrent()[0]]
    inputs = [cnn()[1], recurrent()[1]]
    with torch.no_grad():
        expected = [model(x) for model, x in zip(models, inputs, strict=True)]
    task = rtswap.register(models, name="both", device={"0": "SIM-0", "1": "SIM-1"})
    alone = on_both()
    for _ in range(3):
        evict(alone)
        with torch.no_grad(), task.job():
            for model, x, output in zip(models, inputs, expected, strict=True):
                assert torch.equal(model(x), output)


# --- faults ---------------------------------------------------------------------------------------

HOLDS_BOTH = """
import threading
import torch; torch.set_num_threads(1)
import rtswap
from tests.support.models import Spread
places = {places!r}
rtswap.enable({socket!r}, device=places["encoder"])
task = rtswap.register(Spread({width}), name="victim", device=places)
with task.job():
    print("holding", flush=True)
    threading.Event().wait()
"""


def test_a_killed_client_frees_both_devices_and_the_others_stay_exact(daemon):
    spread, alone = Spanning(), on_both()
    for _ in range(3):
        victim = start(HOLDS_BOTH.format(socket=daemon.socket, width=WIDTH, places=halves()))
        try:
            assert victim.stdout.readline() == "holding\n"
            assert holders() == [f"victim@{victim.pid}"] * 2
            with pytest.raises(rtswap.Timeout), spread.task.job(timeout=0):
                pytest.fail("entered")
        finally:
            victim.kill()
            victim.wait()
        together(
            lambda: spread.run(2),
            lambda: run_in_turn(alone[0], 2),
            lambda: run_in_turn(alone[1], 2),
        )
        assert not any(task.name.startswith("victim@") for task in rtswap.stats().tasks)


def test_a_restarted_daemon_takes_both_halves_back(daemon):
    spread, alone = Spanning(), on_both()
    for _ in range(2):
        spread.run()
        daemon.come_back()
        once_connected(spread.run)
        for model in (*alone[0], *alone[1]):
            once_connected(model.run)


@pytest.mark.parametrize("gone_first", [False, True])
def test_a_device_is_taken_away_and_tasks_of_the_other_go_on(daemon, gone_first):
    kept, lost = devices()
    spread, alone = Spanning(places=halves(swapped=gone_first)), on_both()
    with spread.task.job():  # bytes that no host image has yet
        spread.model.encoder.calls.fill_(7)
        spread.model.decoder.calls.fill_(8)
    daemon.come_back_without_second()
    once_connected(alone[0][0].run)
    for enter in (spread.task.job().__enter__, spread.call, lambda: spread.task.share(name="no")):
        with pytest.raises(rtswap.UnknownDevice, match=f"{lost}.*Close"):
            enter()
    with pytest.raises(rtswap.UnknownDevice, match=lost):
        rtswap.register(Spread(8), name="new", device={"": kept, "decoder": lost})
    # What the half that is left holds there serves the others.
    run_in_turn(alone[0], 3)
    spread.task.close()
    assert spread.model.encoder.calls == 7
    assert spread.model.decoder.calls == 8
    moved = rtswap.register(spread.model.encoder, name="moved", device=kept)
    with torch.no_grad(), moved.job():
        spread.model.encoder(spread.x)
    run_in_turn(alone[0], 2)
    assert {task.device for task in rtswap.stats().tasks} == {0}
