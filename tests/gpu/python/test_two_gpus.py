"""Two GPUs behind one daemon, named by UUID: each on its own, and models spread over both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from test_spanning import (  # noqa: F401
    Spanning,
    evict,
    test_a_deadline_counts_and_is_not_promised,
    test_a_half_that_fits_no_device_is_refused_and_nothing_has_happened,
    test_a_job_has_both_devices_or_none,
    test_a_job_inside_a_job_and_a_failing_body_give_both_devices_back,
    test_a_job_that_is_late_on_one_device_is_dropped_on_both,
    test_a_killed_client_frees_both_devices_and_the_others_stay_exact,
    test_a_restarted_daemon_takes_both_halves_back,
    test_fifty_cycles_at_twice_the_budget_of_each_device_are_exact,
    test_it_is_paused_shared_and_closed,
    test_jobs_are_awaited_and_calls_outside_jobs_become_some,
    test_kinds_are_those_of_the_paths_on_every_device,
    test_outside_jobs_every_half_is_closed_and_says_so,
    test_threads_of_both_devices_and_of_both_at_once,
    test_verify_finds_what_no_counter_sees_on_either_device,
    test_weights_are_read_straight_into_the_image_of_each_half,
    test_what_is_written_while_it_is_resident_stays_on_both,
    test_what_left_either_device_is_named,
)
from test_spanning import (  # noqa: F401
    test_a_device_is_taken_away_and_tasks_of_the_other_go_on as test_a_half_is_taken_away,
)
from test_two_devices import (  # noqa: F401
    test_a_device_is_taken_away_and_the_other_goes_on,
    test_a_killed_client_frees_its_chunks_on_both_devices,
    test_both_banks_are_taken_over_by_a_restarted_daemon,
    test_tasks_of_both_devices_restore_at_the_same_time,
)
from two_devices import DaemonOfTwo, client_of_two, on_both

from rtswap.devices import cuda_uuid
from tests.gpu.python.conftest import exact_arithmetic
from tests.support.daemon import Daemon
from tests.support.worker import Worker

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")

CYCLES = 50


def gpus() -> list[str]:
    return [cuda_uuid(index) for index in range(2)]


@pytest.fixture
def daemon() -> Iterator[DaemonOfTwo]:
    first, second = gpus()
    flags = ("--budget", "14MiB", "--device", first), ("--device", second)
    with client_of_two(flags, device=first) as daemon, exact_arithmetic():
        yield daemon


def spread_clients(daemon: Daemon) -> list[Worker]:
    """Each with a model that has 256 MiB on both GPUs. The second process numbers them the other
    way round, and has its halves the other way round."""
    first, second = gpus()
    workers = [Worker(), Worker(CUDA_VISIBLE_DEVICES=f"{second},{first}")]
    options = {"socket": daemon.socket, "device": first, "static": "3GiB"}
    Worker.call_all(workers, "enable", options, options)
    places = {"encoder": first, "decoder": second}, {"encoder": second, "decoder": first}
    Worker.call_all(
        workers, "register", *[{"model": "spread", "device": place} for place in places]
    )
    return workers


def language_clients(daemon: Daemon) -> list[Worker]:
    """Each with a model of 446 MiB on a GPU of its own."""
    workers = [Worker(), Worker()]
    options = [{"socket": daemon.socket, "device": gpu, "static": "3GiB"} for gpu in gpus()]
    Worker.call_all(workers, "enable", *options)
    Worker.call_all(workers, "register", {"model": "language"}, {"model": "language"})
    return workers


@pytest.fixture
def large() -> Iterator[Daemon]:
    """About half of what these clients have on each GPU."""
    first, second = gpus()
    with Daemon("--budget", "480MiB", "--device", first, "--device", second) as daemon:
        yield daemon


def test_processes_that_number_the_gpus_differently_share_both(large):
    workers = spread_clients(large) + language_clients(large)
    restored = [0] * len(workers)
    for _ in range(CYCLES):
        for index, worker in enumerate(workers):
            [job] = worker.call("jobs")
            assert job["exact"]
            restored[index] += job["restored_bytes"]
    assert all(size > CYCLES * 100e6 for size in restored), restored
    for worker in workers:
        assert worker.call("close") == "exact"
        worker.close()


def test_survivors_of_a_client_killed_while_both_gpus_compute_stay_exact(large):
    victim, spread = spread_clients(large)
    others = language_clients(large)
    victim.send("spin", seconds=60)
    assert victim.receive() == "spinning"
    victim.kill()
    workers = [spread, *others]
    for results in Worker.call_all(workers, "jobs", *[{"count": 10}] * 3):
        assert all(job["exact"] for job in results)
    for worker in workers:
        worker.close()


def test_a_job_ends_when_the_work_on_both_gpus_has(daemon):
    """Where it did not wait for one of them, the memory would be gone under the kernels."""
    spread, alone = Spanning(), on_both()
    spread.model.eval()
    spread.plain.eval()
    for half, plain in zip(
        spread.halves, (spread.plain.encoder, spread.plain.decoder), strict=True
    ):
        expected = plain(spread.x)
        device = half.calls.device
        for stream in (torch.cuda.current_stream(device), torch.cuda.Stream(device)):
            with torch.no_grad(), spread.task.job(timeout=60), torch.cuda.stream(stream):
                x = spread.x.to(device)
                torch.cuda._sleep(200_000_000)  # about 0.1 s on the stream
                y = half(x)
            assert stream.query()
            evict(alone, spread)
            assert torch.equal(y.to(expected.device), expected)
