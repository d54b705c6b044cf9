"""Seeded models for tests and benchmarks, by name. Weights are made on the CPU."""

from __future__ import annotations

import torch
from torch import nn


class TiedLanguageModel(nn.Module):
    """A small decoder whose output layer shares the embedding's weight."""

    def __init__(self, vocabulary: int, width: int, layers: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, 0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of shape (batch, length, vocabulary)."""
        return self.head(self.layers(self.embedding(tokens)))


class Recurrent(nn.Module):
    """Two LSTM layers (flattened weights) and a linear head."""

    def __init__(self, width: int):
        super().__init__()
        self.lstm = nn.LSTM(width, width, 2, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of shape (batch, 10) from the last step."""
        return self.head(self.lstm(x)[0][:, -1])


def _residual_block(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
    )


class ResidualNet(nn.Module):
    """A residual CNN with batch normalisation; running statistics are not trivial."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 7, stride=4, padding=3)
        self.blocks = nn.ModuleList(_residual_block(width) for _ in range(blocks))
        self.head = nn.Linear(width, 100)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of shape (batch, 100)."""
        x = self.stem(x)
        for block in self.blocks:
            x = torch.relu(x + 0.1 * block(x))
        return self.head(x.mean((2, 3)))


def _encoder(width: int, layers: int, dtype: torch.dtype) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, 16, 4 * width, 0.0, batch_first=True, dtype=dtype)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


class Half(nn.Module):
    """One layer. In train mode it counts its calls, and what it returns depends on the count."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as ``x``, on the device of the layer."""
        x = x.to(self.linear.weight.device)
        if self.training:
            self.calls += 1
        return torch.tanh(self.linear(x)) + self.calls


class Spread(nn.Module):
    """Two halves that may lie on different devices."""

    def __init__(self, width: int):
        super().__init__()
        self.encoder = Half(width)
        self.decoder = Half(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as ``x``, on the decoder's device."""
        return self.decoder(self.encoder(x))


def build(name: str, seed: int = 0, batch: int = 1) -> tuple[nn.Module, torch.Tensor]:
    """A model and an input for it, both on the CPU."""
    torch.manual_seed(seed)
    match name:
        case "cnn":
            return ResidualNet(256, 16), torch.randn(batch, 3, 128, 128)
        case "language":
            return TiedLanguageModel(16000, 1024, 8), torch.randint(0, 16000, (batch, 64))
        case "lstm":
            return Recurrent(1024), torch.randn(batch, 16, 1024)
        case "encoder_4gb":
            return _encoder(4096, 11, torch.bfloat16), torch.randn(batch, 128, 4096).bfloat16()
        case "encoder_24":
            return _encoder(1024, 24, torch.bfloat16), torch.randn(batch, 128, 1024).bfloat16()
        case "spread":
            return Spread(8192), torch.randn(batch, 8192)
        case "spread_8gb":
            return Spread(32768), torch.randn(batch, 32768)
        case "small":
            return ResidualNet(160, 4), torch.randn(batch, 3, 64, 64)
        case "tiny":
            return ResidualNet(32, 2), torch.randn(batch, 3, 64, 64)
        case _:
            raise ValueError(f"no model named {name!r}")
