"""Releases that come from outside: a camera's callback, a ROS timer, a message queue.

    python examples/camera_callbacks.py

The deadline counts from the stamp of the image, not from the moment the callback got to run. The
period is the minimum distance: images that come faster do not get earlier deadlines for it.
"""

import queue
import random
import threading
import time
from collections.abc import Callable

import models
import torch

import rtswap

IMAGES = 8


def camera(deliver: Callable[[int, torch.Tensor], None]) -> None:
    """Stands for a driver: its own thread, one callback per image, some jitter."""
    generator = random.Random(1)
    for number in range(IMAGES):
        stamp_ns = time.monotonic_ns()
        time.sleep(generator.uniform(0.0, 0.005))  # transport
        deliver(stamp_ns, models.image(seed=number))
        time.sleep(0.25 + generator.uniform(0.0, 0.05))


torch.set_num_threads(1)
rtswap.enable(embedded=True, budget="56MiB")
detector = models.residual_cnn()
task = rtswap.register(detector, name="detector", period_ms=250, deadline_ms=230, wcet_ms=90)
device = next(detector.parameters()).device
answers: queue.Queue[tuple[float, bool]] = queue.Queue()


def on_image(stamp_ns: int, image: torch.Tensor) -> None:
    """Runs in the camera's thread, as callbacks do."""
    try:
        with torch.inference_mode(), task.job(stamp_ns=stamp_ns) as job:
            scores = detector(image.to(device))
        print(f"image {job.index}: class {int(scores.argmax())}, {job.response_ms:.1f} ms old")
        answers.put((job.response_ms, job.met is True))
    except rtswap.JobDropped as dropped:
        print(f"image given up: {dropped}")  # nobody needs an answer that is too late
        answers.put((0.0, False))


thread = threading.Thread(target=camera, args=(on_image,))
thread.start()
thread.join()
assert answers.qsize() == IMAGES
print("in time:", sum(met for _, met in answers.queue), "of", IMAGES)
rtswap.disable()
