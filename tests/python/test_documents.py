"""What the documents show works: the example of README.md, plans in docs/planning.md, links."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import rtswap

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "bench").rglob("*.md")),
]


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    fenced = re.findall(r"^```([a-z]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [body for named, body in fenced if named == language]


def test_the_example_of_the_readme_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(tmp_path))  # no daemon there
    [example] = blocks("README.md", "python")
    # Times of a GPU: on a busy CPU the set would be refused, rightly.
    example = example.replace("period_ms=100, deadline_ms=80", "period_ms=60e3, deadline_ms=50e3")
    published: list[tuple[torch.Tensor, float]] = []
    names = {
        "build_detector": lambda: nn.Conv2d(3, 2, 16, stride=16),
        "publish": lambda boxes, response_ms: published.append((boxes, response_ms)),
    }
    try:
        exec(compile(example, "README.md", "exec"), names)
        message = SimpleNamespace(stamp_ns=time.time_ns(), image=torch.zeros(1, 3, 640, 640))
        names["on_image"](message)
        assert names["detector"].promise.state == "admitted"
    finally:
        rtswap.disable()
    [(boxes, response_ms)] = published
    assert boxes.shape == (1, 2, 40, 40)
    assert response_ms > 0


def plan(folder: Path, command: str) -> str:
    """What a command of the document says, in a folder with its task file."""
    [tasks] = blocks("docs/planning.md", "toml")
    (folder / "tasks.toml").write_text(tasks, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "rtswap", *command.split()[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode in (0, 1), result.stderr
    return result.stdout


def words(text: str) -> list[str]:
    """Without the lines of tables, and however it is wrapped."""
    return re.sub(r"[─━]", " ", text).split()


def test_the_plans_that_are_shown_are_those_that_are_made(tmp_path):
    shown = [block for block in blocks("docs/planning.md", "") if "$ rtswap plan" in block]
    assert len(shown) == 3
    for block in shown:
        command, _, answer = block.removeprefix("$ ").partition("\n")
        expected = words(answer)
        assert words(plan(tmp_path, command))[: len(expected)] == expected


def anchors(document: Path) -> set[str]:
    """Of its headings, as they are made from them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text)
    missing = []
    for path, anchor in links:
        if "://" in path:
            continue
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(f"{path}#{anchor}")
    assert not missing
