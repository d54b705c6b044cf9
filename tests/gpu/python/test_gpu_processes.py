"""Several client processes and a real daemon on a real GPU."""

from __future__ import annotations

import time

import pytest
import torch

from tests.support.daemon import Daemon
from tests.support.worker import Worker, WorkerError

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

CYCLES = 50


def _clients(daemon: Daemon, *registered: dict[str, object]) -> list[Worker]:
    """A process for each model; they start side by side, as importing torch takes seconds."""
    workers = [Worker() for _ in registered]
    options = {"socket": daemon.socket, "static": "4GiB"}
    Worker.call_all(workers, "enable", *[options for _ in workers])
    Worker.call_all(workers, "register", *registered)
    return workers


def _exact(results: list[dict[str, object]]) -> bool:
    return all(result["exact"] for result in results)


def test_models_of_twice_the_budget_run_bit_exact_in_turn() -> None:
    """Four processes, total about twice the bank, each evicted and restored many times."""
    with Daemon("--budget", "640MiB") as daemon:
        models = ("cnn", "language", "encoder_24", "lstm")
        workers = _clients(daemon, *[{"model": model} for model in models])
        restored = [0] * len(workers)
        for _ in range(CYCLES):
            for index, worker in enumerate(workers):
                [job] = worker.call("jobs")
                assert job["exact"]
                restored[index] += job["restored_bytes"]
        assert all(bytes_ > 0 for bytes_ in restored), restored
        for worker in workers:
            assert worker.call("close") == "exact"
            worker.close()


def test_survivors_of_a_killed_client_stay_exact_and_use_its_chunks() -> None:
    """kill -9 of a client with a kernel running; its memory serves the others at once."""
    with Daemon("--budget", "640MiB") as daemon:
        survivor, other, *victims = _clients(
            daemon, {"model": "cnn"}, {"model": "language"}, *[{"model": "encoder_24"}] * 5
        )
        for victim in victims:
            victim.send("spin", seconds=30)
            assert victim.receive() == "spinning"
            time.sleep(0.3)
            victim.kill()
            assert _exact(survivor.call("jobs", count=10))
            assert _exact(other.call("jobs", count=10))
        survivor.close()
        other.close()


def test_clients_survive_a_daemon_that_is_killed_and_started_again() -> None:
    """Memory and data live through it; jobs fail clearly meanwhile and go on afterwards."""
    with Daemon("--budget", "640MiB") as daemon:
        a, b = _clients(daemon, {"model": "encoder_24"}, {"model": "cnn"})
        assert _exact(a.call("jobs", count=3) + b.call("jobs", count=3))
        daemon.kill()
        with pytest.raises(WorkerError) as failure:
            a.call("jobs", count=1)
        assert failure.value.kind == "DaemonUnavailable"
        daemon.start()
        for worker in (a, b):
            deadline = time.monotonic() + 20
            while True:
                try:
                    assert _exact(worker.call("jobs", count=CYCLES))
                    break
                except WorkerError as error:
                    if error.kind != "DaemonUnavailable" or time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)
            worker.close()
