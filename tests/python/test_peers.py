"""Who may use a daemon: other users, other PID namespaces, processes with few descriptors."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import rtswap
from tests.support.daemon import Daemon
from tests.support.worker import Worker

RTSWAPD = Path(rtswap.__file__).parent / "bin" / "rtswapd"
pytestmark = pytest.mark.skipif(
    not RTSWAPD.exists(),
    reason="built without the daemon",
)
ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534

PROGRAM = """
import os, resource, sys
import rtswap
{first}
try:
    print("enabled", rtswap.enable(sys.argv[1]).connected)
    {then}
except (rtswap.Error, KeyboardInterrupt) as error:
    print(type(error).__name__, error)
"""


def start(socket: str, first: str = "", then: str = "pass") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", PROGRAM.format(first=first, then=then), socket],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(socket: str, first: str) -> str:
    return start(socket, first).communicate(timeout=120)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_with_the_reason():
    become_another = f"os.setuid({NOBODY})"
    with Daemon("--simulate", "16MiB") as daemon:
        refused = answer(daemon.socket, become_another)
        assert refused.startswith("DaemonUnavailable")
        assert "serves another user" in refused
        assert "--group" in refused
        # Where somebody has opened folder and socket, the daemon still asks the kernel who it is.
        Path(daemon.socket).parent.chmod(0o755)
        Path(daemon.socket).chmod(0o666)
        Path(daemon.socket + ".fds").chmod(0o666)
        assert answer(daemon.socket, become_another).startswith("DaemonUnavailable")
        assert "turned away process" in daemon.read_log()
        assert answer(daemon.socket, "") == "enabled True\n"


def test_too_few_descriptors_are_named_with_the_remedy():
    few = "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))"
    with Daemon("--simulate", "1GiB", "--chunk", "2MiB") as daemon:
        refused = answer(daemon.socket, few)
        assert refused.startswith("DescriptorLimit")
        assert "512 descriptors of chunks" in refused
        assert "ulimit" in refused
        assert answer(daemon.socket, "") == "enabled True\n"


def test_check_counts_the_files_that_simulated_chunks_are():
    simulated = ["--simulate", "1GiB", "--chunk", "2MiB"]  # 512 chunks
    done = subprocess.run(
        [RTSWAPD, "check", *simulated],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (800, 800)),
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(r"FAIL +1024 descriptors of chunks .* is 800;", done.stdout), done.stdout


def may_unshare() -> bool:
    try:
        done = subprocess.run(["unshare", "-p", "-f", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="needs a PID namespace of its own")
def test_a_client_in_another_pid_namespace_is_served_and_its_death_seen():
    with Daemon("--simulate", "12MiB", "--link-bandwidth", "2GB") as daemon, ExitStack() as stack:
        other = stack.enter_context(Worker("unshare", "-p", "-f", "--kill-child"))
        here = stack.enter_context(Worker())
        assert other.call("enable", socket=daemon.socket)["pid"] == 1
        here.call("enable", socket=daemon.socket)
        for worker, name in ((other, "other"), (here, "here")):
            worker.call("register", model="small", name=name)
            assert worker.call("jobs", count=2)[-1]["exact"]
        other.send("hold")
        assert other.receive() == "holding"
        here.send("jobs", count=2)
        other.kill()
        assert all(job["exact"] for job in here.receive())


def test_ctrl_c_ends_a_request_to_a_daemon_that_hangs():
    with Daemon("--simulate", "16MiB") as daemon:
        client = start(daemon.socket, then="while True: rtswap.stats(timeout=600)")
        assert client.stdout is not None
        assert client.stdout.readline() == "enabled True\n"
        daemon.suspend()
        try:
            client.send_signal(signal.SIGINT)
            assert client.communicate(timeout=120)[0].startswith("KeyboardInterrupt")
        finally:
            daemon.resume()
