"""A task with no event to follow: a clock releases it, without drift, and never catches up.

python examples/periodic_clock.py
"""

import itertools
import time

import torch

import rtswap
from rtswap.demo import models

torch.set_num_threads(1)
rtswap.enable(embedded=True, budget="56MiB")

logger, inputs = models.transformer_encoder(), models.feature_tokens()
task = rtswap.register(
    logger, name="logger", period_ms=200, deadline_ms=180, wcet_ms=60, late="run"
)
inputs = inputs.to(next(logger.parameters()).device)

releases_ns = []
with torch.inference_mode():
    for job in task.jobs():  # waits for the release and holds nothing meanwhile
        with job:  # waits for memory and device
            logger(inputs)
        releases_ns.append(job.release_ns)
        print(f"job {job.index}: answered in {job.response_ms:.1f} ms, in time: {job.met}")
        if len(releases_ns) == 3:
            time.sleep(0.5)  # late for two releases: they are skipped, the grid stays
        if len(releases_ns) == 6:
            break

distances_ms = [(b - a) / 1e6 for a, b in itertools.pairwise(releases_ns)]
print("milliseconds between releases:", [round(distance) for distance in distances_ms])
assert all(abs(distance / 200 - round(distance / 200)) < 1e-6 for distance in distances_ms)
rtswap.disable()
