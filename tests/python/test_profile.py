"""Profiles: the file, what it means for chunks of other sizes, and measuring one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import rtswap
from rtswap.cli import app
from rtswap.errors import InvalidArgument
from rtswap.offline.device import Device
from rtswap.offline.plan import make_plan
from rtswap.offline.simulate import Course, simulate
from rtswap.offline.task_file import read_task_file
from rtswap.profile.file import (
    Profile,
    Stretch,
    first_bytes,
    first_chunks,
    profile_text,
    read_profile,
)
from rtswap.profile.target import load_model, make_inputs

MIB = 1 << 20

PROFILE = Profile(
    model="models:detector",
    inputs="1x3x64x64",
    read_only_bytes=40 * MIB,
    mutable_bytes=3 * MIB,
    passes=20,
    alone_ns=10_000_000,
    alone_median_ns=9_000_000,
    beside_copies_ns=11_000_000,
    beside_copies_median_ns=9_500_000,
    margin=1.2,
    scratch_bytes=0,
    static_bytes=0,
    device="simulated device",
    device_uuid="SIM-1",
    restore_bytes_per_s=10**9,
    evict_bytes_per_s=10**9,
    restore_both_ways_bytes_per_s=9 * 10**8,
    evict_both_ways_bytes_per_s=9 * 10**8,
    chunk_bytes=2 * MIB,
    map_ns=30_000,
    unmap_ns=40_000,
    host="Linux",
    torch="2.13",
    rtswap="0.1",
    date="2026-11-27",
    stretches=(
        Stretch(2 * MIB, 1_000_000),
        Stretch(4 * MIB, 2_000_000),
        Stretch(5 * MIB, 3_000_000),
        Stretch(43 * MIB, 4_000_000),
    ),
)


def write(folder: Path, text: str) -> Path:
    path = folder / "profile.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for profile in (PROFILE, replace(PROFILE, stretches=(), model='a "name"\\')):
        assert read_profile(write(tmp_path, profile_text(profile))) == profile


def test_the_declared_cost_has_a_margin_on_the_worst() -> None:
    assert PROFILE.wcet_ns == 13_200_000
    assert replace(PROFILE, alone_ns=20_000_000).wcet_ns == 24_000_000


def test_stretches_for_chunks_of_other_sizes() -> None:
    # 3 MiB of mutable memory come first, in two chunks; 1 MiB of the weights needs a third.
    assert PROFILE.layers(2 * MIB) == [
        (1, 1_320_000),
        (3, 2_640_000 + 3_960_000),
        (22, 5_280_000),
    ]
    assert PROFILE.layers(32 * MIB) == [
        (1, 1_320_000),
        (2, 6_600_000),
        (3, 5_280_000),
    ]
    for chunk_bytes in (MIB // 16, MIB, 64 * MIB):
        layers = PROFILE.layers(chunk_bytes)
        assert sum(ns for _, ns in layers) == PROFILE.wcet_ns
        assert [chunks for chunks, _ in layers] == sorted({chunks for chunks, _ in layers})
    assert replace(PROFILE, stretches=()).layers(MIB) == []


def test_chunks_and_bytes_of_an_arenas_beginning() -> None:
    for chunk, mutable, read_only in ((4, 6, 17), (4, 0, 9), (4, 8, 0), (16, 3, 30)):
        total = first_chunks(mutable + read_only, chunk, mutable)
        assert first_bytes(total, chunk, mutable, read_only) == mutable + read_only
        for needed in range(1, mutable + read_only + 1):
            chunks = first_chunks(needed, chunk, mutable)
            assert first_bytes(chunks - 1, chunk, mutable, read_only) < needed
            assert needed <= first_bytes(chunks, chunk, mutable, read_only)


def test_mistakes_are_named_with_file_and_line(tmp_path: Path) -> None:
    text = profile_text(PROFILE)

    def mistake(before: str, after: str) -> str:
        assert before in text
        with pytest.raises(InvalidArgument) as error:
            read_profile(write(tmp_path, text.replace(before, after, 1)))
        return str(error.value)

    assert "profile.toml:7: passes takes a number" in mistake("passes = 20", 'passes = "20"')
    assert "takes a number (int)" in mistake("passes = 20", "passes = 2.5")
    assert "profile.toml:8: alone_ns = 0 is no" in mistake("alone_ns = 10000000", "alone_ns = 0")
    assert "is no measurement" in mistake(
        "restore_bytes_per_s = 1000000000", "restore_bytes_per_s = 0"
    )
    assert "takes a text" in mistake('torch = "2.13"', "torch = 2.13")
    assert 'no setting "speed"' in mistake("passes = 20", "speed = 20")
    assert "profile.toml:2: this profile lacks passes" in mistake("passes = 20\n", "")
    assert "a margin below 1" in mistake("margin = 1.2", "margin = 0.9")
    assert "needs more memory than the one before" in mistake(f"= {4 * MIB}\n", f"= {2 * MIB}\n")
    assert "at most the" in mistake(f"= {43 * MIB}\n", f"= {44 * MIB}\n")
    assert "this stretch lacks bytes" in mistake(f"bytes = {4 * MIB}\n", "")
    assert "has 0 [[profile]]" in mistake("[[profile]]", "[[stretch]]")
    assert "has 2 [[profile]]" in mistake("[[stretch]]", "[[profile]]")
    assert "write [[profile]] or [[stretch]]" in mistake("[[profile]]", "[profile]")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("margin = 1.2", "margin = 1e300", "profile.toml:12: margin is 1e+300; no"),
        ("margin = 1.2", "margin = 1e400", "profile.toml:12: margin is inf; no"),
        ("margin = 1.2", f"margin = {'9' * 99}", "profile.toml:12: margin is 999"),
        ("alone_ns = 10000000", f"alone_ns = {10**16}", "profile.toml:8: alone_ns is 1000"),
        (
            "alone_ns = 10000000",
            f"alone_ns = {10**15}",
            "profile.toml:2: the worst pass times the margin is 1200000000000000 ns",
        ),
        ("read_only_bytes = ", "read_only_bytes = 9999999999", "profile.toml:5: read_only_bytes"),
        ("mutable_bytes = ", "mutable_bytes = 9999999999", "profile.toml:6: mutable_bytes is"),
        ("mutable_bytes = 3145728", f"mutable_bytes = {2**44}", "profile.toml:2: a model of 1759"),
        ("restore_bytes_per_s = 1", f"restore_bytes_per_s = {'1' * 80}", "restore_bytes_per_s is"),
        (
            "evict_both_ways_bytes_per_s = 9",
            f"evict_both_ways_bytes_per_s = {2**62}",
            "profile.toml:20: evict_both_ways_bytes_per_s is",
        ),
        ("execution_ns = 2000000", f"execution_ns = {10**18}", ": execution_ns is 1000"),
        (
            "execution_ns = 2000000",
            "execution_ns = 20000000",
            ": the stretches up to this one take 21000000 ns",
        ),
    ],
)
def test_what_no_measurement_gives_is_named_with_file_and_line(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    text = profile_text(PROFILE)
    assert before in text
    write(tmp_path, text.replace(before, after, 1))
    tasks = tmp_path / "tasks.toml"
    tasks.write_text('[[task]]\nname = "a"\nperiod_ms = 100\nprofile = "profile.toml"\n')
    done = CliRunner().invoke(app, ["plan", str(tasks), "--budget", "1GiB"])
    assert done.exit_code == 2
    assert f"{tasks}:4: {tmp_path}/profile.toml:" in done.output
    assert words in done.output
    assert len(done.output.splitlines()) == 1


def test_more_stretches_than_the_arbiter_takes_are_refused(tmp_path: Path) -> None:
    many = tuple(Stretch(count, 1) for count in range(1, 258))
    with pytest.raises(InvalidArgument, match="at most 256 stretches"):
        read_profile(write(tmp_path, profile_text(replace(PROFILE, stretches=many))))
    assert read_profile(write(tmp_path, profile_text(replace(PROFILE, stretches=many[:-1]))))


def test_the_largest_profile_that_is_read_can_be_planned(tmp_path: Path) -> None:
    largest = replace(
        PROFILE,
        read_only_bytes=2**43,
        mutable_bytes=2**43,
        alone_ns=10**15,
        margin=1.0,
        restore_both_ways_bytes_per_s=1,
        stretches=(Stretch(1, 1), Stretch(2**44, 10**15 - 1)),
    )
    write(tmp_path, profile_text(largest))
    tasks = tmp_path / "tasks.toml"
    tasks.write_text('[[task]]\nname = "a"\nperiod_ms = 1e9\nprofile = "profile.toml"\n')
    done = CliRunner().invoke(app, ["plan", str(tasks), "--budget", "16TiB"])
    assert done.exit_code == 1, done.output
    assert "refused" in done.output


def test_a_factory_makes_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_models.py").write_text(
        "import torch\n"
        "number = 3\n"
        "def linear():\n    return torch.nn.Linear(3, 4).train()\n"
        "def text():\n    return 'model'\n"
        "def sized(size):\n    return torch.nn.Linear(size, 1)\n"
        "def lacks():\n    import no_such_module\n"
    )
    monkeypatch.chdir(tmp_path)
    model = load_model("some_models:linear")
    assert isinstance(model, torch.nn.Linear)
    assert not model.training
    for target, message in (
        ("some_models", "names no factory"),
        ("no_models:linear", "no module 'no_models'"),
        ("some_models.sub:linear", "no module 'some_models.sub'"),
        ("some_models:conv", "has no 'conv'"),
        ("some_models:number", "cannot be called"),
        ("some_models:text", "made a str"),
        ("some_models:sized", "needs arguments"),
        ("./some_models:linear", "without a path"),
        ("..some_models:linear", "without a path"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            load_model(target)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load_model("some_models:lacks")


def test_inputs_have_shapes_and_types() -> None:
    image, tokens, half = make_inputs(["1x3x8x8", "2x5:int64", "4:float16"])
    assert (image.shape, image.dtype) == ((1, 3, 8, 8), torch.float32)
    assert (tokens.shape, tokens.dtype, int(tokens.max())) == ((2, 5), torch.int64, 0)
    assert (half.shape, half.dtype) == ((4,), torch.float16)
    assert torch.equal(image, make_inputs(["1x3x8x8"])[0])
    for wrong in ("", "3,4", "1x", "2:int65", "2:nn", "-1"):
        with pytest.raises(InvalidArgument, match="is no shape"):
            make_inputs([wrong])
    for large in ("99999999x99999999", f"{'9' * 20}x2", f"{'9' * 900}x{'9' * 900}"):
        with pytest.raises(InvalidArgument, match="larger than the memory of this machine"):
            make_inputs([large])
    with pytest.raises(InvalidArgument, match="'2x64:qint8': torch makes no such tensor"):
        make_inputs(["2x64:qint8"])
    with pytest.raises(InvalidArgument, match="has no elements"):
        make_inputs(["2x0x3"])


def test_a_task_file_takes_memory_and_cost_from_a_profile(tmp_path: Path) -> None:
    write(tmp_path, profile_text(PROFILE))
    tasks = tmp_path / "tasks.toml"
    lines = '[[task]]\nname = "camera"\nperiod_ms = 100\nprofile = "profile.toml"\n'
    tasks.write_text(lines)
    [spec] = read_task_file(tasks)
    assert (spec.size_bytes, spec.mutable_bytes) == (43 * MIB, 3 * MIB)
    assert spec.wcet_ns == PROFILE.wcet_ns
    assert spec.chunks(2 * MIB) == PROFILE.layers(2 * MIB)[-1][0]
    assert make_plan([spec], Device(2 * MIB, 22, 10**9)).admitted
    for more in ("wcet_ms = 3", 'size = "9MiB"'):
        tasks.write_text(f"{lines}{more}\n")
        with pytest.raises(InvalidArgument, match=r"tasks\.toml:1.*or the profile"):
            read_task_file(tasks)
    tasks.write_text(lines.replace("profile.toml", "absent.toml"))
    with pytest.raises(InvalidArgument, match=r"tasks\.toml:4: .*absent\.toml cannot be read"):
        read_task_file(tasks)


def test_the_link_is_that_of_the_profiles_unless_one_is_given(tmp_path: Path) -> None:
    write(tmp_path, profile_text(replace(PROFILE, evict_both_ways_bytes_per_s=7 * 10**8)))
    tasks = tmp_path / "tasks.toml"
    tasks.write_text('[[task]]\nname = "a"\nperiod_ms = 500\nprofile = "profile.toml"\n')
    command = ["plan", str(tasks), "--budget", "64MiB", "--json"]
    for flags, bytes_per_s in (([], 7 * 10**8), (["--link", "24GB/s"], 24 * 10**9)):
        done = CliRunner().invoke(app, [*command, *flags])
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["link_bytes_per_s"] == bytes_per_s


def test_stretches_shorten_the_blocks_of_a_plan(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.toml"
    tasks.write_text(
        "".join(
            f'[[task]]\nname = "{n}"\nperiod_ms = 400\nprofile = "profile.toml"\n' for n in "ab"
        )
    )
    device = Device(2 * MIB, 30, 10**9)

    def blocks_ns(stretches: tuple[Stretch, ...]) -> list[int]:
        write(tmp_path, profile_text(replace(PROFILE, stretches=stretches)))
        specs = read_task_file(tasks)
        plan = make_plan(specs, device)
        assert plan.admitted
        report = simulate(specs, device, Course(horizon_ns=4 * 10**9))
        assert report.kept
        assert not report.refused
        return [task.block_ns for task in plan.tasks]

    whole, in_stretches = blocks_ns(()), blocks_ns(PROFILE.stretches)
    assert all(short < long for short, long in zip(in_stretches, whole, strict=True))


MODELS = """
import torch

def layers():
    return torch.nn.Sequential(
        torch.nn.Linear(1024, 1024), torch.nn.BatchNorm1d(1024), torch.nn.Linear(1024, 1024)
    )

def empty():
    return torch.nn.ReLU()

def without_bytes():
    return torch.nn.Linear(1024, 4, device="meta")

class Replacing(torch.nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        self.weight = torch.nn.Parameter(self.weight.clone())
        return y

def replacing():
    return Replacing(1024, 4)
"""


@pytest.mark.usefixtures("nothing_compiled")
def test_a_model_is_measured_on_the_simulated_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "measured_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    command = ["profile", "measured_models:layers", "--passes", "2", "--input", "4x1024"]
    done = runner.invoke(app, [*command, "--output", "layers.toml"])
    assert done.exit_code == 0, done.output
    assert "written: layers.toml" in done.output
    profile = read_profile(Path("layers.toml"))
    assert (profile.model, profile.inputs) == ("measured_models:layers", "4x1024")
    assert (profile.device, profile.passes) == ("simulated device", 2)
    assert profile.read_only_bytes >= 4 * (2 * 1024 * 1025 + 2 * 1024)
    assert profile.mutable_bytes >= 4 * 2 * 1024 + 8
    assert profile.alone_median_ns <= profile.alone_ns
    assert profile.wcet_ns > profile.beside_copies_ns
    assert len(profile.stretches) >= 2
    assert profile.stretches[-1].bytes == profile.size_bytes
    worst_ns = max(profile.alone_ns, profile.beside_copies_ns)
    assert sum(stretch.execution_ns for stretch in profile.stretches) == worst_ns
    for target, message in (("empty", "neither parameters nor buffers"), ("none", "has no 'none'")):
        done = runner.invoke(app, ["profile", f"measured_models:{target}"])
        assert done.exit_code == 2
        assert message in done.output
    done = runner.invoke(app, [*command, "--output", "no/folder/layers.toml"])
    assert done.exit_code == 2
    assert "there is no folder no/folder" in done.output
    done = runner.invoke(app, [*command, "--output", "."])
    assert done.exit_code == 2
    assert "is a folder" in done.output
    for shape in ([], ["--input", "4x7"]):
        done = runner.invoke(app, ["profile", "measured_models:layers", *shape])
        assert done.exit_code == 2
        assert f"does not run with {' '.join(shape) or 'no --input'}" in done.output
        assert len(done.output.splitlines()) == 1


@pytest.mark.usefixtures("nothing_compiled")
@pytest.mark.parametrize(
    ("target", "flags", "words"),
    [
        ("without_bytes", [], "is on the meta device"),
        ("replacing", [], "no longer lie in its memory"),
        ("layers", ["--output", "/dev/full"], "/dev/full cannot be written: No space left"),
    ],
)
def test_what_stops_a_measurement_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, flags: list[str], words: str
) -> None:
    (tmp_path / "odd_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = ["profile", f"odd_models:{target}", "--passes", "1", "--input", "4x1024"]
    done = CliRunner().invoke(app, [*command, *flags])
    assert done.exit_code == 2
    assert words in done.output
    assert len(done.output.splitlines()) == 1


def one_layer_profile(tmp_path: Path, model: torch.nn.Module, **changes: object) -> str:
    """Of a model without buffers whose tensors need no padding."""
    read_only_bytes = sum(4 * parameter.numel() for parameter in model.parameters())
    profile = replace(
        PROFILE,
        read_only_bytes=read_only_bytes,
        mutable_bytes=0,
        stretches=(Stretch(read_only_bytes // 2, 10**6), Stretch(read_only_bytes, 10**6)),
    )
    return str(write(tmp_path, profile_text(replace(profile, **changes))))  # type: ignore[arg-type]


def test_register_takes_a_profile(
    tmp_path: Path, arbiter: rtswap.Info, caplog: pytest.LogCaptureFixture
) -> None:
    model = torch.nn.Linear(1024, 1024)
    path = one_layer_profile(tmp_path, model)
    task = rtswap.register(model, name="a", period_ms=500, profile=path)
    assert task.promise.wcet_ms == pytest.approx(13.2)
    assert task.promise.begins_on_prefix
    with task.job(), torch.no_grad():
        model(torch.zeros(1, 1024))
    task.close()
    assert "another GPU" not in caplog.text
    path = one_layer_profile(tmp_path, model, device="NVIDIA H200", stretches=())
    task = rtswap.register(model, name="b", period_ms=500, profile=path)
    assert not task.promise.begins_on_prefix
    assert "another GPU, NVIDIA H200; this one is simulated device" in caplog.text


def test_a_profile_that_does_not_fit_is_refused(tmp_path: Path, arbiter: rtswap.Info) -> None:
    model = torch.nn.Linear(1024, 1024)
    path = one_layer_profile(tmp_path, torch.nn.Linear(1024, 512))
    with pytest.raises(InvalidArgument, match="is the profile of a model with 2099200 bytes"):
        rtswap.register(model, name="a", period_ms=500, profile=path)
    for twice in ({"wcet_ms": 1.0}, {"example_inputs": (torch.zeros(1, 1024),)}):
        with pytest.raises(InvalidArgument, match="leave out"):
            rtswap.register(model, name="a", period_ms=500, profile=path, **twice)
    with pytest.raises(InvalidArgument, match="cannot be read"):
        rtswap.register(model, name="a", period_ms=500, profile=tmp_path / "absent")
    model(torch.zeros(1, 1024))  # nothing has happened to it
