"""The model of benchmarks that need a size and a cost, and no meaning."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def stack(width: int, layers: int, batch: int) -> tuple[nn.Module, Tensor]:
    """Equal linear layers and an input, both on the CPU."""
    # The same random weights in each layer: drawing gigabytes of them takes longer than a run.
    weight = torch.randn(width, width) / width**0.5
    with torch.device("meta"):
        equal = [nn.Linear(width, width, bias=False) for _ in range(layers)]
    model = nn.Sequential(*equal).to_empty(device="cpu").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(weight)
    return model, torch.randn(batch, width)
