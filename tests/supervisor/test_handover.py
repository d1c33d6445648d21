"""A process that hands over to itself, and what it keeps of the project's logging."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from djserve.supervisor.handover import find_logging

# Becomes another program, which tells what it has got, instead of the supervisor.
SCRIPT = """
import os, signal, sys, threading
from djserve.conf.parser import parse
from djserve.supervisor import handover
handover.BOOTSTRAP = '''
import json, os, signal, sys, threading
sys.path[:] = {path!r}
from djserve.supervisor.handover import Handover, VARIABLE
taken = Handover.take()
print(json.dumps([
    os.getpid(), taken.config.workers.workers, taken.command[1:], taken.logging,
    threading.active_count(), "SET_BY_PROJECT" in os.environ, VARIABLE in os.environ,
    signal.SIGHUP in signal.sigpending(), sys.flags.dev_mode, sys.argv[1:],
]))
'''
os.environ["SET_BY_PROJECT"] = "1"
print(os.getpid(), flush=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
threading.Thread(target=threading.Event().wait, daemon=True).start()
os.kill(os.getpid(), signal.SIGHUP)
config = parse({"WORKERS": 3})
handover.Handover(config, {"version": 1}, "", False, None).become()
"""


@pytest.mark.e2e
def test_process_becomes_another_program_and_keeps_what_it_needs(
    tmp_path: Path,
) -> None:
    script = tmp_path / "serve.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-X", "dev", str(script), "--workers", "3"]
    output = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=True
    ).stdout
    pid, told = output.splitlines()

    same_pid, workers, given, logging, threads, *more = json.loads(told)
    is_changed, has_variable, is_pending, is_dev, arguments = more

    assert same_pid == int(pid)
    assert (workers, given, logging) == (3, command[1:], {"version": 1})
    assert threads == 1
    assert not is_changed
    assert not has_variable
    assert is_pending
    assert is_dev
    assert arguments[-2:] == ["--workers", "3"]


def formatter(name: str) -> dict[str, Any]:
    return {"version": 1, "formatters": {"own": {"()": name}}}


def test_logging_of_the_library_is_handed_over() -> None:
    given = {
        "version": 1,
        "handlers": {
            "file": {"class": "logging.FileHandler", "filename": Path("/var/log/a")}
        },
    }
    found, problem = find_logging(given)

    assert problem == ""
    assert found is not None
    assert found["handlers"]["file"]["filename"] == "/var/log/a"
    assert find_logging(formatter("django.utils.log.ServerFormatter"))[1] == ""
    assert find_logging({}) == (None, "")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            formatter("tests.support.logs.Formatter"),
            "tests.support.logs.Formatter is the project's own",
        ),
        (formatter("no_such_package.F"), "no_such_package.F is the project's own"),
        ({"version": 1, "filters": {"own": {"()": print}}}, "not"),
    ],
    ids=["project", "missing", "callable"],
)
def test_logging_of_the_project_is_not(given: dict[str, Any], reason: str) -> None:
    found, problem = find_logging(given)

    assert found is None
    assert reason in problem


@pytest.mark.e2e
def test_signals_wait_in_a_process_that_holds_them() -> None:
    code = (
        "import os, signal\n"
        "from djserve.supervisor.signals import hold_signals\n"
        "hold_signals()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print(signal.SIGTERM in signal.sigpending())\n"
    )
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True)

    assert output.stdout == "True\n"
    assert signal.SIGTERM not in signal.sigpending()


CODE = """
import sys
from djserve.conf.parser import parse
from djserve.supervisor.handover import Handover
config = parse({"BIND": ["127.0.0.1:0"], "WORKERS": 2, "PID_FILE": "/no/such/folder"})
command = [sys.executable, "-c", ""]
Handover(config, {"version": 1, "handlers": 5}, "", False, "UTC", command).become()
"""


@pytest.mark.e2e
def test_wrong_setting_and_logging_are_told_by_the_new_program() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300
    )

    assert ended.returncode == 2
    assert (
        "djserve: error: PID_FILE '/no/such/folder' cannot be written" in ended.stderr
    )
    assert "The supervisor logs without LOGGING: " in ended.stderr
