"""Measures the models that bench/schedulability draws its sets from, and writes their table.

    python -m bench.measure_profiles --name "H200, PCIe Gen5" --output bench/profiles/h200.json

Needs a GPU with about 20 GB free, torchvision and transformers. Weights are random: what is
measured depends on shapes, not on what a model says.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torchvision
import transformers
from torch import Tensor, nn

from bench.machine import describe_machine
from rtswap.profile.file import Profile
from rtswap.profile.measuring import Request, measure

PASSES = 20


@dataclass(frozen=True)
class Case:
    """One model of the table, built on the meta device, and its inputs on the CPU."""

    name: str
    family: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    dtype: torch.dtype


def _image(side: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(1, 3, side, side)


def _tokens(batch: int, length: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(0, 1000, (batch, length))


def _vit_h() -> nn.Module:
    model: nn.Module = torchvision.models.vit_h_14(image_size=518)
    return model


def _bert_large() -> nn.Module:
    config = transformers.BertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    )
    return transformers.BertModel(config)


def _llama(layers: int, width: int, inner: int, heads: int, shared: int, words: int) -> nn.Module:
    config = transformers.LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        vocab_size=words,
        use_cache=False,
    )
    return transformers.LlamaForCausalLM(config)


CASES = (
    Case("ResNet-50 640x640", "vision", torchvision.models.resnet50, _image(640), torch.float32),
    Case("ConvNeXt-L 640x640", "vision", torchvision.models.convnext_large, _image(640),
         torch.float32),
    Case("ViT-H 518x518", "vision", _vit_h, _image(518), torch.float32),
    Case("VGG-19", "vision", torchvision.models.vgg19, _image(224), torch.float32),
    Case("BERT-L 8x384", "language", _bert_large, _tokens(8, 384), torch.float16),
    Case("Llama-1B 512", "language", lambda: _llama(22, 2048, 5632, 32, 4, 32000),
         _tokens(1, 512), torch.float16),
    Case("Llama-8B 2048", "language", lambda: _llama(32, 4096, 14336, 32, 8, 128256),
         _tokens(1, 2048), torch.float16),
)  # fmt: skip


def materialise(case: Case) -> nn.Module:
    """The model on the CPU, filled from a small pool of random numbers: to draw gigabytes of them
    would take longer than all measurements."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(case.dtype)
    try:
        with torch.device("meta"):
            model = case.build()
    finally:
        torch.set_default_dtype(before)
    model = model.to_empty(device="cpu").eval()
    pool = torch.randn(1 << 22).to(case.dtype) * 0.02
    with torch.no_grad():
        for parameter in model.parameters():
            for part in torch.split(parameter.view(-1), pool.numel()):
                part.copy_(pool[: part.numel()])
        for buffer in model.buffers():  # variances, positions: whatever is valid for all of them
            buffer.fill_(1 if buffer.is_floating_point() else 0)
    return model


def profile(case: Case) -> Profile:
    model = materialise(case)
    inputs = case.inputs()
    if inputs.is_floating_point():
        inputs = inputs.to(case.dtype)
    request = Request(
        model=model,
        inputs=(inputs,),
        target=case.name,
        shapes=("x".join(map(str, inputs.shape)),),
        passes=PASSES,
        simulate=False,
    )
    return measure(request, lambda what, done, of: None)


def entry(case: Case, found: Profile) -> dict[str, Any]:
    """One model of the table: medians of passes alone, since a table is not a promise."""
    alone_ns = found.alone_median_ns
    measured_ns = sum(stretch.execution_ns for stretch in found.stretches) or 1
    stretches = [
        [stretch.bytes / 1e6, round(stretch.execution_ns * alone_ns / measured_ns / 1e6, 4)]
        for stretch in found.stretches
    ] or [[found.size_bytes / 1e6, alone_ns / 1e6]]
    return {
        "name": case.name,
        "family": case.family,
        "weights_mb": found.size_bytes / 1e6,
        "execution_ms": alone_ns / 1e6,
        "worst_ms": found.alone_ns / 1e6,
        "beside_copies_ms": found.beside_copies_median_ns / 1e6,
        "chunk_bytes": found.chunk_bytes,
        "link_bytes_per_s": found.restore_bytes_per_s,
        "map_us": found.map_ns / 1e3,
        "unmap_us": found.unmap_ns / 1e3,
        "stretches": stretches,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="of the table")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", help="models whose names contain this")
    arguments = parser.parse_args()

    entries: list[dict[str, Any]] = []
    links: list[Profile] = []
    for case in CASES:
        if arguments.only and arguments.only not in case.name:
            continue
        found = profile(case)
        links.append(found)
        entries.append(entry(case, found))
        shown = {key: value for key, value in entries[-1].items() if key != "stretches"}
        print(json.dumps(shown | {"stretches": len(found.stretches)}), flush=True)
        write_table(arguments.output, arguments.name, links, entries)  # a run may be cut short


def write_table(
    output: Path, name: str, links: list[Profile], entries: list[dict[str, Any]]
) -> None:
    slowdowns = [profile.beside_copies_median_ns / profile.alone_median_ns for profile in links]
    table = {
        "name": name,
        "machine": f"{links[0].device}, {links[0].host}",
        "origin": "measured",
        "notes": [
            "Executions are medians of 20 passes alone, with all memory there, one at a time.",
            "Stretches are measured: what part of the execution needs how much of the memory.",
            "The link: before each model the slowest of some copies, and of these the median.",
            "The slowdown: of each model the ratio of the medians beside copies and alone, and of "
            "these the median. A model that waits for the host has a large one.",
        ],
        "link_bytes_per_s": round(median(profile.restore_bytes_per_s for profile in links)),
        "slowdown_beside_copy": round(max(1.0, median(slowdowns)), 3),
        "measured": describe_machine(),
        "models": entries,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
