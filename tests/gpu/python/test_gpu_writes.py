"""What a job writes to its model on a GPU survives eviction, or is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_writes import (  # noqa: F401
    COUNTED,
    UNCOUNTED,
    Write,
    survives,
    test_a_job_that_fails_keeps_what_it_wrote,
    test_batch_norm_statistics_are_mutable_by_default,
    test_counted_writes_to_read_only_memory_are_kept_and_warned_about_once,
    test_loading_on_purpose_is_no_reason_to_warn,
    test_statistics_that_were_declared_read_only_are_kept_when_they_are_trained,
    warnings,
)
from torch import nn

RAW_KERNEL = r"""
extern "C" __global__ void add_one(float* x, unsigned long long count) {
  const unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
  if (i < count) x[i] += 1.0f;
}
"""


def through_a_raw_kernel() -> Write:
    """A kernel that knows nothing but the address."""
    cupy = pytest.importorskip("cupy", reason="needs cupy")
    kernel = cupy.RawKernel(RAW_KERNEL, "add_one")

    def write(model: nn.Module) -> None:
        weight = model[0].weight
        address, count = (cupy.uint64(n) for n in (weight.data_ptr(), weight.numel()))
        stream = cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
        with stream:
            kernel((-(-weight.numel() // 256),), (256,), (address, count))

    return write


def through_dlpack_of_another_library() -> Write:
    cupy = pytest.importorskip("cupy", reason="needs cupy")

    def write(model: nn.Module) -> None:
        array = cupy.from_dlpack(model[0].weight.detach())
        with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
            array += 1

    return write


def through_a_replayed_graph() -> Write:
    graphs: dict[nn.Module, torch.cuda.CUDAGraph] = {}

    def write(model: nn.Module) -> None:
        if model not in graphs:
            graphs[model] = torch.cuda.CUDAGraph()
            with torch.no_grad(), torch.cuda.graph(graphs[model]):
                model[0].weight.mul_(0.5).add_(1)
        graphs[model].replay()

    return write


GPU_ONLY: dict[str, Callable[[], Write]] = {
    "raw kernel": through_a_raw_kernel,
    "DLPack of another library": through_dlpack_of_another_library,
    "graph": through_a_replayed_graph,
}
EVERY: dict[str, Callable[[], Write]] = {
    **{
        name: lambda write=write: write
        for name, write in {**COUNTED, **UNCOUNTED}.items()
        if "numpy" not in name  # of memory of the host
    },
    **GPU_ONLY,
}


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("prepare", EVERY.values(), ids=EVERY)
def test_mutable_memory_keeps_every_write(prepare, caplog):
    assert survives(prepare(), "mutable").repaired_bytes == 0
    assert not warnings(caplog)


@pytest.mark.usefixtures("arbiter")
@pytest.mark.parametrize("prepare", EVERY.values(), ids=EVERY)
def test_verify_notices_every_write_to_read_only_memory(prepare, caplog):
    assert survives(prepare()).repaired_bytes > 0
    (warning,) = warnings(caplog)
    assert "task 'written'" in warning
    assert "mutable" in warning
