"""torchvision, also where its wheel was built for another torch.

The wheels of the public index are built for CUDA: beside a torch for CPUs their operators do not
load, and without them torchvision does not import. The two that a detector needs are then replaced
here, in Python; everything else is torchvision's own.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor


def import_torchvision() -> ModuleType:
    """Skips the test where there is none."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        pytest.skip("needs torchvision")
    operators = next(Path(spec.origin).parent.glob("_C*.so"))
    try:
        torch.ops.load_library(operators)
    except OSError:
        return _with_own_operators()
    return importlib.import_module("torchvision")


def _with_own_operators() -> ModuleType:
    if not hasattr(torch.ops.torchvision, "nms"):
        for name in ("nms", "qnms"):  # torchvision describes both to torch.export
            torch.library.define(
                f"torchvision::{name}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )
        torch.library.impl("torchvision::nms", "cpu", _nms)
    torchvision = importlib.import_module("torchvision")
    boxes = importlib.import_module("torchvision.ops.boxes")
    pooling = importlib.import_module("torchvision.ops.roi_align")
    boxes._assert_has_ops = lambda: None
    # The one written in Python, without compiling it.
    pooling._roi_align = getattr(pooling._roi_align, "__wrapped__", pooling._roi_align)
    return torchvision


def _nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes to keep: each suppresses those of lower score that overlap it."""
    area = (dets[:, 2:] - dets[:, :2]).prod(1)
    left = scores.argsort(descending=True, stable=True)
    kept = []
    while left.numel():
        first, left = left[0], left[1:]
        kept.append(first)
        overlap = torch.minimum(dets[left, 2:], dets[first, 2:])
        overlap = (overlap - torch.maximum(dets[left, :2], dets[first, :2])).clamp(min=0).prod(1)
        left = left[overlap <= iou_threshold * (area[left] + area[first] - overlap)]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long)
