"""Plans and simulations from a task file: the same answers as the arbiter's."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rtswap.cli import app
from rtswap.errors import InvalidArgument
from rtswap.offline.device import Device, parse_device
from rtswap.offline.plan import demand_curve, make_plan
from rtswap.offline.rtswap_cfg import import_rtswap_cfg
from rtswap.offline.simulate import Course, picture_jobs, simulate
from rtswap.offline.task_file import read_task_file
from rtswap.units import parse_bandwidth

MIB = 1 << 20

VEHICLE = """
# three models, 2.5 GiB
[[task]]
name = "detector"
rate_hz = 30
deadline_ms = 30
wcet_ms = 4
size = "300MiB"   # hot

[[task]]
name = "planner"
period_ms = 500
wcet_ms = 10
size = "1.2GiB"
mutable = "20MiB"

[[task]]
name = 'speech'
period_ms = 2_000
deadline_ms = 1.5e3
wcet_ms = 10.0
size = 1073741824
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "tasks.toml"
    path.write_text(text, encoding="utf-8")
    return path


def mistake(folder: Path, text: str) -> str:
    with pytest.raises(InvalidArgument) as error:
        read_task_file(write(folder, text))
    return str(error.value)


def task(*lines: str) -> str:
    return "\n".join(("[[task]]", 'name = "a"', "period_ms = 10", "wcet_ms = 1", *lines)) + "\n"


def test_a_task_file_is_read(tmp_path: Path) -> None:
    detector, planner, speech = read_task_file(write(tmp_path, VEHICLE))
    assert (detector.period_ns, detector.deadline_ns) == (33_333_333, 30_000_000)
    assert planner.deadline_ns == planner.period_ns == 500_000_000
    assert planner.chunks(2 * MIB) == -(-round(1.2 * 1024 - 20) // 2) + 10
    assert (speech.deadline_ns, speech.size_bytes) == (1_500_000_000, 1 << 30)
    assert speech.importance == 0
    [important] = read_task_file(write(tmp_path, task('size = "1MiB"', "importance = -1_000")))
    assert important.importance == -1000
    planned = make_plan([important], Device(2 * MIB, 4, 0)).as_json()
    assert planned["tasks"][0]["importance"] == -1000


def test_mistakes_are_named_with_file_and_line(tmp_path: Path) -> None:
    assert "tasks.toml:5" in mistake(tmp_path, task("memory = 3"))
    assert 'no setting "memory"' in mistake(tmp_path, task("memory = 3"))
    assert "tasks.toml:5: size takes" in mistake(tmp_path, task('size = "4gib"'))
    assert "tasks.toml:5: size takes" in mistake(tmp_path, task("size = -4"))
    for wrong in ("1.0", "true", '"5"', "1001", "-1001"):
        text = task(f"importance = {wrong}")
        assert "tasks.toml:5: importance takes a whole number from -1000" in mistake(tmp_path, text)
    assert "not a text in quotes" in mistake(tmp_path, task("size = 4GiB"))
    assert "milliseconds" in mistake(tmp_path, '[[task]]\nname="a"\nperiod_ms = "33ms"\n')
    assert "not both" in mistake(tmp_path, task("rate_hz = 3"))
    assert "tasks.toml:6" in mistake(tmp_path, task('size = "1MiB"', "size = 2"))
    assert "longer than its period" in mistake(tmp_path, task("deadline_ms = 11"))
    assert "more mutable" in mistake(tmp_path, task('size = "1MiB"', 'mutable = "2MiB"'))
    assert "has no size" in mistake(tmp_path, task())
    assert "no wcet_ms" in mistake(tmp_path, '[[task]]\nname="a"\nperiod_ms=9\nsize="1MiB"\n')
    longer = task("deadline_ms = 0.5", 'size = "1MiB"')
    assert "longer than its deadline" in mistake(tmp_path, longer)
    assert "twice" in mistake(tmp_path, task('size = "1MiB"') * 2)
    assert "belongs into" in mistake(tmp_path, 'name = "a"\n')
    assert "write [[task]]" in mistake(tmp_path, "[task]\n")
    assert "neither" in mistake(tmp_path, "[[task]]\nname\n")
    assert "no name" in mistake(tmp_path, "[[task]]\nperiod_ms = 3\n")
    assert "describes no task" in mistake(tmp_path, "# nothing\n")
    unknown = task('model = "other"')
    assert 'no task gives the model "other" of "a" a size' in mistake(tmp_path, unknown)
    for size in ('"0.1B"', '"17TiB"', "9" * 25, f'"{"9" * 400}"'):
        assert "tasks.toml:5: size" in mistake(tmp_path, task(f"size = {size}"))
    assert "tasks.toml:5: a number of 5001 digits" in mistake(
        tmp_path, task(f"size = {'9' * 5001}")
    )
    half = task('size = "1MiB"').replace('"a"', r'"\ud83d"')
    assert r'tasks.toml:2: "\ud83d" has an escape that is half' in mistake(tmp_path, half)
    for wrong in ('""', "3"):
        assert mistake(tmp_path, task(f"profile = {wrong}")) == (
            f"{tmp_path / 'tasks.toml'}:5: profile takes a name in quotes."
        )
    assert "tasks.toml:5: " in mistake(tmp_path, task(r'profile = "\u0000"'))
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read_task_file(tmp_path / "absent.toml")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert read_task_file(write(tmp_path, "\ufeff" + VEHICLE))[0].name == "detector"


def test_tasks_of_one_model_share_its_memory(tmp_path: Path) -> None:
    text = task('size = "8MiB"', 'model = "m"') + task('model = "m"').replace('"a"', '"b"')
    specs = read_task_file(write(tmp_path, text))
    assert specs[1].size_bytes == 8 * MIB
    plan = make_plan(specs, Device(2 * MIB, 4, 0))
    assert plan.admitted
    assert [task.resident_bytes for task in plan.tasks] == [8 * MIB, 8 * MIB]
    other = task('size = "9MiB"', 'model = "m"').replace('"a"', '"b"')
    assert "different sizes" in mistake(tmp_path, task('size = "8MiB"', 'model = "m"') + other)


def test_links_and_budgets() -> None:
    assert parse_bandwidth("24GB", "link") == parse_bandwidth(" 24 GB/s", "link") == 24 * 10**9
    assert parse_bandwidth("12.5GiB/s", "link") == int(12.5 * (1 << 30))
    assert parse_device("16GiB", None, None).chunk_bytes == 32 * MIB
    assert parse_device("100MiB", None, "32MiB").chunk_count == 3
    for wrong in (
        {"budget": "lots"},
        {"budget": "1MiB"},
        {"budget": "99999999TiB"},
        {"chunk": "3MiB"},
        {"link": "fast"},
        {"link": "-5"},
    ):
        [option] = wrong
        with pytest.raises(InvalidArgument, match=f"--{option}"):
            parse_device(**{"budget": "1GiB", "link": None, "chunk": None, **wrong})


def test_a_plan_says_what_each_task_gets(tmp_path: Path) -> None:
    specs = read_task_file(write(tmp_path, VEHICLE))
    plan = make_plan(specs, parse_device("2500MiB", "24GB/s", None))
    assert plan.admitted
    detector, planner, speech = plan.tasks
    assert detector.restored_bytes == 0
    assert detector.bound_ns is not None
    assert detector.bound_ns <= detector.spec.deadline_ns
    assert detector.limited_by.startswith("detector waits at most")
    assert "for a block of speech" in detector.limited_by
    for swapped in (planner, speech):
        assert 0 < swapped.resident_bytes < swapped.spec.size_bytes
        assert swapped.resident_bytes + swapped.restored_bytes >= swapped.spec.size_bytes
    kept = sum(task.resident_bytes for task in plan.tasks)
    assert kept + max(task.restored_bytes for task in plan.tasks) <= plan.device.budget_bytes


def test_a_plan_says_who_is_staged(tmp_path: Path) -> None:
    specs = read_task_file(write(tmp_path, VEHICLE))
    device = parse_device("1600MiB", "24GB/s", None)
    plan = make_plan(specs, device)
    assert plan.admitted
    detector, planner, speech = plan.tasks
    assert (detector.mode, detector.lead_ns, detector.lead_bytes) == ("direct", 0, 0)
    for large in (planner, speech):
        assert large.mode == "staged"
        assert large.lead_bytes == large.restored_bytes > 0
        assert large.lead_ns > detector.spec.period_ns
        assert large.block_ns < detector.spec.deadline_ns
        assert "beside others" in large.limited_by
    assert "for lead and run of speech" in planner.limited_by
    # What limits the detector is a run: the picture has no more demand than time.
    points, demand = demand_curve(plan, 300_000_000)
    assert all(ask <= point for point, ask in zip(points, demand, strict=True))
    report = simulate(specs, device, Course(horizon_ns=8_000_000_000, jitter_ns=5_000_000))
    assert report.kept
    for promise, outcome in zip(plan.tasks, report.tasks, strict=True):
        assert outcome.bound_ns == promise.bound_ns


def test_a_refusal_names_the_window_the_task_and_a_change(tmp_path: Path) -> None:
    specs = read_task_file(write(tmp_path, VEHICLE))
    plan = make_plan(specs, parse_device("1540MiB", "6GB/s", None))
    assert not plan.admitted
    assert plan.failing_task == "detector"
    assert plan.failing_window_ns == 30_000_000
    assert plan.failing_demand_ns is not None
    assert plan.failing_demand_ns > 30_000_000
    assert plan.change.startswith("a bank of ")
    enough_mib = int(plan.change.split()[3])
    chunk = str(plan.device.chunk_bytes)
    assert f"in chunks of {plan.device.chunk_bytes // MIB} MiB" in plan.change
    assert make_plan(specs, parse_device(f"{enough_mib}MiB", "6GB/s", chunk)).admitted
    assert not make_plan(specs, parse_device(f"{enough_mib - 8}MiB", "6GB/s", chunk)).admitted
    # The curve of the picture fails in the same window.
    points, demand = demand_curve(plan, 30_000_000)
    assert points[-1] == 30_000_000
    assert demand[-1] == plan.failing_demand_ns


def test_a_link_of_unknown_speed_is_said_to_be(tmp_path: Path) -> None:
    specs = read_task_file(write(tmp_path, VEHICLE))
    plan = make_plan(specs, parse_device("2GiB", None, None))
    assert not plan.admitted
    assert plan.reason.startswith('"planner" would have to be restored')
    assert make_plan(specs, parse_device("4GiB", None, None)).admitted


BEST_EFFORT = """
[[task]]
name = "camera"
period_ms = 100
wcet_ms = 4
size = "100MiB"

[[task]]
name = "mapper"
wcet_ms = WCET
size = "100MiB"
"""


@pytest.mark.parametrize(
    ("wcet", "said"),
    [
        ("20", "runs when no promised job waits"),
        ("97", "begins only where no promised job waits or may come meanwhile"),
        ("500", "never runs beside camera: a job may hold the GPU for 501.0 ms"),
    ],
)
def test_a_plan_says_when_best_effort_runs(tmp_path: Path, wcet: str, said: str) -> None:
    specs = read_task_file(write(tmp_path, BEST_EFFORT.replace("WCET", wcet)))
    plan = make_plan(specs, parse_device("1GiB", "24GB/s", None))
    assert plan.admitted
    assert plan.tasks[1].limited_by.startswith("mapper is best effort")
    assert said in plan.tasks[1].limited_by
    assert plan.tasks[1].block_ns == (int(wcet) + 1) * 1_000_000


def test_best_effort_of_unknown_length_has_no_block(tmp_path: Path) -> None:
    text = BEST_EFFORT.replace("wcet_ms = WCET\n", "")
    plan = make_plan(read_task_file(write(tmp_path, text)), parse_device("150MiB", "24GB/s", None))
    assert plan.tasks[1].block_ns is None
    assert plan.as_json()["tasks"][1]["block_ns"] is None
    assert "of unknown length: promises are suspended" in plan.tasks[1].limited_by


def test_best_effort_over_an_unknown_link_is_not_measured_in_centuries(tmp_path: Path) -> None:
    specs = read_task_file(write(tmp_path, BEST_EFFORT.replace("WCET", "20")))
    plan = make_plan(specs, parse_device("150MiB", None, None))
    assert not plan.admitted
    assert plan.tasks[1].block_ns is None
    assert "is not known without --link" in plan.tasks[1].limited_by


def random_file(seed: int) -> str:
    draw = random.Random(seed)
    text = ""
    for count in range(draw.randint(2, 5)):
        period = draw.randint(50, 900)
        text += (
            f'[[task]]\nname = "t{count}"\nperiod_ms = {period}\nwcet_ms = {draw.randint(1, 20)}\n'
            f"deadline_ms = {draw.randint(period // 2, period)}\n"
            f'size = "{draw.randint(2, 400)}MiB"\n'
        )
    return text


def test_plan_and_arbiter_agree(tmp_path: Path) -> None:
    admitted = swapped = same = 0
    for seed in range(150):
        specs = read_task_file(write(tmp_path, random_file(seed)))
        device = parse_device(
            f"{max(s.size_bytes for s in specs) // MIB + 90}MiB", "12GB/s", "2MiB"
        )
        plan = make_plan(specs, device)
        report = simulate(specs, device, Course(horizon_ns=2_000_000_000, seed=seed))
        assert report.violations == []
        states = [task.state for task in report.tasks]
        assert (states == ["admitted"] * len(specs)) == plan.admitted, seed
        if not plan.admitted:
            continue
        admitted += 1
        swapped += any(task.restored_bytes for task in plan.tasks)
        assert report.kept
        assert report.suspensions == 0
        agree = [task.bound_ns for task in report.tasks] == [task.bound_ns for task in plan.tasks]
        # A plan on the way to a staged one may be kept: a better one is sought for a slice only.
        assert agree or any(task.mode == "staged" for task in plan.tasks)
        same += agree
        for outcome in report.tasks:
            assert outcome.response_max_ns <= outcome.bound_ns
    assert same >= admitted - 2
    assert admitted > 40
    assert swapped > 10


def test_jitter_does_not_thin_releases_out(tmp_path: Path) -> None:
    specs = read_task_file(write(tmp_path, VEHICLE))
    device = parse_device("2500MiB", "24GB/s", None)
    course = Course(horizon_ns=10_000_000_000)
    even = simulate(specs, device, course)
    uneven = simulate(specs, device, replace(course, jitter_ns=20_000_000))
    assert uneven.kept
    for before, after in zip(even.tasks, uneven.tasks, strict=True):
        assert abs(before.released - after.released) <= 1
    # Nobody's frames come closer than a period after each other and count so.
    releases = [e["release_ns"] for e in uneven.trace if e["kind"] == "released"]
    assert releases != [e["release_ns"] for e in even.trace if e["kind"] == "released"]
    assert any("counts from" in e["detail"] for e in uneven.trace if e["kind"] == "released")


def test_the_picture_has_every_job_of_a_client_that_crashes(tmp_path: Path) -> None:
    specs = read_task_file(write(tmp_path, VEHICLE))
    course = Course(horizon_ns=10_000_000_000, faults_per_s=0.3)
    report = simulate(specs, parse_device("1600MiB", "24GB/s", None), course)
    jobs = picture_jobs(report.trace)
    assert len(jobs) == sum(e["kind"] == "released" for e in report.trace)
    assert len({(job.task, job.index) for job in jobs}) < len(jobs)  # some count anew
    assert sum(job.outcome != "dropped" for job in jobs) >= sum(task.met for task in report.tasks)
    assert any(job.outcome == "dropped" for job in jobs)
    assert all(job.end_ns > job.release_ns for job in jobs if job.outcome != "dropped")


def test_faults_show(tmp_path: Path) -> None:
    specs = read_task_file(write(tmp_path, VEHICLE))
    course = Course(horizon_ns=5_000_000_000, faults_per_s=2.0)
    report = simulate(specs, parse_device("2500MiB", "24GB/s", None), course)
    assert report.violations == []
    assert sum(task.met for task in report.tasks) > 0
    assert sum(task.released - task.met for task in report.tasks) > 0
    assert report.suspensions > 0  # a client that hangs has the GPU for too long


def test_what_cannot_be_simulated_is_said(tmp_path: Path) -> None:
    device = parse_device("64MiB", "24GB/s", None)
    shared = task('size = "8MiB"', 'model = "m"') + task('model = "m"').replace('"a"', '"b"')
    with pytest.raises(InvalidArgument, match="shares a model"):
        simulate(read_task_file(write(tmp_path, shared)), device, Course(10**9))
    aperiodic = '[[task]]\nname = "a"\nsize = "8MiB"\n'
    with pytest.raises(InvalidArgument, match="has no period"):
        simulate(read_task_file(write(tmp_path, aperiodic)), device, Course(10**9))
    with pytest.raises(InvalidArgument, match="--link"):
        simulate([], parse_device("64MiB", None, None), Course(10**9))


def test_rt_swaps_configuration_becomes_a_task_file(tmp_path: Path) -> None:
    path = tmp_path / "rtswap_cfg.txt"
    path.write_text("5,500,2097152,1,0\n\n2,1000,4194304,2,3,7\n", encoding="utf-8")
    text = import_rtswap_cfg(path)
    assert text.count("[[task]]") == 2
    specs = read_task_file(write(tmp_path, text.replace("# wcet_ms =", "wcet_ms = 1")))
    assert [spec.period_ns for spec in specs] == [500_000_000, 1_000_000_000]
    assert [spec.size_bytes for spec in specs] == [2097152, 4194304]
    path.write_text("5,500,0,0\n", encoding="utf-8")  # it swaps nothing of that one
    assert "# size =" in import_rtswap_cfg(path)
    for wrong in (
        f"5,500,{'9' * 5000},0\n",
        "5,500\n",
        "5,500,x,0\n",
        "5,500,4096,2,1\n",
        "5,0,4096,0\n",
        "\n",
    ):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(InvalidArgument, match=r"rtswap_cfg\.txt"):
            import_rtswap_cfg(path)


def test_the_command_line(tmp_path: Path) -> None:
    runner = CliRunner()
    path = str(write(tmp_path, VEHICLE))
    plot = tmp_path / "plan.png"
    flags = ["--budget", "2500MiB", "--link", "24GB/s"]
    done = runner.invoke(app, ["plan", path, *flags, "--plot", str(plot)])
    assert done.exit_code == 0, done.output
    assert "accepted" in done.output
    assert "for a block of speech" in done.output
    assert plot.stat().st_size > 10_000
    done = runner.invoke(app, ["plan", path, "--budget", "1540MiB", "--link", "6GB/s", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.output)["failing_task"] == "detector"
    timeline = tmp_path / "run.png"
    done = runner.invoke(
        app, ["simulate", path, *flags, "--horizon", "3s", "--plot", str(timeline)]
    )
    assert done.exit_code == 0, done.output
    assert "every promise was kept" in done.output
    assert timeline.stat().st_size > 10_000
    done = runner.invoke(app, ["plan", path, "--budget", "lots"])
    assert done.exit_code == 2
    for wrong in (["--horizon", "long"], ["--seed", "-1"], ["--plot", str(tmp_path / "run.doc")]):
        done = runner.invoke(app, ["simulate", path, *flags, *wrong])
        assert done.exit_code == 2, wrong


def test_a_seed_beyond_its_limit_is_refused_by_name(tmp_path: Path) -> None:
    path = str(write(tmp_path, VEHICLE))
    flags = ["--budget", "2500MiB", "--link", "24GB/s", "--horizon", "1s"]
    assert CliRunner().invoke(app, ["simulate", path, *flags, f"--seed={2**64 - 1}"]).exit_code == 0
    done = CliRunner().invoke(app, ["simulate", path, *flags, f"--seed={2**64}"])
    assert done.exit_code == 2
    assert "--seed" in done.output
    assert str(2**64 - 1) in done.output


needs_full_file = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="no file that is always full"
)


@needs_full_file
@pytest.mark.parametrize(
    "command",
    [
        ["plan", "tasks.toml", "--budget", "2500MiB", "--link", "24GB/s"],
        ["plan", "tasks.toml", "--budget", "2500MiB", "--link", "24GB/s", "--json"],
        ["simulate", "tasks.toml", "--budget", "3GiB", "--link", "24GB/s", "--horizon", "1s"],
        ["import-rtswap", "cfg.txt"],
        ["version"],
    ],
    ids=" ".join,
)
def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, command: list[str]) -> None:
    write(tmp_path, VEHICLE)
    (tmp_path / "cfg.txt").write_text("5,500,2097152,1,0\n", encoding="utf-8")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rtswap", *command],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "The standard output cannot be written: No space left on device.\n"


@needs_full_file
def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    plot = tmp_path / "full.png"
    plot.symlink_to("/dev/full")
    flags = ["--budget", "2500MiB", "--link", "24GB/s", "--plot", str(plot)]
    done = CliRunner().invoke(app, ["plan", str(write(tmp_path, VEHICLE)), *flags])
    assert done.exit_code == 2
    assert done.output == f"{plot} cannot be written: No space left on device.\n"


def test_a_plan_says_what_was_forgotten_or_meant_in_another_unit(tmp_path: Path) -> None:
    path = str(write(tmp_path, VEHICLE))

    def plan(*flags: str) -> str:
        done = CliRunner().invoke(app, ["plan", path, *flags])
        assert done.exit_code in (1, 2), done.output
        return done.output

    plot = tmp_path / "none.png"
    without = plan("--budget", "2500MiB", "--plot", str(plot))
    assert "Without --link" in without
    assert f"{plot} is not written: without --link" in without.replace("\n", " ")
    assert not plot.exists()
    too_small = plan("--budget", "1000MiB", "--plot", str(plot))
    assert "Without --link" not in too_small  # it would not help
    assert "is not written: there is no plan" in too_small
    for link in ("24", "24kB/s"):
        assert "write '24GB/s'" in plan("--budget", "2500MiB", "--link", link)
    too_large = plan("--budget", "100MiB", "--link", "24GB/s")  # no plan of the memory exists
    assert "2.5 GiB of models" in too_large


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    left, right = "camera[left]_of_the_vehicle", "camera[/right]_of_the_vehicle"
    text = task('size = "8MiB"').replace('"a"', f'"{left}"')
    text += task('size = "8MiB"').replace('"a"', f'"{right}"')
    path = str(write(tmp_path, text))
    flags = ["--budget", "64MiB", "--link", "24GB/s"]
    for command in (["plan", path, *flags], ["simulate", path, *flags, "--horizon", "1s"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        rows = [line.split()[0] for line in done.output.splitlines() if line.strip()]
        assert left in rows
        assert right in rows


def test_tables_are_whole_where_there_is_little_room(tmp_path: Path) -> None:
    text = task('size = "8MiB"').replace("period_ms = 10", "period_ms = 3600000")
    path = str(write(tmp_path, text.replace('"a"', '"mapping"')))
    flags = ["--budget", "64MiB", "--link", "24GB/s"]
    for command in (["plan", path, *flags], ["simulate", path, *flags, "--horizon", "1s"]):
        done = CliRunner().invoke(app, command, env={"COLUMNS": "20"})
        [row] = [line for line in done.output.splitlines() if line.startswith(" mapping")]
        assert row.split()[1] in ("3600000.0", "admitted")


def test_a_simulation_names_tasks_as_the_file_does(tmp_path: Path) -> None:
    specs = read_task_file(write(tmp_path, VEHICLE))
    report = simulate(specs, parse_device("1540MiB", "6GB/s", None), Course(horizon_ns=10**9))
    [reason] = [task.reason for task in report.tasks if task.reason]
    assert '"detector"' in reason
    assert "@" not in reason


def test_a_simulation_does_not_blame_promises_for_faults(tmp_path: Path) -> None:
    path = str(write(tmp_path, VEHICLE))
    flags = ["--budget", "2500MiB", "--link", "24GB/s", "--horizon", "5s"]
    done = CliRunner().invoke(app, ["simulate", path, *flags, "--faults", "2"])
    assert done.exit_code == 1
    assert "none holds for tasks that faults meet" in done.output
    done = CliRunner().invoke(app, ["simulate", path, *flags])
    assert "faults" not in done.output


def test_a_simulation_names_whom_nothing_was_promised(tmp_path: Path) -> None:
    path = str(write(tmp_path, VEHICLE))
    done = CliRunner().invoke(
        app, ["simulate", path, "--budget", "1GiB", "--link", "24GB/s", "--horizon", "1s"]
    )
    assert done.exit_code == 1
    assert "nothing was promised to planner" in done.output
    assert "every promise was kept" in done.output
