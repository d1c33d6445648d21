from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from djserve.conf.parser import parse
from djserve.conf.processes import ProcessConfig
from djserve.supervisor.commands import (
    CommandLauncher,
    CommandProcess,
    management_options,
    management_prefix,
)
from djserve.supervisor.signals import Watcher

pytestmark = pytest.mark.e2e


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def launcher(
    watcher: Watcher, lines: list[tuple[str, str]]
) -> Iterator[CommandLauncher]:
    launcher = CommandLauncher(
        parse({}).workers, watcher, log=lambda name, text: lines.append((name, text))
    )
    yield launcher
    launcher.close()


def run(code: str) -> ProcessConfig:
    program = (sys.executable, "-c", textwrap.dedent(code))
    return ProcessConfig(name="tasks", program=program)


def wait_for(condition: Callable[[], object], watcher: Watcher) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        watcher.run(0.05)


def wait_for_end(process: CommandProcess, watcher: Watcher) -> int:
    codes: list[int | None] = []

    def is_ended() -> bool:
        codes.append(process.poll())
        return codes[-1] is not None

    wait_for(is_ended, watcher)
    process.close()
    assert codes[-1] is not None
    return codes[-1]


def test_each_line_is_logged_under_the_name(
    launcher: CommandLauncher, watcher: Watcher, lines: list[tuple[str, str]]
) -> None:
    code = """
    import os, sys
    print(os.environ["DJSERVE_PROCESS_NAME"])
    print("error", file=sys.stderr)
    print("last", end="")
    sys.exit(3)
    """
    process = launcher.start(run(code), "tasks 1")
    assert wait_for_end(process, watcher) == 3
    assert sorted(lines) == [
        ("tasks 1", "error"),
        ("tasks 1", "last"),
        ("tasks 1", "tasks"),
    ]


def test_kill_ends_what_the_process_has_started(
    launcher: CommandLauncher, watcher: Watcher, lines: list[tuple[str, str]]
) -> None:
    code = """
    import subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    print(child.pid)
    child.wait()
    """
    process = launcher.start(run(code), "tasks 1")
    wait_for(lambda: lines, watcher)
    child = int(lines[0][1])
    process.kill()
    assert wait_for_end(process, watcher) == -signal.SIGKILL
    wait_for(lambda: not is_alive(child), watcher)


def is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    code = f"""
    import sys, time
    from djserve.conf.parser import parse
    from djserve.conf.processes import ProcessConfig
    from djserve.supervisor.commands import CommandLauncher
    from djserve.supervisor.signals import Watcher
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); "
    stubborn += "open({str(tmp_path / "ready")!r}, 'w').close(); time.sleep(600)"
    program = (sys.executable, "-c", stubborn)
    config = ProcessConfig(name="tasks", program=program, stop_timeout=1)
    launcher = CommandLauncher(parse({{}}).workers, Watcher())
    process = launcher.start(config, "tasks 1")
    print(process.pid, *launcher.pids, flush=True)
    time.sleep(600)
    """
    supervisor = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert supervisor.stdout is not None
    with supervisor.stdout:
        pids = [int(word) for word in supervisor.stdout.readline().split()]
    assert len(pids) == 2
    watcher = Watcher()
    wait_for((tmp_path / "ready").exists, watcher)
    supervisor.kill()
    supervisor.wait()
    wait_for(lambda: not any(map(is_alive, pids)), watcher)


def test_program_that_is_missing_is_an_oserror(launcher: CommandLauncher) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="no-such-program"):
        launcher.start(ProcessConfig(name="a", program=("no-such-program",)), "a 1")
    assert len(os.listdir("/proc/self/fd")) == before


def test_management_commands_run_as_this_one_does() -> None:
    words = ["python", "-X", "dev", "manage.py", "runasgi", "--settings", "a.b"]
    assert management_prefix(words) == ["python", "-X", "dev", "manage.py"]
    assert management_options(words) == ["--settings=a.b"]
    own = [sys.executable, "-m", "django"]
    assert management_prefix(["python", "-m", "djserve", "app:a"]) == own
