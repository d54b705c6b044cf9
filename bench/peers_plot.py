"""What `bench.peers` found, as a picture.

python -m bench.peers_plot bench/results/NAME.json docs/images/peers.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.schedulability.plots import INK, QUIET

# From the bottom up. Without its backup torch_memory_saver brings no contents back: left out.
NAMES = {
    "to": '.to("cuda"), .to("cpu")',
    "torch_memory_saver": "torch_memory_saver\nwith CPU backup",
    "comfy_aimdo": "comfy-aimdo,\nnothing written back",
    "rtswap, mutable": "rtswap, mutable",
    "rtswap, read_only": "rtswap, read_only",
}
OURS, OTHERS, RAW = "#0072B2", "#B9BEC6", "#D55E00"


def draw_panel(axis: Axes, rows: dict[str, dict[str, Any]], key: str, raw_key: str) -> None:
    names = [name for name in NAMES if name in rows]
    times_ms = [rows[name][key] for name in names]
    colors = [OURS if name.startswith("rtswap") else OTHERS for name in names]
    bars = axis.barh([NAMES[name] for name in names], times_ms, color=colors, height=0.62)
    labels = [f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" for ms in times_ms]
    axis.bar_label(bars, labels, padding=5, fontsize=9, color=INK)
    raw_ms = median(row[raw_key] for row in rows.values() if raw_key in row)
    axis.axvline(raw_ms, color=RAW, linestyle="--", linewidth=1.2)
    axis.tick_params(colors=INK, labelsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["bottom", "left"]].set_color(QUIET)


def draw(document: dict[str, Any], picture: Path) -> None:
    rows = [row for row in document["rows"] if "failed" not in row]
    sizes = sorted({row["bytes"] for row in rows}, reverse=True)
    figure, axes = pyplot.subplots(
        2, len(sizes), figsize=(10, 5.6), sharey=True, squeeze=False, layout="constrained"
    )
    for (back, away), size in zip(axes.T, sizes, strict=True):
        of_size = {row["system"]: row for row in rows if row["bytes"] == size}
        shown = f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
        draw_panel(back, of_size, "back_ms", "raw_in_ms")
        back.set_title(f"{shown} back on the GPU, ms", loc="left", fontsize=11, color=INK)
        draw_panel(away, of_size, "out_ms", "raw_out_ms")
        away.set_xscale("log")
        away.xaxis.set_major_formatter("{x:g}")
        away.set_title(f"{shown} away, ms, logarithmic", loc="left", fontsize=11, color=INK)
        back.set_xlim(right=back.get_xlim()[1] * 1.05)  # the figures beside the bars
        away.set_xlim(right=away.get_xlim()[1] * 2)
    machine = document["machine"]
    caption = f"{machine['gpu']}, torch {machine['torch']}, {machine['date'][:10]}; medians"
    figure.supxlabel(f"Dashed: one raw pinned copy. {caption}.", fontsize=9, color=INK)
    figure.savefig(picture, dpi=100, facecolor="white")


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
