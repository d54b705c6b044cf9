"""Writes safetensors files, whole or broken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtswap.safetensors import _DTYPES

_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def write(path: Path, tensors: Mapping[str, Tensor], **header: Any) -> Path:
    """``header``: entries that replace or add to those of the tensors."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in tensors.items():
        content = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        table[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps({**table, **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_shards(folder: Path, tensors: Mapping[str, Tensor], count: int) -> Path:
    """``count`` files and their index, as Hugging Face lays them out."""
    names = list(tensors)
    places = {}
    for shard in range(count):
        file = f"model-{shard + 1:05}-of-{count:05}.safetensors"
        chosen = names[shard::count]
        write(folder / file, {name: tensors[name] for name in chosen})
        places |= dict.fromkeys(chosen, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index
