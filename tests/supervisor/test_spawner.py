"""A spawner of real loaders, whose events are remembered."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from djserve.supervisor.processes import Launcher, Loader, Worker
from djserve.supervisor.rollout import Generation
from djserve.supervisor.signals import Watcher
from djserve.supervisor.spawner import Spawner

pytestmark = pytest.mark.e2e


class Home:
    """A spawner, its events and the loop that both need."""

    def __init__(self, launcher: Launcher) -> None:
        self.watcher = Watcher()
        self.spawner = Spawner(launcher, self.watcher)
        self.spawner.report_to(self)
        self.known: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        self.ended_loaders: dict[Loader, int] = {}
        self.loaded = 0

    def process_known(self, number: int, pid: int, /) -> None:
        self.known[number] = pid

    def process_ended(self, pid: int, code: int, /) -> None:
        self.ended[pid] = code

    def loader_ended(self, loader: Loader, code: int, /) -> None:
        self.ended_loaders[loader] = code

    def run_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, vars(self)
            self.watcher.run(0.02)
            self.spawner.poll()

    def load(self) -> Generation:
        """Return a generation that is loaded."""
        base = self.spawner.start_loader(self.count)
        self.run_until(lambda: self.loaded)
        return Generation(1, base)

    def count(self) -> None:
        self.loaded += 1

    def end(self) -> None:
        self.spawner.quit()
        for loader in self.spawner.loaders:
            loader.process.terminate()
        self.run_until(lambda: not self.spawner.loaders)


MakeHome = Callable[..., Home]


@pytest.fixture
def make_home(make_launcher: Callable[..., Launcher]) -> Iterator[MakeHome]:
    homes: list[Home] = []

    def make(*options: str) -> Home:
        homes.append(Home(make_launcher(*options)))
        return homes[-1]

    yield make
    for home in homes:
        home.end()


def test_loader_that_has_the_application_is_told_of(make_home: MakeHome) -> None:
    home = make_home()
    generation = home.load()

    assert generation.base is not None
    assert generation.base.can_fork
    assert home.loaded == 1


def test_worker_is_forked_where_that_is_safe(
    make_home: MakeHome, worker: Worker
) -> None:
    home = make_home()
    generation = home.load()
    home.spawner.place(worker, generation)
    home.run_until(lambda: home.known)

    assert generation.base is not None
    assert worker.loader is generation.base
    assert home.known[worker.number] != generation.base.process.pid


def test_end_of_a_forked_worker_is_told(make_home: MakeHome, worker: Worker) -> None:
    home = make_home()
    home.spawner.place(worker, home.load())
    home.run_until(lambda: home.known)
    pid = home.known[worker.number]
    os.kill(pid, signal.SIGKILL)
    home.run_until(lambda: home.ended)

    assert home.ended == {pid: -signal.SIGKILL}


def test_loader_that_cannot_fork_becomes_the_first_worker(
    make_home: MakeHome, worker: Worker
) -> None:
    home = make_home("--no-preload")
    generation = home.load()
    base = generation.base
    home.spawner.place(worker, generation)

    assert base is not None
    assert (worker.loader, worker.pid) == (base, base.process.pid)
    assert generation.base is None


def test_without_a_loader_a_worker_gets_its_own(
    make_home: MakeHome, worker: Worker
) -> None:
    home = make_home()
    generation = Generation(1, None)
    home.spawner.place(worker, generation)
    (loader,) = home.spawner.loaders
    home.run_until(lambda: loader.channel.fileno() < 0)

    assert worker.loader is loader
    assert worker.pid == loader.process.pid
    assert generation.base is None


def test_what_a_loader_said_is_known_when_its_end_is_told(
    make_home: MakeHome, project: Path
) -> None:
    (project / "app.py").write_text("def broken(:\n")
    home = make_home()
    loader = home.spawner.start_loader(home.count)
    loader.process.wait(120)
    home.spawner.poll()

    assert home.ended_loaders == {loader: 2}
    assert "SyntaxError" in loader.problems[0]
    assert home.loaded == 0


def test_loader_that_still_loads_is_ended_at_once(
    make_home: MakeHome, project: Path
) -> None:
    (project / "app.py").write_text("import time\ntime.sleep(60)\n")
    home = make_home()
    loader = home.spawner.start_loader(home.count)
    home.spawner.quit()
    home.run_until(lambda: home.ended_loaders)

    assert home.ended_loaders == {loader: -signal.SIGTERM}
