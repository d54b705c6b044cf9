"""Small models of the kinds that move differently: buffers, ties, flattened weights."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Cnn(nn.Module):
    """Convolutions and batch norm: in train mode its buffers change at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 96, 3, padding=1),
            nn.BatchNorm2d(96),
            nn.ReLU(),
            nn.Conv2d(96, 384, 3, stride=2),
            nn.BatchNorm2d(384),
            nn.ReLU(),
            nn.Conv2d(384, 384, 3, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class TiedTransformer(nn.Module):
    """Embedding and output layer share one storage."""

    def __init__(self, vocabulary: int = 1024, width: int = 128) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        layer = nn.TransformerEncoderLayer(width, 4, 512, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.head(self.encoder(self.embed(tokens)))
        return y


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(128, 384, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0]
        return y


def cnn() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    return Cnn().train(), torch.randn(1, 3, 8, 8)


def transformer() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(2)
    return TiedTransformer().eval(), torch.randint(0, 1024, (1, 8))


def recurrent() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    return Recurrent().eval(), torch.randn(1, 4, 128)


ALL: tuple[Callable[[], tuple[nn.Module, Tensor]], ...] = (cnn, transformer, recurrent)


def twin(model: nn.Module) -> nn.Module:
    """An unswapped model with the same bytes."""
    return copy.deepcopy(model)


def same_state(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )
