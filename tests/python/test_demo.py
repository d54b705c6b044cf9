"""The whole demo, short: real daemon, real processes, everything that may be asserted anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_quick_demo(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "rtswap", "demo", "--quick", "--report", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "140"},
        capture_output=True,
        text=True,
        timeout=260,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].startswith("Next: "), result.stdout
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")

    report = json.loads((tmp_path / "report.json").read_text())
    assert report["problems"] == []
    assert report["load"] <= 0.5
    assert report["models_bytes"] > 1.6 * report["bank_bytes"]
    for discipline in ("request-order", "edf"):
        tasks = report["disciplines"][discipline]["tasks"]
        assert {task["task"] for task in tasks} == {"camera", "signs", "radar", "scene"}
        for task in tasks:
            assert task["releases"] == task["met"] + task["missed"] + task["dropped"]
            assert task["releases"] > 0
            assert task["wrong"] == 0
        assert 0 < report["disciplines"][discipline]["resident_bytes_max"] <= report["bank_bytes"]
    # The same releases for both.
    first, second = (
        [(job["task"], job["index"]) for job in report["disciplines"][name]["jobs"]]
        for name in ("request-order", "edf")
    )
    assert first == second
    # Weights are never written back under rtswap, always under whole-model swapping.
    out = {
        name: sum(task["bytes_out"] for task in report["disciplines"][name]["tasks"])
        for name in ("request-order", "edf")
    }
    assert out["edf"] < out["request-order"] / 10
    assert report["replay"]["missed"] == report["replay"]["dropped"] == 0
    assert report["replay"]["released"] > 100
    assert report["live"]["killed"] == "signs"
    assert report["live"]["survivors_jobs"] > 0
    assert "scene" in report["live"]["refusal"] or "latecomer" in report["live"]["refusal"]


def test_make_demo_leaves_the_picture() -> None:
    plan = subprocess.run(
        ["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "rtswap demo --report demo-report" in plan.stdout
