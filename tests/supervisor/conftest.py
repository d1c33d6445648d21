"""An application in its own folder, and a fleet of real processes that serve it."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from djserve.conf.parser import parse
from djserve.net.channel import Channel, Message
from djserve.supervisor.fleet import Fleet
from djserve.supervisor.processes import Launcher, Loader, Worker
from djserve.supervisor.signals import Watcher
from djserve.supervisor.spawner import Spawner
from djserve.supervisor.status import render_figures
from tests.supervisor.fakes import Troop
from tests.support.binding import bind

APPLICATION = """
import asyncio, os, time

async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("HTTP only")
    if scope["path"] == "/block":
        print("blocked", flush=True)
        time.sleep(600)
    if scope["path"] == "/hold":
        print("held", flush=True)
        while not os.path.exists("released"):
            await asyncio.sleep(0.01)
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""

DEADLINE = 120.0


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
        self.sockets = bind(self.config)
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
        spawner = Spawner(launcher, self.watcher)
        self.fleet = Fleet(
            self.config.workers,
            self.config.lifecycle,
            spawner,
            self.watcher,
            workers,
            render=render_figures,
        )

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


@pytest.fixture
def make_troop() -> Iterator[Callable[..., Troop]]:
    """Give ``make_troop(workers, **settings)``: a fleet without processes."""
    troops: list[Troop] = []

    def make(target: int, **settings: object) -> Troop:
        troops.append(Troop(target, **settings))
        return troops[-1]

    yield make
    for troop in troops:
        troop.close()


@pytest.fixture
def hear() -> Callable[[Channel], Message]:
    """Give ``hear(channel)``: the next message, EOFError once the peer is gone."""
    heard: dict[Channel, list[Message]] = {}

    def hear(channel: Channel) -> Message:
        waiting = heard.setdefault(channel, [])
        deadline = time.monotonic() + DEADLINE
        while not waiting:
            assert time.monotonic() < deadline, "nothing came"
            channel.flush()
            select.select([channel], [], [], 0.05)
            waiting += channel.receive()
        return waiting.pop(0)

    return hear


@pytest.fixture
def make_launcher(project: Path) -> Iterator[Callable[..., Launcher]]:
    """Give ``make_launcher(*options)``: one whose loaders load app.py."""
    sockets = bind(parse({"BIND": ["127.0.0.1:0"]}))

    def make(*options: str) -> Launcher:
        arguments = [sys.executable, "-m", "djserve", "app:application", *options]
        numbers = [sock.fileno() for sock in sockets]
        return Launcher(parse({}).workers, numbers, arguments, str(project))

    yield make
    for sock in sockets:
        sock.close()


@pytest.fixture
def start_loader(
    make_launcher: Callable[..., Launcher],
) -> Iterator[Callable[..., Loader]]:
    """Give ``start_loader(*options)``: a loader process, ended after the test."""
    loaders: list[Loader] = []

    def start(*options: str) -> Loader:
        loaders.append(make_launcher(*options).start())
        return loaders[-1]

    yield start
    for loader in loaders:
        loader.close()
        end(loader.process)


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker that has no process yet."""
    worker = Worker(7, 1, time.monotonic())
    yield worker
    worker.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was told to end; kill it where it does not."""
    try:
        process.wait(120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
