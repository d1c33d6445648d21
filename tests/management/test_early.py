"""Commands of a project whose apps do harm when they are loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.project import add_settings, make_project
from tests.server.test_first_signals import send_some, wait_until_held

pytestmark = pytest.mark.e2e

Run = Callable[..., "subprocess.CompletedProcess[str]"]

TELLS = """
import os
from django.apps import AppConfig
import djserve

class Config(AppConfig):
    name = "jobs"

    def ready(self):
        with open("ready.txt", "a") as file:
            file.write(f"{os.getpid()} {djserve.is_worker()}\\n")
"""
ENDS = """
import sys
from django.apps import AppConfig

class Config(AppConfig):
    name = "jobs"

    def ready(self):
        sys.exit(0)
"""
HANGS = ENDS.replace("sys.exit(0)", "__import__('time').sleep(600)")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with an app ``jobs`` behind djserve's; a test writes its apps.py."""
    folder = make_project(tmp_path / "project")
    apps = 'INSTALLED_APPS = ["djserve", *INSTALLED_APPS, "jobs"]'
    add_settings(folder, apps, "DEBUG = False")
    add_settings(folder, 'ASGI_APPLICATION = "mysite.asgi.application"')
    add_settings(folder, 'ALLOWED_HOSTS = ["*"]')
    (folder / "jobs").mkdir()
    (folder / "jobs" / "__init__.py").touch()
    return folder


def start(project: Path, *words: str) -> subprocess.Popen[bytes]:
    log = (project / "log").open("ab")
    with log:
        return subprocess.Popen(
            [sys.executable, "manage.py", *words],
            cwd=project,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "mysite.settings"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture
def run(project: Path) -> Run:
    """Give ``run(*words)``: what a command of the project's has done."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        process = start(project, *words)
        code = process.wait(300)
        output = (project / "log").read_text()
        (project / "log").unlink()
        return subprocess.CompletedProcess(words, code, output, "")

    return run


def wait_for(project: Path, text: str, count: int = 1) -> None:
    deadline = time.monotonic() + 120
    while (output := (project / "log").read_text()).count(text) < count:
        assert time.monotonic() < deadline, output
        assert "Stopping" not in output, output
        time.sleep(0.02)


def ready_calls(project: Path) -> list[list[str]]:
    """Return the process and the answer of ``is_worker`` of each ready()."""
    path = project / "ready.txt"
    return [line.split() for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        (("--workers", "2"), 1),
        (("--workers", "2", "--no-preload"), 2),
        (("--workers", "1", "--supervisor", "on"), 1),
    ],
    ids=["preload", "no-preload", "one"],
)
def test_apps_are_not_loaded_in_the_supervisor(
    project: Path, free_port: int, options: tuple[str, ...], calls: int
) -> None:
    (project / "jobs" / "apps.py").write_text(TELLS)
    server = start(project, "runasgi", str(free_port), *options)
    try:
        wait_for(project, f"Supervisor {server.pid}")
        assert len(ready_calls(project)) == calls
        server.send_signal(signal.SIGHUP)
        wait_for(project, "All workers run the new code")
    finally:
        server.terminate()
        assert server.wait(120) == 0

    told = ready_calls(project)
    assert len(told) == 2 * calls
    assert str(server.pid) not in {pid for pid, _ in told}
    assert {is_worker for _, is_worker in told} == {"True"}


def test_process_that_serves_alone_is_a_worker(project: Path, free_port: int) -> None:
    (project / "jobs" / "apps.py").write_text(TELLS)
    server = start(project, "runasgi", str(free_port))
    wait_for(project, "Listening on")
    server.terminate()

    assert server.wait(120) == 0
    assert ready_calls(project) == [[str(server.pid), "True"]]


def test_process_of_another_command_is_no_worker(project: Path, run: Run) -> None:
    (project / "jobs" / "apps.py").write_text(TELLS)

    assert run("check").returncode == 0
    assert [is_worker for _, is_worker in ready_calls(project)] == ["False"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_project_that_ends_the_process_is_an_error(
    project: Path, run: Run, free_port: int, workers: str
) -> None:
    (project / "jobs" / "apps.py").write_text(ENDS)
    ended = run("runasgi", str(free_port), "--workers", workers)

    assert ended.returncode != 0
    assert "loading the app" in ended.stdout.lower()


def test_project_that_hangs_ends_the_start_at_its_deadline(
    project: Path, run: Run, free_port: int
) -> None:
    (project / "jobs" / "apps.py").write_text(HANGS)
    limit = ("--worker-start-timeout", "3")
    ended = run("runasgi", str(free_port), "--workers", "2", *limit)

    assert ended.returncode == 1
    assert "took longer than WORKER_START_TIMEOUT" in ended.stdout


def test_failed_check_is_told_once_and_ends_the_start(
    project: Path, run: Run, free_port: int
) -> None:
    (project / "jobs" / "apps.py").write_text(TELLS)
    add_settings(project, 'ASGI_APPLICATION = "mysite.nothing.application"')
    ended = run("runasgi", str(free_port), "--workers", "2", "--no-preload")

    assert ended.returncode == 2
    assert ended.stdout.count("djserve.E004") == 1


@pytest.mark.parametrize("code", [ENDS, "import sys\nsys.exit(0)\n", "def broken(:\n"])
def test_control_command_works_on_a_project_that_does_not_load(
    project: Path, free_port: int, code: str
) -> None:
    apps = project / "jobs" / "apps.py"
    apps.write_text(TELLS)
    server = start(
        project, "runasgi", str(free_port), "--workers", "1", "--control-socket", "ctl"
    )
    try:
        wait_for(project, "Supervisor")
        apps.write_text(code)
        for words in (["manage.py", "djserve"], ["-m", "djserve.control"]):
            command = [sys.executable, *words, "--control-socket", "ctl"]
            reload, status = (
                subprocess.run(
                    [*command, word],
                    cwd=project,
                    env={**os.environ, "DJANGO_SETTINGS_MODULE": "mysite.settings"},
                    capture_output=True,
                    text=True,
                    timeout=300,
                )
                for word in ("reload", "status")
            )
            assert reload.returncode == 1, reload
            assert "The old workers stay: " in reload.stderr
            assert status.returncode == 0
            assert "1 of 1 worker ready, generation 1" in status.stdout
    finally:
        server.terminate()
        assert server.wait(120) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_signals_while_the_project_is_loaded_end_nothing(
    project: Path, free_port: int, workers: str
) -> None:
    (project / "jobs" / "apps.py").write_text(TELLS)
    server = start(project, "runasgi", str(free_port), "--workers", workers)
    wait_until_held(server)
    for _ in range(2):
        send_some(server)
    wait_for(project, "Listening on")
    server.terminate()

    assert server.wait(120) == 0
