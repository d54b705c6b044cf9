"""The `rtswap` command, and the console entry that starts the daemon."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version as installed_version
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    help="PyTorch models that do not fit one GPU together share it and keep their deadlines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # what a user's model raises is shown as Python shows it
)


def _console() -> Console:
    from rich.console import Console  # takes long to import

    return Console(highlight=False, soft_wrap=True)


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
    with _usage_errors():
        raise typer.Exit(perform(options, _console()))


def _png(path: Path | None) -> Path | None:
    if path and path.suffix.lower() != ".png":
        raise typer.BadParameter(f"{path} is not called .png, and nothing else is written")
    return path


Tasks = Annotated[Path, typer.Argument(help="Task file (TOML), as rtswapd --tasks takes it.")]
Budget = Annotated[str, typer.Option(help="Device memory for models: 16GiB.")]
LinkSpeed = Annotated[
    str | None,
    typer.Option(
        "--link",
        help="Host to device, the worst: 24GB/s, 12.5GiB/s. Default: the profiles' slowest.",
    ),
]
Chunk = Annotated[str | None, typer.Option(help="Unit of memory (default: by budget).")]
Plot = Annotated[Path | None, typer.Option(help="Write a PNG.", callback=_png)]


@contextmanager
def _usage_errors() -> Iterator[None]:
    """What is wrong with arguments, files or the model is said in one line, with status 2."""
    from rtswap.errors import Error

    try:
        yield
    except Error as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        typer.echo("--plot needs matplotlib: pip install 'rtswap[demo]'", err=True)
        raise typer.Exit(2) from None
    except BrokenPipeError:  # nobody reads any more, which typer handles
        raise
    except OSError as error:
        named = error.filename and error.strerror
        typer.echo(f"{error.filename}: {error.strerror}" if named else str(error), err=True)
        raise typer.Exit(2) from None


@app.command()
def plan(
    tasks: Tasks,
    budget: Budget,
    link: LinkSpeed = None,
    chunk: Chunk = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Plot = None,
) -> None:
    """Would these tasks be promised their deadlines? Exit status 0: yes, 1: no."""
    from rtswap.files import printing, writing
    from rtswap.offline.device import parse_device
    from rtswap.offline.plan import make_plan, why_no_curve
    from rtswap.offline.tables import print_plan
    from rtswap.offline.task_file import measured_link, read_task_file

    with _usage_errors():
        specs = read_task_file(tasks)
        answer = make_plan(specs, parse_device(budget, link, chunk, measured_link(specs)))
        if plot and not (nothing_to_draw := why_no_curve(answer)):
            from rtswap.offline.picture import draw_demand

            with writing(plot):
                draw_demand(answer, plot)
        with printing():
            if json:
                typer.echo(dumps(answer.as_json(), indent=2))
            else:
                print_plan(answer, _console())
    if plot and nothing_to_draw:
        typer.echo(f"{plot} is not written: {nothing_to_draw}", err=True)
    raise typer.Exit(0 if answer.admitted else 1)


@app.command()
def simulate(
    tasks: Tasks,
    budget: Budget,
    link: LinkSpeed = None,
    chunk: Chunk = None,
    horizon: Annotated[str, typer.Option(help="How long jobs are released: 60s, 500ms.")] = "60s",
    seed: Annotated[
        int, typer.Option(min=0, max=2**64 - 1, help="Equal seeds give equal runs.")
    ] = 1,
    variation: Annotated[
        float, typer.Option(min=0, max=1, help="Jobs take between (1 - this) of their cost and it.")
    ] = 0.0,
    jitter: Annotated[
        str, typer.Option(help="Releases come up to this much after their instants.")
    ] = "0ms",
    faults: Annotated[
        float, typer.Option(min=0, help="Expected crashes, lost links, ... of each kind a second.")
    ] = 0.0,
    plot: Plot = None,
) -> None:
    """The arbiter in virtual time with these tasks. Exit status 0: all were promised, and kept."""
    from rtswap.files import printing, writing
    from rtswap.offline.device import parse_device
    from rtswap.offline.simulate import Course, draw_timeline
    from rtswap.offline.simulate import simulate as run
    from rtswap.offline.tables import print_simulation
    from rtswap.offline.task_file import measured_link, read_task_file
    from rtswap.units import parse_duration_ns

    with _usage_errors():
        horizon_ns = parse_duration_ns(horizon, "--horizon")
        course = Course(horizon_ns, seed, variation, parse_duration_ns(jitter, "--jitter"), faults)
        specs = read_task_file(tasks)
        device = parse_device(budget, link, chunk, measured_link(specs))
        report = run(specs, device, course)
        if plot:
            with writing(plot):
                draw_timeline(report, horizon_ns, plot)
        with printing():
            print_simulation(report, _console())
    raise typer.Exit(0 if report.kept and not report.refused else 1)


@app.command()
def profile(
    target: Annotated[
        str, typer.Argument(help="module:factory, called without arguments; also of this folder.")
    ],
    input: Annotated[
        list[str] | None,
        typer.Option(help="Shape of a positional input: 1x3x640x640, 8x384:int64. Repeat it."),
    ] = None,
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("profile.toml"),
    passes: Annotated[int, typer.Option(min=1, help="Alone, and as many beside copies.")] = 20,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="A simulated device, even where there is a GPU.")
    ] = False,
) -> None:
    """Measures a model on this machine, for task files and `register(profile=)`."""
    from rtswap.profile.command import run

    with _usage_errors():
        console = _console()
        run(target, input or [], output, passes, console, simulate=simulate)


@app.command()
def top(
    socket: Annotated[
        str | None, typer.Option(help="Of the daemon (default: RTSWAP_SOCKET, else the usual one).")
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One look, then end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One look, as one JSON object.")] = False,
) -> None:
    """What a daemon does now: who holds the device and memory, deadlines met and missed."""
    from rtswap.errors import DaemonUnavailable
    from rtswap.files import printing
    from rtswap.top import Observer, tables, watch

    console = _console()
    with _usage_errors():
        try:
            observer = Observer(socket)
            with printing():
                if json:
                    typer.echo(dumps(asdict(observer.look()), indent=2))
                elif once:
                    console.print(tables(observer.look()))
                else:
                    watch(observer.look, console, every)
        except DaemonUnavailable as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(0) from None


@app.command()
def trace(
    file: Annotated[Path, typer.Argument(help="What `rtswapd --trace FILE` has written.")],
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("trace.json"),
) -> None:
    """A daemon's trace as a file for Perfetto (ui.perfetto.dev): tasks and link on a time axis."""
    from rtswap.files import printing, writing
    from rtswap.perfetto import convert
    from rtswap.timeline import load

    with _usage_errors():
        converted = convert(load(file))
        with writing(output):
            output.write_text(dumps(converted) + "\n", encoding="utf-8")
        with printing():
            typer.echo(f"{output}: open it in https://ui.perfetto.dev")


@app.command(name="import-rtswap")
def import_rtswap(
    configuration: Annotated[Path, typer.Argument(help="RT-Swap's rtswap_cfg.txt.")],
) -> None:
    """Prints RT-Swap's configuration as a task file; costs have to be added."""
    from rtswap.files import printing
    from rtswap.offline.rtswap_cfg import import_rtswap_cfg

    with _usage_errors():
        text = import_rtswap_cfg(configuration)
        with printing():
            typer.echo(text, nl=False)


@app.command()
def version() -> None:
    """Versions of rtswap, torch and the torch that the extension was built for."""
    import torch

    from rtswap import _build
    from rtswap.files import printing

    extension = _build.extension_path()
    built_for = _build.built_for(extension) if extension else "unknown"
    with _usage_errors(), printing():
        typer.echo(f"rtswap {installed_version('rtswap')}")
        typer.echo(f"torch {torch.__version__} (rtswap was built for {built_for})")
        typer.echo(f"python {sys.version.split()[0]}")


def daemon_main() -> None:
    """Becomes rtswapd: the process, its arguments and its exit status are the daemon's own."""
    binary = Path(__file__).parent / "bin" / "rtswapd"
    if not binary.exists():
        sys.exit(f"{binary} does not exist: build it with `make build`, or install the wheel again")
    os.execv(binary, [str(binary), *sys.argv[1:]])
