"""Breaks one rule at a time in a copy of the sources and checks that a test notices.

    python -m tests.mutation.run [--only TEXT] [--folder FOLDER]

Takes minutes (each rule is a build), so it is no part of `make test`: run it after changes of
csrc/policy, csrc/arbiter or their tests. Exit status 1: a broken rule went unnoticed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.mutation.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
# Of the time that a binary takes by itself: more is a test that never ends.
LIMIT_FACTOR = 10


def prepare(copy: Path) -> Path:
    """A copy of what the tests are built from, configured; kept between runs for its objects."""
    copy.mkdir(parents=True, exist_ok=True)
    for name in ("csrc", "tests", "cmake", "proto", "bench"):
        shutil.rmtree(copy / name, ignore_errors=True)
        # New times: objects of a mutated file must not survive.
        shutil.copytree(ROOT / name, copy / name, copy_function=shutil.copy)
    shutil.copy(ROOT / "CMakeLists.txt", copy)
    build = copy / "build"
    subprocess.run(
        ["cmake", "-S", copy, "-B", build, "-G", "Ninja", "-DRTSWAP_WITH_GRPC=OFF"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return build


def compile_tests(build: Path, binaries: tuple[str, ...]) -> None:
    """A build that fails is no test."""
    done = subprocess.run(
        ["ninja", "-C", build, "-j2", *binaries], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"the sources do not build:\n{done.stdout[-3000:]}")


def limits(build: Path, binaries: tuple[str, ...]) -> dict[str, float]:
    """Seconds that each binary may take; all of them pass."""
    compile_tests(build, binaries)
    limits_s: dict[str, float] = {}
    for binary in binaries:
        begin = time.monotonic()
        done = subprocess.run([build / binary, "--abort"], capture_output=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{binary} fails without any mutation")
        limits_s[binary] = LIMIT_FACTOR * (time.monotonic() - begin) + 10
    return limits_s


def noticed_by(build: Path, binaries: tuple[str, ...], limits_s: dict[str, float]) -> str | None:
    """The first binary that fails."""
    compile_tests(build, binaries)
    for binary in binaries:
        try:
            done = subprocess.run(
                [build / binary, "--abort"],
                capture_output=True,
                timeout=limits_s[binary],
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{binary} (never ends)"
        if done.returncode != 0:
            return binary
    return None


def apply(copy: Path, mutation: Mutation) -> None:
    path = copy / mutation.file
    text = path.read_text()
    if text.count(mutation.old) != 1:
        sys.exit(f"{mutation.file} has changed: update the mutation '{mutation.rule}'")
    path.write_text(text.replace(mutation.old, mutation.new))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutations whose rule contains this")
    parser.add_argument("--folder", type=Path, default=ROOT / "build-mutation")
    arguments = parser.parse_args()
    build = prepare(arguments.folder)
    every = tuple(sorted({binary for mutation in MUTATIONS for binary in mutation.caught_by}))
    limits_s = limits(build, every)
    unnoticed = 0
    for mutation in MUTATIONS:
        if arguments.only not in mutation.rule:
            continue
        apply(arguments.folder, mutation)
        catcher = noticed_by(build, mutation.caught_by, limits_s)
        shutil.copy(ROOT / mutation.file, arguments.folder / mutation.file)
        print(
            f"{'caught by ' + catcher if catcher else 'NOT CAUGHT':32} {mutation.rule}", flush=True
        )
        unnoticed += catcher is None
    print(f"{unnoticed} unnoticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
