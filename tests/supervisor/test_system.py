"""What a process adopts, and the name that the system shows, in real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

PRELUDE = """
import ctypes, os, signal, subprocess, sys
from djserve.supervisor.system import reap_others

def end_child(code):
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid
"""

# PR_SET_CHILD_SUBREAPER outlasts exec and is not inherited: a process 1 in miniature.
ADOPTING = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

# Its child leaves a process behind, which ends once the pipe "gate" is opened.
APPLICATION = """
import os, subprocess

ORPHAN = "(echo started > gate; read line < gate) & echo $! > orphan.new"

async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("HTTP only")
    subprocess.run(["sh", "-c", ORPHAN], check=True)
    os.rename("orphan.new", "orphan")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""

DEADLINE = 120.0


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_others_are_reaped_with_their_exit_codes() -> None:
    output = run("""
pids = [end_child(0), end_child(3)]
print(sorted(reap_others([])) == [(pids[0], 0), (pids[1], 3)])
print(list(reap_others([])))
""")

    assert output == "True\n[]\n"


def test_end_by_a_signal_is_a_negative_code() -> None:
    output = run("""
process = subprocess.Popen(["sleep", "600"])
process.kill()
os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
print(list(reap_others([])) == [(process.pid, -signal.SIGKILL)])
process.wait()
""")

    assert output == "True\n"


def test_own_child_keeps_its_status() -> None:
    output = run("""
process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
print(list(reap_others([process.pid])), process.wait())
""")

    assert output == "[] 7\n"


def test_system_without_waitid_reaps_none() -> None:
    # As macOS with a Python before 3.13.
    output = run("""
process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
del os.waitid
print(list(reap_others([])), process.wait())
""")

    assert output == "[] 7\n"


def test_child_that_runs_is_left_alone() -> None:
    output = run("""
process = subprocess.Popen(["sleep", "600"])
print(list(reap_others([])), process.poll())
process.kill()
process.wait()
""")

    assert output == "[] None\n"


@pytest.fixture
def adopting(
    start_server: Callable[..., Any],
    tmp_path: Path,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """A supervisor with one worker, that adopts what its children leave behind."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    (tmp_path / "app.py").write_text(APPLICATION)
    os.mkfifo(tmp_path / "gate")
    words = ("-m", "djserve", "app:application", "--supervisor", "on")
    bind = ("--bind", f"127.0.0.1:{free_port}")
    server = start_server("-c", ADOPTING, *words, *bind, port=free_port, cwd=tmp_path)
    wait_for(lambda: "Supervisor" in server.output)
    return server


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def parent_of(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets adopt")
def test_orphan_of_the_application_is_reaped(adopting: Any, tmp_path: Path) -> None:
    from urllib.request import urlopen

    urlopen(adopting.url, timeout=DEADLINE).close()
    orphan = int((tmp_path / "orphan").read_text())
    with (tmp_path / "gate").open() as gate:
        assert gate.readline() == "started\n"
        assert parent_of(orphan) == adopting.process.pid
    (tmp_path / "gate").write_text("end\n")

    wait_for(lambda: not Path(f"/proc/{orphan}").exists())
    assert adopting.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets adopt")
def test_statuses_of_own_processes_are_still_known(adopting: Any) -> None:
    (worker,) = map(int, re.findall(r"process (\d+)\) is ready", adopting.output))
    loader = parent_of(worker)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: adopting.output.count("is ready") == 2)
    os.kill(loader, signal.SIGKILL)
    wait_for(lambda: "The loader was ended by SIGKILL" in adopting.output)

    assert f"(process {worker}) was ended by SIGKILL unexpectedly" in adopting.output


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets adopt")
def test_worker_without_its_loader_is_reaped(adopting: Any) -> None:
    (worker,) = map(int, re.findall(r"process (\d+)\) is ready", adopting.output))
    os.kill(parent_of(worker), signal.SIGKILL)
    wait_for(lambda: parent_of(worker) == adopting.process.pid)
    os.kill(worker, signal.SIGKILL)

    wait_for(lambda: not Path(f"/proc/{worker}").exists())
    wait_for(lambda: adopting.output.count("is ready") == 2)
    assert adopting.stop() == 0


only_linux = pytest.mark.skipif(
    not os.path.exists("/proc/self/comm"), reason="only Linux has /proc"
)

WITHOUT_PACKAGE = "import sys; sys.modules['setproctitle'] = None\n"


def name_itself(role: str, file: str, before: str = "") -> str:
    """Return what /proc says of a process that has taken the role."""
    program = (
        f"{before}from djserve.supervisor.system import set_title\n"
        f"set_title({role!r})\n"
        f"print(open('/proc/self/{file}').read().strip('\\0\\n'))\n"
    )
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300
    ).stdout.strip()


@only_linux
def test_command_line_is_the_role() -> None:
    assert name_itself("supervisor", "cmdline") == "djserve: supervisor"


@only_linux
def test_without_the_package_the_short_name_is_set() -> None:
    assert name_itself("loader", "comm", WITHOUT_PACKAGE) == "djserve: loader"


@only_linux
def test_short_name_is_cut_where_the_system_cuts_it() -> None:
    name = name_itself("supervisor", "comm", WITHOUT_PACKAGE)

    assert name == "djserve: superv"
