"""Whole processes: Ctrl-C, fork, exit, and what the extension shows to others."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

import rtswap
from rtswap import _build, _core

HERE = Path(__file__).parent


def start(program: str) -> subprocess.Popen[str]:
    paths = [str(HERE), str(Path(rtswap.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, f"exit {process.returncode}\n{out}\n{error}"
    assert "Traceback" not in error, error
    return out


SIMULATED = 'simulate="12MiB", link_bandwidth="4GB"'

PREAMBLE = """
import os, signal, sys, threading, time
import torch; torch.set_num_threads(1)
import rtswap
from models import cnn, transformer
rtswap.enable({arbiter})
torch.set_default_device(rtswap.info().device)
model, x = cnn()
task = rtswap.register(model)
"""


def program(body: str, arbiter: str = SIMULATED) -> str:
    """``arbiter``: the arguments of enable()."""
    return PREAMBLE.format(arbiter=arbiter) + textwrap.dedent(body)


def test_ctrl_c_ends_a_wait_and_gives_everything_back():
    process = start(
        program("""
        other, y = transformer()
        other_task = rtswap.register(other)
        leave, holding = threading.Event(), threading.Event()
        def hold():
            with other_task.job():
                holding.set()
                leave.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        holding.wait()
        print("waiting", flush=True)
        try:
            with task.job():
                print("entered")
        except KeyboardInterrupt:
            print("interrupted")
        leave.set()  # not before: without the interrupt the wait has no end
        thread.join()
        with task.job(timeout=30):
            model(x)
        print("done")
        """)
    )
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.5)  # inside the wait, most likely; at any other point the outcome is the same
    process.send_signal(signal.SIGINT)
    assert finish(process).split() == ["interrupted", "done"]


@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "rtswap.disable()",
        "job = task.job(); job.__enter__()",
        "threading.Thread(target=lambda: time.sleep(60), daemon=True).start()",
        "del model, task",
        "sys.exit(0)",
        "globals()['keep'] = model.layers[0].weight.detach()[0]",
    ],
)
def test_the_interpreter_exits_cleanly(ending):
    finish(start(program(f"with task.job():\n    model(x)\n{ending}\n")))


FORKED = """
with task.job():
    expected = model.eval()(x)
child = os.fork()
if child == 0:
    refused = 0
    weight = model.layers[0].weight
    for call in (task.job, rtswap.info, weight.sum, task.stats):
        try:
            call()
        except RuntimeError as error:
            refused += 1
    os._exit(refused)
print("child refused", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with task.job():
    assert torch.equal(model(x), expected)
"""


def test_a_forked_child_is_refused_and_the_parent_goes_on():
    assert "child refused 4" in finish(start(program(FORKED)))


def test_only_the_module_and_the_c_functions_are_exported():
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", _core.__file__], capture_output=True, text=True, check=True
    ).stdout
    exported = {line.split()[-1] for line in listing.splitlines()}
    assert exported == {"PyInit__core", "rtswap_region_alloc", "rtswap_region_free"}


def test_the_extension_names_its_own_file():
    assert Path(_core.library_path()).samefile(_core.__file__)


def test_another_torch_is_refused_before_the_extension_is_loaded():
    path = _build.extension_path()
    assert path is not None
    assert _build.built_for(path) == torch.__version__
    _build.check(torch.__version__)
    with pytest.raises(ImportError, match=r"1\.0\.0.*[Rr]ebuild"):
        _build.check("1.0.0")


def test_simulate_replays_a_set_in_virtual_time():
    task = {
        "name": "a",
        "period_ns": 500_000_000,
        "wcet_ns": 10_000_000,
        "arena_chunks": 4,
    }
    config = {
        "chunk_count": 6,
        "bytes_per_s": 10**9,
        "chunk_cost_ns": 100_000,
        "horizon_ns": 10 * 10**9,
        "keep_trace": True,
    }
    report = _core.simulate(config, [task, {**task, "name": "b"}])
    assert [t["state"] for t in report["tasks"]] == ["admitted", "admitted"]
    assert all(t["released"] >= 19 and t["missed"] == 0 for t in report["tasks"])
    assert report["violations"] == []
    assert {event["kind"] for event in report["trace"]} >= {"released", "run_begin", "run_end"}
    with pytest.raises(rtswap.InvalidArgument, match="speed"):
        _core.simulate({**config, "speed": 1}, [task])


def test_the_stub_names_what_the_extension_has():
    stub = ast.parse(Path(_core.__file__).with_name("_core.pyi").read_text())
    declared, present = names_in(stub.body), public(_core)
    assert declared == present
    for entry in stub.body:
        if isinstance(entry, ast.ClassDef):
            assert names_in(entry.body) == public(getattr(_core, entry.name)), entry.name


def names_in(body: list[ast.stmt]) -> set[str]:
    names = {entry.name for entry in body if isinstance(entry, ast.ClassDef | ast.FunctionDef)}
    names |= {entry.target.id for entry in body if isinstance(entry, ast.AnnAssign)}
    return {name for name in names if not name.startswith("_")}


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}
