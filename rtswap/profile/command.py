"""`rtswap profile`: measures with a progress line, writes the file, says what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from rtswap.errors import InvalidArgument
from rtswap.files import printing, writing
from rtswap.profile.file import Profile, profile_text
from rtswap.profile.measuring import Request, measure
from rtswap.profile.target import load_model, make_inputs
from rtswap.units import show_bytes


def run(
    target: str,
    shapes: Sequence[str],
    output: Path,
    passes: int,
    console: Console,
    *,
    simulate: bool,
) -> None:
    """``InvalidArgument`` for what cannot be measured or written."""
    if not output.parent.is_dir():  # found before minutes of measuring
        raise InvalidArgument(f"--output {output}: there is no folder {output.parent}.")
    if output.is_dir():
        raise InvalidArgument(f"--output {output} is a folder: name a file in it.")
    inputs = make_inputs(shapes)
    request = Request(load_model(target), inputs, target, shapes, passes, simulate)
    columns = TextColumn("{task.description}"), BarColumn()
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as bars:
        bar = bars.add_task("", total=None)

        def progress(what: str, done: int, steps: int) -> None:
            bars.update(bar, description=what, completed=done, total=steps)

        profile = measure(request, progress)
    with writing(output):
        output.write_text(profile_text(profile), encoding="utf-8")
    with printing():
        _print(profile, console)
        console.print(f"written: {escape(str(output))}")


def _print(profile: Profile, console: Console) -> None:
    console.print(
        f"[bold]{escape(profile.model)}[/bold] on {profile.device} ({profile.device_uuid})"
    )
    for name, value in _rows(profile):
        console.print(f"{name:<17} {value}")


def _rows(profile: Profile) -> list[tuple[str, str]]:
    slower = profile.beside_copies_median_ns / profile.alone_median_ns - 1
    rows = [
        (
            "memory",
            f"{show_bytes(profile.read_only_bytes)} read only, "
            f"{show_bytes(profile.mutable_bytes)} mutable",
        ),
        (
            "execution",
            f"{_ms(profile.alone_median_ns)} in the middle, {_ms(profile.alone_ns)} at worst; "
            f"beside copies {_ms(profile.beside_copies_median_ns)} in the middle ({slower:+.0%}), "
            f"{_ms(profile.beside_copies_ns)} at worst",
        ),
        ("declared cost", f"{_ms(profile.wcet_ns)} (margin {profile.margin:.2f})"),
        ("stretches", str(len(profile.stretches) or "none: needs all memory to begin")),
        (
            "link, worst",
            f"{_gb_per_s(profile.restore_bytes_per_s)} to the device, "
            f"{_gb_per_s(profile.restore_both_ways_bytes_per_s)} against copies back",
        ),
        (
            f"chunk of {show_bytes(profile.chunk_bytes)}",
            f"map {profile.map_ns / 1e3:.0f} us, unmap {profile.unmap_ns / 1e3:.0f} us",
        ),
    ]
    if profile.static_bytes:
        rows.append(
            (
                "beside the bank",
                f"{show_bytes(profile.static_bytes)}, of which activations "
                f"{show_bytes(profile.scratch_bytes)}",
            )
        )
    return rows


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.2f} ms"


def _gb_per_s(bytes_per_s: int) -> str:
    return f"{bytes_per_s / 1e9:.2f} GB/s"
