"""Two models in one process, no daemon: the arbiter is embedded, the memory holds one of them.

    python examples/one_process.py

Works without a GPU too: there the device is a simulated one, and rtswap says so.
"""

import models
import torch

import rtswap

torch.set_num_threads(1)
info = rtswap.enable(embedded=True, budget="56MiB")
print(f"memory is managed by {info.arbiter}, on {info.device_name}")

camera, image = models.residual_cnn(), models.image()
radar, echoes = models.transformer_encoder(), models.feature_tokens()
with torch.inference_mode():
    expected = camera(image), radar(echoes)

# Registered while still on the CPU; `example_inputs` measures what a pass costs.
see = rtswap.register(camera, name="camera", period_ms=3000, example_inputs=(image,), late="run")
hear = rtswap.register(radar, name="radar", period_ms=2000, example_inputs=(echoes,), late="run")
device = next(camera.parameters()).device
image, echoes = image.to(device), echoes.to(device)

with torch.inference_mode():
    for turn, looking in zip(range(3), see.jobs(), strict=False):  # a clock: every 3 seconds
        with looking:
            scores = camera(image)
        with hear.job() as listening:  # released now; its period is the minimum distance
            objects = radar(echoes)
        print(
            f"turn {turn}: camera restored {looking.restored_bytes / 1e6:.0f} MB and answered in "
            f"{looking.response_ms:.0f} ms, radar {listening.restored_bytes / 1e6:.0f} MB and "
            f"{listening.response_ms:.0f} ms"
        )

if device.type == "cpu":
    assert torch.equal(scores, expected[0])
    assert torch.equal(objects, expected[1])
    print("outputs equal those of the models before they were registered, bit for bit")
rtswap.disable()
