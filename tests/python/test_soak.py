"""Nothing piles up over a thousand registrations, and nobody is disturbed by threads, forks and
spawned processes."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from eviction import Rival
from models import cnn, transformer
from test_process import SIMULATED, finish, start
from torch import nn

import rtswap
from tests.support.daemon import Daemon

MiB = 1 << 20


def status(field: str, pid: int | str = "self") -> int:
    """A number of /proc/PID/status; sizes in KiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+)", text, re.MULTILINE)[1])


def descriptors(pid: int | str = "self") -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def mappings() -> int:
    with Path("/proc/self/maps").open() as lines:
        return sum(1 for _ in lines)


def live(*types: type) -> int:
    gc.collect()
    return sum(type(thing) in types for thing in gc.get_objects())


class Life:
    """One registration from birth to death, with all that can hang on it."""

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64)).eval()
        self.x = torch.ones(2, 64)
        with torch.no_grad():
            self.expected = self.model(self.x)

    def live(self) -> None:
        task = rtswap.register(self.model, period_ms=1000, wcet_ms=1)
        other = task.share(name="other")
        rtswap.swappable(torch.ones(100), task=task)
        with torch.no_grad():
            with other.job():
                assert torch.equal(self.model(self.x), self.expected)
            assert torch.equal(self.model(self.x), self.expected)  # an implicit job
        other.close()
        task.close()


def stays_flat(live_once: Callable[[], None], count: int) -> None:
    for _ in range(count // 10):
        live_once()
    before = {
        "VmSize": status("VmSize"),
        "Threads": status("Threads"),
        "descriptors": descriptors(),
        "mappings": mappings(),
        "objects": live(rtswap.Task, rtswap.Job),
    }
    for _ in range(count - count // 10):
        live_once()
    assert status("Threads") <= before["Threads"]
    assert descriptors() <= before["descriptors"]
    assert mappings() - before["mappings"] < count // 4
    assert live(rtswap.Task, rtswap.Job) <= before["objects"]
    # One address range of 2 MiB left over each time would be far more; malloc's arenas are less.
    assert status("VmSize") - before["VmSize"] < 200 * 1024


@pytest.mark.slow
def test_a_thousand_registrations_leave_nothing_behind(arbiter):
    life = Life()
    stays_flat(life.live, 1000)
    assert not rtswap.stats().tasks
    assert rtswap.stats().devices[0].free_chunks == arbiter.budget_bytes // arbiter.chunk_bytes
    assert not life.model._forward_pre_hooks
    assert not life.model._forward_hooks
    assert not life.model._forward_hooks_always_called


@pytest.mark.skipif(
    not (Path(rtswap.__file__).parent / "bin" / "rtswapd").exists(),
    reason="built without the daemon",
)
def test_a_daemon_remembers_nothing_of_what_was_closed():
    with Daemon("--simulate", "12MiB", "--link-bandwidth", "4GB") as daemon:
        life = Life()

        def session() -> None:
            rtswap.enable(daemon.socket, name="short")
            for _ in range(5):
                life.live()
            rtswap.disable()

        for _ in range(5):
            session()
        pid = daemon.pid()
        before = (status("VmSize", pid), status("Threads", pid), descriptors(pid))
        for _ in range(35):
            session()
        size, threads, files = (status("VmSize", pid), status("Threads", pid), descriptors(pid))
        # A session that is leaving may still have its thread or descriptor.
        assert threads <= before[1] + 2
        assert files <= before[2] + 4
        assert size - before[0] < 200 * 1024  # gRPC's threads have stacks of 8 MiB
        rtswap.enable(daemon.socket)
        assert not rtswap.stats().tasks
        rtswap.disable()


@pytest.mark.usefixtures("arbiter")
def test_many_threads_on_few_models():
    made = [cnn(), transformer()]
    torch.set_default_device(None)  # a mode of this thread alone, in which attention differs
    expected = []
    for model, x in made:
        model.eval()
        with torch.no_grad():
            expected.append(model(x))
    tasks = [rtswap.register(model, name=f"m{i}") for i, (model, _) in enumerate(made)]
    failures = []

    def work(which: int, explicit: bool) -> None:
        model, x = made[which]
        with torch.no_grad():
            for _ in range(15):
                if explicit:
                    with tasks[which].job():
                        y = model(x)
                else:
                    y = model(x)
                if not torch.equal(y, expected[which]):
                    failures.append(which)

    threads = [
        threading.Thread(target=work, args=(which, explicit))
        for which in (0, 1)
        for explicit in (True, False)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [task.stats().released for task in tasks] == [60, 60]


@pytest.mark.usefixtures("arbiter")
def test_a_thread_that_reads_while_the_engine_evicts_sees_the_bytes_or_the_error():
    model, _ = transformer()
    task = rtswap.register(model, name="read")
    with rtswap.resident(model):
        kept = {name: value.clone() for name, value in model.state_dict().items()}
    view = model.encoder.layers[0].linear1.weight.detach().view(-1)[100:5000]
    expected = kept["encoder.layers.0.linear1.weight"].view(-1)[100:5000]
    stop = threading.Event()
    seen = {"right": 0, "refused": 0}
    wrong: list[object] = []

    def read() -> None:
        while not stop.is_set():
            try:
                value = view.clone()
            except RuntimeError as error:
                seen["refused"] += 1
                if "task 'read'" not in str(error):
                    wrong.append(error)
            else:
                seen["right"] += 1
                if not torch.equal(value, expected):
                    wrong.append(value)

    rival = Rival()
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(60):
            with task.job():
                pass
            rival.evict(task)
        while not seen["refused"]:
            pass
        with task.job():
            right = seen["right"]
            while seen["right"] == right:
                pass
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not wrong
    assert all(seen.values())


PROCESSES = """
import os, sys
import torch; torch.set_num_threads(1)
import torch.multiprocessing as mp
from torch.utils.data import DataLoader, TensorDataset
import rtswap
from models import cnn, twin

def swap(seed):
    # Another process, with an arbiter of its own.
    import models
    torch.set_num_threads(1)
    rtswap.enable({simulated})
    model, x = models.cnn()
    plain = twin(model.eval())
    task = rtswap.register(model)
    with torch.no_grad(), task.job():
        return bool(torch.equal(model(x), plain(x)))

if __name__ == "__main__":
    device = rtswap.enable({arbiter}).device
    model, x = cnn()
    plain, x = twin(model.eval()).to(device), x.to(device)
    task = rtswap.register(model)
    data = DataLoader(TensorDataset(torch.randn(12, 3, 8, 8)), batch_size=2, num_workers=1,
                      multiprocessing_context={method!r})
    with torch.no_grad():
        for (batch,) in data:
            batch = batch.to(device)
            with task.job():
                assert torch.equal(model(batch), plain(batch))
        with mp.get_context({method!r}).Pool(1) as pool:
            assert pool.map(swap, [0]) == [True]
        with task.job():
            assert torch.equal(model(x), plain(x))
    print("done")
"""


def run_with_workers(method: str, folder: Path, arbiter: str = SIMULATED) -> None:
    """A program whose worker processes start by ``method``, and which swaps meanwhile."""
    script = folder / "program.py"
    script.write_text(PROCESSES.format(method=method, arbiter=arbiter, simulated=SIMULATED))
    assert "done" in finish(
        start(
            f"import runpy, sys; sys.path.insert(0, {str(folder)!r}); "
            f"runpy.run_path({str(script)!r}, run_name='__main__')"
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_neither_disturb_nor_inherit(method, tmp_path):
    run_with_workers(method, tmp_path)
