"""Settings of torch's allocator that its users choose for their own memory."""

from __future__ import annotations

import pytest
import torch
from test_process import finish, program, start

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

BODY = """
from eviction import Rival, same
from models import twin
torch.use_deterministic_algorithms(True, warn_only=True)
torch.set_grad_enabled(False)
model, tokens = transformer()
plain = twin(model.eval())
assert any(segment["is_expandable"] for segment in torch.cuda.memory_snapshot()), "not in force"
task = rtswap.register(model)
scratch = rtswap.region(task, "64MiB")
rival = Rival()
for count in range(5):
    rival.evict(task)
    with task.job() as job:
        beside = model(tokens)
        with scratch:
            y = model(tokens)
        assert scratch.held_bytes >= y.nbytes, "torch passed the region by"
        inside = y.clone()
        del y
    assert job.restored_bytes > 0
    rival.evict(task)
    expected = plain(tokens)
    assert same(beside, expected), f"job {count}"
    assert same(inside, expected), f"job {count}, in its region"
task.close()
assert same(model.to(tokens.device)(tokens), plain(tokens)), "closed"
print("done")
"""


def test_jobs_and_regions_are_exact_with_expandable_segments(monkeypatch):
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    arbiter = 'embedded=True, budget="256MiB", device=0'
    assert finish(start(program(BODY, arbiter))).endswith("done\n")
