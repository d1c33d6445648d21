"""PROCESSES under ``manage.py runserver``, as a developer sees them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.project import LOOK_OFTEN, add_settings, make_project
from tests.e2e.workers import wait_for

pytestmark = pytest.mark.e2e

COMMAND = """
import os, subprocess, sys, time
from django.core.management.base import BaseCommand

WORD = "first"

class Command(BaseCommand):
    def handle(self, **options):
        code = "import time; time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", code])
        print(WORD, "RUN_MAIN" in os.environ, f"pids {os.getpid()} {child.pid}")
        time.sleep(600)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = make_project(tmp_path / "project")
    commands = folder / "shop" / "management" / "commands"
    commands.mkdir(parents=True)
    (commands / "work.py").write_text(COMMAND)
    add_settings(
        folder,
        'INSTALLED_APPS = ["djserve", "shop", *INSTALLED_APPS]',
        'ASGI_APPLICATION = "mysite.asgi.application"',
        'DJSERVE = {"PROCESSES": {"work": {"command": ["work"]}}}',
        LOOK_OFTEN,
    )
    return folder


class Developer:
    """A runserver in its own session, as a terminal has it."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self._log = folder / "log"
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": "mysite.settings"}
        # What is printed has to reach a file without it.
        env.pop("PYTHONUNBUFFERED", None)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "runserver", *options, str(port)],
                cwd=folder,
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def pids(self) -> set[int]:
        """All that has told its number."""
        lines = re.findall(r"pids (\d+) (\d+)", self.output)
        keepers = re.findall(r"is started \(process (\d+)\)", self.output)
        return {int(pid) for pair in [*lines, keepers] for pid in pair}

    def interrupt(self) -> None:
        """Do as the terminal does at Control-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def started() -> Iterator[list[Developer]]:
    # A shell's background job ignores SIGINT, and its children inherit that.
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    started: list[Developer] = []
    yield started
    signal.signal(signal.SIGINT, old)
    for developer in started:
        developer.kill()


@pytest.mark.parametrize("options", [(), ("--noasgi",)], ids=["asgi", "wsgi"])
def test_both_are_reloaded_and_nothing_is_left(
    options: tuple[str, ...],
    project: Path,
    free_port: int,
    started: list[Developer],
) -> None:
    server = Developer(project, free_port, *options)
    started.append(server)
    wait_for(lambda: "work 1: first False pids" in server.output)
    first = server.pids
    work = project / "shop" / "management" / "commands" / "work.py"
    later = work.stat().st_mtime + 2
    work.write_text(COMMAND.replace("first", "second"))
    os.utime(work, (later, later))
    wait_for(lambda: "work 1: second False pids" in server.output)

    assert not any(map(is_alive, first))
    assert "work.py changed, reloading." in server.output
    assert "work 1 is started" in server.output
    assert httpx.get(server.url, timeout=120).status_code == 200
    server.interrupt()
    assert server.process.wait(120) == 0
    # With the prompt everything has ended.
    assert not any(map(is_alive, server.pids))
    assert "Traceback" not in server.output


def test_nothing_outlives_a_killed_reloader(
    project: Path, free_port: int, started: list[Developer]
) -> None:
    server = Developer(project, free_port)
    started.append(server)
    wait_for(lambda: "work 1: first False pids" in server.output)
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not any(map(is_alive, server.pids)))
    wait_for(lambda: is_refused(server.url))


def is_refused(url: str) -> bool:
    try:
        httpx.get(url, timeout=120)
    except httpx.HTTPError:
        return True
    return False


def test_without_the_reloader_they_end_first(
    project: Path, free_port: int, started: list[Developer]
) -> None:
    server = Developer(project, free_port, "--noreload")
    started.append(server)
    wait_for(lambda: "work 1: first False pids" in server.output)
    server.interrupt()
    assert server.process.wait(120) == 0
    assert not any(map(is_alive, server.pids))


def test_they_can_be_left_out(
    project: Path, free_port: int, started: list[Developer]
) -> None:
    server = Developer(project, free_port, "--noreload", "--no-processes")
    started.append(server)
    wait_for(lambda: "Quit the server" in server.output)
    wait_for(lambda: not is_refused(server.url))
    server.interrupt()
    assert server.process.wait(120) == 0
    assert "is started" not in server.output
