"""``enable(guard=True)``: what lies where evicted memory was, seen past the closed storages."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from eviction import Rival, same
from models import ALL, twin
from test_process import program, start
from torch import Tensor, nn

import rtswap
from tests.support.daemon import Daemon

CHUNK = 2 << 20

needs_daemon = pytest.mark.skipif(
    not (Path(rtswap.__file__).parent / "bin" / "rtswapd").exists(),
    reason="built without the daemon",
)


@pytest.fixture
def guarded() -> Iterator[rtswap.Info]:
    """As ``arbiter``, with the guard."""
    yield rtswap.enable(
        simulate="12MiB", link_bandwidth="4GB", verify=True, guard=True, name="test"
    )
    rtswap.disable()


def raw(tensor: Tensor) -> Tensor:
    """The same memory by its address: no storage of a task says whether it may be read."""
    array = (ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())
    return torch.frombuffer(array, dtype=tensor.dtype).view(tensor.shape)


def is_guard(tensor: Tensor) -> bool:
    return bool((tensor.view(-1).view(torch.uint8) == 0xFF).all())


def mappings() -> int:
    """Chunks that are mapped in this process, the guard's as often as it is."""
    return Path("/proc/self/maps").read_text().count("memfd:rtswap-chunk")


@contextmanager
def resident_pointers(model: nn.Module, task: rtswap.Task) -> Iterator[dict[str, Tensor]]:
    """Raw views of all tensors of the model, taken and left in a job."""
    with task.job():
        yield {name: raw(tensor) for name, tensor in model.state_dict().items() if tensor.numel()}


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_evicted_memory_reads_as_nan_and_is_exact_in_the_next_job(dtype):
    model = nn.Sequential(nn.Linear(512, 1024), nn.BatchNorm1d(1024)).to(dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    task = rtswap.register(model, name="strayed")
    rival = Rival()
    with resident_pointers(model, task) as pointers:
        assert same(pointers, before)
    for _ in range(3):
        rival.evict(task)
        for name, pointer in pointers.items():
            assert is_guard(pointer), name
            assert not pointer.is_floating_point() or pointer.isnan().all(), name
        with pytest.raises(RuntimeError, match="task 'strayed'"):
            model[0].weight.sum()
        with task.job():
            assert same(pointers, before)
    stats = task.stats()
    assert stats.guard_failures == 0
    assert stats.guarded_bytes == 0
    rival.evict(task)
    assert task.stats().guarded_bytes == stats.arena_bytes


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("make", ALL)
def test_models_are_exact_over_50_evictions(make):
    model, x = make()
    plain = twin(model)
    task = rtswap.register(model)
    rival = Rival()
    with torch.no_grad():
        for _ in range(50):
            rival.evict(task)
            assert same(model(x), plain(x))
    with rtswap.resident(model):
        assert same(model.state_dict(), plain.state_dict())
    assert task.stats().repaired_bytes == 0
    assert task.stats().guard_failures == 0


@pytest.mark.usefixtures("guarded")
def test_a_part_that_was_evicted_reads_as_nan_and_the_rest_stays():
    model = nn.ModuleList([nn.Linear(1024, 512, bias=False) for _ in range(4)])  # a chunk each
    task = rtswap.register(model)
    with resident_pointers(model, task) as pointers:
        before = {name: pointer.clone() for name, pointer in pointers.items()}
    other = nn.Linear(1024, 2048, bias=False)  # 4 chunks of 6, of which 2 are free
    with rtswap.register(other, name="other").job():
        assert task.stats().resident_bytes == 2 * CHUNK
        assert task.stats().guarded_bytes == 2 * CHUNK
        for name in ("0.weight", "1.weight"):
            assert same(pointers[name], before[name])
        for name in ("2.weight", "3.weight"):
            assert pointers[name].isnan().all()
    with task.job():
        assert same(pointers, before)


def test_closing_leaves_no_mapping_of_the_guard():
    rtswap.enable(simulate="12MiB", link_bandwidth="4GB", guard=True, name="test")
    try:
        model, x = ALL[0]()
        expected = twin(model)(x)
        task = rtswap.register(model)
        rival = Rival()
        for _ in range(20):
            rival.evict(task)
            with task.job():
                pass
        rival.evict(task)
        assert mappings() == 6 + task.stats().guarded_bytes // CHUNK
        task.close()
        assert mappings() == 6
        assert same(model(x), expected)
    finally:
        rtswap.disable()
    assert mappings() == 0


def static_bytes(**options: object) -> int:
    rtswap.enable(simulate="12MiB", name="test", **options)  # type: ignore[arg-type]
    try:
        return rtswap.stats().devices[0].static_bytes
    finally:
        rtswap.disable()


def test_the_chunk_counts_as_memory_beside_the_bank():
    assert static_bytes() == 0
    assert static_bytes(guard=True) == CHUNK
    assert static_bytes(guard=True, static="1MiB") == CHUNK + (1 << 20)


STRAY = """
import ctypes
from eviction import Rival
model.eval()
with task.job():
    address = next(model.parameters()).data_ptr()
Rival().evict(task)
pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
"""


@pytest.mark.parametrize(
    ("guard", "access", "why"),
    [
        ("False", "pointer[0]", "no memory is mapped there"),
        ("True", "pointer[0] = 1.0", "the memory is mapped read-only (it was evicted"),
    ],
    ids=["a read without it", "a write with it"],
)
def test_faults_that_are_left(guard, access, why):
    options = f'simulate="12MiB", link_bandwidth="4GB", guard={guard}'
    process = start(program(STRAY + access, options))
    _, error = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGSEGV, error
    assert why in error
    assert "of arena 'task 'cnn''" in error


def test_a_read_with_it_is_survived():
    options = 'simulate="12MiB", link_bandwidth="4GB", guard=True'
    process = start(program(STRAY + "print(pointer[0])", options))
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert out.strip() == "nan"


@needs_daemon
def test_it_stays_when_the_daemon_is_lost():
    with Daemon("--simulate", "12MiB", "--link-bandwidth", "4GB") as daemon:
        rtswap.enable(daemon.socket, guard=True, name="test")
        try:
            model, x = ALL[0]()
            model.eval()
            expected = twin(model)(x)
            task = rtswap.register(model)
            with resident_pointers(model, task) as pointers:
                pass
            rival = Rival()
            rival.evict(task)
            assert rtswap.stats().devices[0].static_bytes == CHUNK
            daemon.kill()
            assert all(is_guard(pointer) for pointer in pointers.values())
            rival.task.close()
            task.close()
            assert same(model(x), expected)
        finally:
            rtswap.disable()
        assert mappings() == 0
