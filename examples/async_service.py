"""Waiting for memory and device without a thread: `async with`, beside other coroutines.

python examples/async_service.py
"""

import asyncio

import torch

import rtswap
from rtswap.demo import models


async def serve(name: str, task: rtswap.Task, model: torch.nn.Module, example: torch.Tensor) -> int:
    """Three requests, one after the other."""
    example = example.to(next(model.parameters()).device)
    for _ in range(3):
        async with task.job(timeout=20) as job:
            with torch.inference_mode():
                model(example)
        print(f"{name}: waited {job.waited_ms:.0f} ms, restored {job.restored_bytes / 1e6:.0f} MB")
    return 3


async def heartbeat() -> None:
    """Goes on while jobs wait: a wait never blocks the event loop."""
    while True:
        await asyncio.sleep(0.1)
        print("  still here")


async def main() -> None:
    camera, radar = models.residual_cnn(), models.transformer_encoder()
    with_camera = rtswap.register(camera, name="camera")  # no period: served in order of arrival
    with_radar = rtswap.register(radar, name="radar")
    clock = asyncio.create_task(heartbeat())
    served = await asyncio.gather(
        serve("camera", with_camera, camera, models.image()),
        serve("radar", with_radar, radar, models.feature_tokens()),
    )
    clock.cancel()
    print(f"{sum(served)} requests served")


torch.set_num_threads(1)
rtswap.enable(embedded=True, budget="56MiB")
asyncio.run(main())
rtswap.disable()
