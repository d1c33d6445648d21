from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from djserve.conf.processes import ProcessConfig
from djserve.supervisor.keeper import STOP_TIMEOUT, Keeper, read_entry
from tests.e2e.workers import wait_for

pytestmark = pytest.mark.e2e

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open("pid.new", "w") as file:
    file.write(str(os.getpid()))
os.rename("pid.new", "pid")
time.sleep(600)
"""


def keep(folder: Path, code: str = STUBBORN) -> Keeper:
    program = (sys.executable, "-c", f"import os; os.chdir({str(folder)!r})\n{code}")
    process = ProcessConfig(name="tasks", program=program, stop_timeout=0.1)
    return Keeper([process], {**os.environ, "GIVEN": "yes"})


def read_pid(folder: Path) -> int:
    wait_for((folder / "pid").exists)
    return int((folder / "pid").read_text())


def is_alive(pid: int | None) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def test_stop_returns_once_the_processes_have_ended(tmp_path: Path) -> None:
    keeper = keep(tmp_path)
    keeper.start()
    pid = read_pid(tmp_path)
    keeper.stop()
    assert not is_alive(pid)
    assert not is_alive(keeper.pid)


def test_nothing_starts_after_stop(tmp_path: Path) -> None:
    keeper = keep(tmp_path)
    keeper.stop()
    keeper.start()
    assert keeper.pid is None


def test_processes_have_the_given_environment(tmp_path: Path) -> None:
    code = "assert os.environ['GIVEN'] == 'yes'\n" + STUBBORN
    keeper = keep(tmp_path, code)
    keeper.start()
    pid = read_pid(tmp_path)
    keeper.stop()
    assert not is_alive(pid)


def kill_server(server: subprocess.Popen[bytes], keeper: int, process: int) -> None:
    server.kill()


def kill_keeper(server: subprocess.Popen[bytes], keeper: int, process: int) -> None:
    os.kill(keeper, signal.SIGKILL)


def end_keeper(server: subprocess.Popen[bytes], keeper: int, process: int) -> None:
    os.kill(keeper, signal.SIGTERM)


@pytest.mark.parametrize("act", [kill_server, kill_keeper, end_keeper])
def test_processes_outlive_neither_server_nor_keeper(
    act: Callable[[subprocess.Popen[bytes], int, int], None], tmp_path: Path
) -> None:
    code = f"""
    import os, sys, time
    from djserve.conf.processes import ProcessConfig
    from djserve.supervisor.keeper import Keeper
    program = (sys.executable, "-c", {STUBBORN!r})
    config = ProcessConfig(name="tasks", program=program, stop_timeout=0.1)
    keeper = Keeper([config], os.environ)
    keeper.start()
    print(keeper.pid, flush=True)
    time.sleep(600)
    """
    server = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert server.stdout is not None
    with server:
        keeper = int(server.stdout.readline())
        process = read_pid(tmp_path)
        act(server, keeper, process)
        wait_for(lambda: not is_alive(process) and not is_alive(keeper))
        server.kill()


def test_time_to_stop_is_bounded() -> None:
    entry = {
        "name": "tasks",
        "command": ["db_worker"],
        "program": [],
        "count": 2,
        "stop_timeout": 600.0,
        "overlap": False,
        "runserver": True,
    }
    assert read_entry(entry) == ProcessConfig(
        name="tasks", command=("db_worker",), count=2, stop_timeout=STOP_TIMEOUT
    )
