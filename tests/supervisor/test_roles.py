"""Which processes there are for which settings."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from djserve.conf.parser import parse
from djserve.errors import ConfigError
from djserve.supervisor.roles import (
    find_supervised,
    needs_supervisor,
    require_processes,
)

StartServer = Callable[..., Any]

LATE_SETTINGS = """
from djserve.conf.parser import parse
from djserve.supervisor.program import Loaded, Program
from djserve.supervisor.roles import run

async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("HTTP only")

config = parse({"BIND": ["127.0.0.1:%d"], "WORKERS": 1})
late = parse({"BIND": ["127.0.0.1:%d"], "WORKERS": 2})
raise SystemExit(run(config, Program(load=lambda: Loaded(application, (), late))))
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"WORKERS": 2},
        {"SUPERVISOR": "on"},
        {"RELOAD": True},
        {"USER": "www-data"},
        {"GROUP": "www-data"},
        {"CONTROL_SOCKET": "/run/control"},
        {"WORKER_MAX_REQUESTS": 100},
        {"WORKER_MAX_AGE": 60},
        {"WORKER_MAX_MEMORY": 10**9},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_setting_that_one_process_cannot_fulfil_asks_for_more(
    settings: dict[str, object],
) -> None:
    config = parse({"WORKERS": 1, **settings})

    assert needs_supervisor(config.workers, config.processes)
    assert find_supervised(config.workers, config.processes) == [*settings]


def test_service_manager_that_waits_asks_for_a_supervisor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = parse({"WORKERS": 1})
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not needs_supervisor(config.workers, config.processes)
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")

    assert needs_supervisor(config.workers, config.processes)
    assert find_supervised(config.workers, config.processes) == []


def test_management_command_needs_the_settings_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = {"a": {"command": ["db_worker", "-v", "2"]}, "b": {"program": ["true"]}}
    config = parse({"PROCESSES": entries})
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "mysite.settings")
    require_processes(config.workers, config.processes)
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    with pytest.raises(ConfigError) as caught:
        require_processes(config.workers, config.processes)
    (problem,) = caught.value.problems
    assert "a runs the management command 'db_worker -v 2'" in problem
    assert "DJANGO_SETTINGS_MODULE is not set" in problem


def test_one_worker_needs_no_supervisor() -> None:
    config = parse({"WORKERS": 1})

    assert not needs_supervisor(config.workers, config.processes)


@pytest.mark.e2e
def test_one_worker_is_served_by_the_process_itself(
    start_server: StartServer, project: Path, free_port: int
) -> None:
    address = f"127.0.0.1:{free_port}"
    server = start_server(
        *("-m", "djserve", "app:application", "--workers", "1", "--bind", address),
        port=free_port,
        cwd=project,
    )

    assert server.stop() == 0
    assert "Listening on" in server.output
    assert "Supervisor" not in server.output


@pytest.mark.e2e
def test_process_with_the_variable_of_a_loader_is_a_child(project: Path) -> None:
    ours, theirs = socket.socketpair()
    # Its supervisor is gone already, so that it has nothing to do.
    ours.close()
    process = subprocess.run(
        [sys.executable, "-m", "djserve", "app:application", "--no-preload"],
        cwd=project,
        env={**os.environ, "DJSERVE_LOADER": f"0,{theirs.fileno()}"},
        pass_fds=[theirs.fileno()],
        capture_output=True,
        timeout=300,
    )
    theirs.close()

    assert process.returncode == 0, process.stderr
    assert b"Listening on" not in process.stderr


@pytest.mark.e2e
def test_number_of_workers_that_comes_too_late_is_warned_of(
    start_server: StartServer, project: Path, free_port: int
) -> None:
    script = project / "serve.py"
    # Bound to the late settings' port, since the application brought these along.
    script.write_text(LATE_SETTINGS % (0, free_port))
    server = start_server(str(script), port=free_port)

    assert server.stop() == 0
    assert "One process runs: give --workers" in server.output
