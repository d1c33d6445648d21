"""An application in its own folder, and a fleet of real processes that serve it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from djserve.conf.parser import parse
from djserve.net.binding import bind_all
from djserve.supervisor.fleet import Fleet
from djserve.supervisor.processes import Launcher
from djserve.supervisor.watcher import Watcher

APPLICATION = """
import os, time

async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("HTTP only")
    if scope["path"] == "/block":
        time.sleep(60)
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""

DEADLINE = 30.0


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with app.py, which a test may break."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


class Crew:
    """A fleet with the loop that its supervisor would run."""

    def __init__(self, project: Path, workers: int, **settings: object) -> None:
        self.config = parse({"BIND": ["127.0.0.1:0"], **settings})
        self.sockets = bind_all(self.config)
        arguments = [sys.executable, "-m", "djserve", "app:application"]
        if not self.config.workers.preload:
            arguments.append("--no-preload")
        launcher = Launcher(
            self.config.workers,
            [sock.fileno() for sock in self.sockets],
            arguments,
            str(project),
        )
        self.watcher = Watcher()
        self.fleet = Fleet(self.config, launcher, self.watcher, workers)

    def turn(self) -> None:
        """Run one turn of the loop."""
        self.watcher.run(0.02)
        self.fleet.poll()
        self.fleet.tick(time.monotonic())

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Turn until the condition holds."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, self.fleet.workers
            self.turn()

    def start(self) -> Crew:
        """Load the code and wait for the workers."""
        self.fleet.rollout.begin()
        self.run_until(lambda: self.fleet.is_complete)
        return self

    def ids(self) -> set[int | None]:
        """Return the process ids of the workers that serve."""
        return {worker.pid for worker in self.fleet.ready}

    def end(self) -> None:
        """Stop and wait for the last process."""
        self.fleet.stop()
        deadline = time.monotonic() + DEADLINE
        while not self.fleet.is_ended():
            if time.monotonic() > deadline:
                self.fleet.kill()
            self.turn()
        for sock in self.sockets:
            sock.close()


MakeCrew = Callable[..., Crew]


@pytest.fixture
def make_crew(project: Path) -> Iterator[MakeCrew]:
    """Give ``make_crew(workers, **settings)``: a crew that is ended after the test."""
    crews: list[Crew] = []

    def make(workers: int, **settings: object) -> Crew:
        crews.append(Crew(project, workers, **settings))
        return crews[-1]

    old = signal.getsignal(signal.SIGCHLD)
    yield make
    for crew in crews:
        crew.end()
    signal.signal(signal.SIGCHLD, old)
