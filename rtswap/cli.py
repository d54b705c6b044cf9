"""The `rtswap` command, and the console entry that starts the daemon."""

from __future__ import annotations

import os
import signal
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="PyTorch models that do not fit one GPU together share it and keep their deadlines.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def demo(
    report: Annotated[
        Path | None, typer.Option(help="Leave report.json and timeline.png in this folder.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1.0, max=600.0, help="How long each of the two runs lasts.")
    ] = 12.0,
    quick: Annotated[bool, typer.Option(help="Shorter runs, fewer measurements.")] = False,
    strict: Annotated[bool, typer.Option(help="Missed deadlines fail, too.")] = False,
) -> None:
    """Four processes on a device too small for their models: naive swapping, then rtswap."""
    from rich.console import Console

    try:
        from rtswap.demo.play import Options, perform
    except ModuleNotFoundError as missing:
        if missing.name not in ("matplotlib", "numpy"):
            raise
        typer.echo(f"The demo needs {missing.name}: pip install 'rtswap[demo]'", err=True)
        raise typer.Exit(2) from None

    # Ended from outside, the daemon and the clients end too: their `with` blocks are left in order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = Options(seconds=seconds, quick=quick, strict=strict, report=report)
    raise typer.Exit(perform(options, Console(highlight=False, soft_wrap=True)))


@app.command()
def version() -> None:
    """Versions of rtswap, torch and the torch that the extension was built for."""
    import torch

    typer.echo(f"rtswap {installed_version('rtswap')}")
    typer.echo(f"torch {torch.__version__}")
    typer.echo(f"python {sys.version.split()[0]}")


def daemon_main() -> None:
    """Becomes rtswapd: the process, its arguments and its exit status are the daemon's own."""
    binary = Path(__file__).parent / "bin" / "rtswapd"
    if not binary.exists():
        sys.exit(f"{binary} does not exist: build it with `make build`, or install the wheel again")
    os.execv(binary, [str(binary), *sys.argv[1:]])


if __name__ == "__main__":
    app()
