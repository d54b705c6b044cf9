"""One model, two duties: a fast one and a slow one share its memory but not their deadlines.

python examples/shared_model.py
"""

import torch

import rtswap
from rtswap.demo import models

torch.set_num_threads(1)
rtswap.enable(embedded=True, budget="56MiB")

encoder = models.transformer_encoder()
track = rtswap.register(
    encoder, name="track", period_ms=300, deadline_ms=250, wcet_ms=60, late="run"
)
survey = track.share(name="survey", period_ms=1200, wcet_ms=90, late="run")
device = next(encoder.parameters()).device
few, many = (models.feature_tokens(length=length).to(device) for length in (16, 64))

with torch.inference_mode():
    with track.job() as first:
        encoder(few)
    with survey.job() as second:
        encoder(many)
print(f"track restored {first.restored_bytes / 1e6:.0f} MB, survey none of it again:")
print(f"  {second.restored_bytes} bytes, answered in {second.response_ms:.1f} ms")
assert second.restored_bytes == 0

# Duties change while the program runs; what admission cannot promise, it refuses.
track.set_period(period_ms=400)
survey.pause()
survey.resume()
try:
    survey.set_period(period_ms=5)
except (rtswap.AdmissionRefused, rtswap.InvalidArgument) as refused:
    print(f"a period of 5 ms is refused, the old one stays: {refused}")
rtswap.disable()
