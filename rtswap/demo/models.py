"""Models for the examples and the demo: real layers, seeded weights, a size to choose.

Three families that load a device differently: a convolutional network is small and computes a lot
per byte of weights, a transformer encoder reads every byte for a few tokens, a decoder does so
again for every token it makes. All weights come from the seed, so that two processes build the
same model bit for bit and outputs can be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a skip connection, as in ResNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(x + self.norm2(self.conv2(y)))


class ResidualCNN(nn.Module):
    """Image classifier: stem, `blocks` residual blocks of one width, global pooling, head."""

    def __init__(self, width: int, blocks: int, classes: int = 100) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, stride=4, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        features = self.blocks(self.stem(image))
        scores: Tensor = self.head(features.mean(dim=(2, 3)))
        return scores


class TransformerEncoder(nn.Module):
    """Encoder over feature vectors, such as radar returns or detected objects."""

    def __init__(self, width: int, layers: int, heads: int = 8, outputs: int = 64) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        answer: Tensor = self.head(self.encoder(tokens).mean(dim=1))
        return answer


class SmallDecoder(nn.Module):
    """Causal language model whose output layer is tied to its embedding."""

    def __init__(self, width: int, layers: int, vocabulary: int = 4096, context: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(context, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, 8, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.output = nn.Linear(width, vocabulary, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device)
        x = self.embedding(tokens) + self.position[:length]
        scores: Tensor = self.output(self.layers(x, mask=mask, is_causal=True))
        return scores


def residual_cnn(width: int = 256, blocks: int = 8, seed: int = 0) -> ResidualCNN:
    """About 72 * width**2 * blocks bytes of weights; 256 and 8 make 38 MB."""
    torch.manual_seed(seed)
    return ResidualCNN(width, blocks).eval()


def transformer_encoder(width: int = 512, layers: int = 3, seed: int = 0) -> TransformerEncoder:
    """About 48 * width**2 * layers bytes of weights; 512 and 3 make 38 MB."""
    torch.manual_seed(seed)
    return TransformerEncoder(width, layers).eval()


def small_decoder(width: int = 256, layers: int = 4, seed: int = 0) -> SmallDecoder:
    """About 48 * width**2 * layers bytes plus 16 KiB * width of embedding."""
    torch.manual_seed(seed)
    return SmallDecoder(width, layers).eval()


def image(size: int = 64, seed: int = 0) -> Tensor:
    """One RGB image as a batch of one."""
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def feature_tokens(width: int = 512, length: int = 32, seed: int = 0) -> Tensor:
    """A sequence of feature vectors as a batch of one."""
    return torch.randn(1, length, width, generator=torch.Generator().manual_seed(seed))


def word_tokens(length: int = 16, vocabulary: int = 4096, seed: int = 0) -> Tensor:
    """A sequence of token ids as a batch of one."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocabulary, (1, length), generator=generator)
