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
    contents = []
    end = 0
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().view(-1)
        contents.append(flat.view(torch.uint8).numpy().tobytes())
        begin, end = end, end + len(contents[-1])
        table[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps({**table, **header}).encode()
    path.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *contents]))
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
