"""What tasks are lost while workers are rolled and task workers are killed.

    python -m benchmarks.task_chaos [--tasks 1000] [--rolls 5] [--kills 5]

A project with django-tasks-db is served by two workers, with three task workers in
PROCESSES. While the tasks are done the supervisor gets SIGHUP, and task workers
SIGKILL, by turns. Every task writes its number down; lost is one that never did. All
the time pages are asked for, and the supervisor for its status.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.postgresql import running_postgresql
from benchmarks.processes import BenchmarkError
from benchmarks.task_site import count_runs, make_site
from benchmarks.transfers import free_port
from djserve.errors import ConfigError
from djserve.net.control import ask

TIMEOUT = 300.0
POLL_INTERVAL = 0.05


@dataclass
class Watch:
    """What was answered while all this went on."""

    pages: int = 0
    failed_pages: int = 0
    answers: int = 0
    failed_answers: int = 0
    slowest_answer: float = 0.0


class Site:
    """The project as it is served."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}/"
        self.control = str(folder / "control")
        self.watch = Watch()
        self._stop = threading.Event()

    def manage(self, *words: str) -> str:
        """Run a management command; return what it prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def status(self) -> dict[str, Any]:
        """Return the supervisor's status."""
        return dict(ask(self.control, {"command": "status"}, TIMEOUT))

    def task_workers(self) -> list[int]:
        """Return the processes that do tasks and are not about to end."""
        (tasks,) = (
            each for each in self.status()["processes"] if each["name"] == "tasks"
        )
        running = tasks["running"]
        return [each["process"] for each in running if each["state"] == "running"]

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """Ask for pages and for the status all the time."""
        threads = [
            threading.Thread(target=self._repeat, args=(ask_once,))
            for ask_once in (self._ask_page, self._ask_status)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self.watch
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _repeat(self, ask_once: Any) -> None:
        while not self._stop.wait(POLL_INTERVAL):
            ask_once()

    def _ask_page(self) -> None:
        try:
            with urllib.request.urlopen(self.url, timeout=TIMEOUT) as page:
                page.read()
            self.watch.pages += 1
        except (urllib.error.URLError, OSError):
            self.watch.failed_pages += 1

    def _ask_status(self) -> None:
        began = time.monotonic()
        try:
            self.status()
            self.watch.answers += 1
        except (ConfigError, OSError):
            self.watch.failed_answers += 1
        self.watch.slowest_answer = max(
            self.watch.slowest_answer, time.monotonic() - began
        )


def environment() -> dict[str, str]:
    """Return the environment of the project: nothing of this one's settings."""
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environ.pop("DJANGO_SETTINGS_MODULE", None)
    return environ


@contextmanager
def serving(
    folder: Path,
    database: dict[str, Any] | None = None,
    workers: int = 3,
    lost_after: float = 5,
    stop_timeout: float = 30,
) -> Iterator[tuple[Site, int]]:
    """Serve the project; yield it with the supervisor's process."""
    port = free_port()
    command = ["db_worker", "--interval", "0.1", "--no-startup-delay"]
    djserve = {
        "BIND": [f"127.0.0.1:{port}"],
        "WORKERS": 2,
        "CONTROL_SOCKET": str(folder / "control"),
        "PROCESSES": {
            "tasks": {
                "command": command,
                "count": workers,
                "stop_timeout": stop_timeout,
            },
            "lost": {"command": ["requeue_lost"], "stop_timeout": 1},
        },
    }
    make_site(folder, djserve, database, lost_after)
    site = Site(folder, port)
    site.manage("migrate", "--verbosity", "0")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "manage.py", "runasgi"],
            cwd=folder,
            env=environment(),
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: is_up(site, workers), server)
            yield site, server.pid
        finally:
            server.terminate()
            server.wait()


def is_up(site: Site, workers: int) -> bool:
    """Return whether all task workers run."""
    try:
        return len(site.task_workers()) == workers
    except (ConfigError, OSError):
        return False


def wait_until(condition: Any, server: subprocess.Popen[bytes] | None = None) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkError("Waited in vain")
        if server is not None and server.poll() is not None:
            raise BenchmarkError(f"The server ended with {server.returncode}")
        time.sleep(POLL_INTERVAL)


def plan(rolls: int, kills: int) -> list[str]:
    """Return the acts in their order, both kinds spread over all."""
    places = [((i + 0.5) / rolls, "roll") for i in range(rolls)]
    places += [((i + 0.5) / kills, "kill") for i in range(kills)]
    return [act for _, act in sorted(places)]


def disturb(site: Site, server: int, tasks: int, acts: list[str]) -> None:
    """Do the acts, each after its share of the tasks."""
    for number, act in enumerate(acts):
        due = tasks * number // (len(acts) + 1)
        wait_until(lambda due=due: len(count_runs(site.folder)) >= due)
        old = site.task_workers()
        if act == "roll":
            os.kill(server, signal.SIGHUP)
            wait_until(lambda old=old: not set(old) & set(site.task_workers()))
        else:
            os.kill(old[number % len(old)], signal.SIGKILL)
        wait_until(lambda old=old: len(site.task_workers()) == len(old))


def is_finished(site: Site) -> bool:
    """Return whether no task is left to do."""
    statuses = json.loads(site.manage("count"))["statuses"]
    return not {"READY", "RUNNING"} & statuses.keys()


def report(site: Site, tasks: int, elapsed: float, acts: list[str]) -> int:
    """Print what came of it; return how many tasks were lost."""
    runs = Counter(count_runs(site.folder))
    found = json.loads(site.manage("count"))
    lost = tasks - len(runs)
    watch = site.watch
    print(f"{tasks} tasks in {elapsed:.1f} s; load {os.getloadavg()[0]:.1f}")
    print(f"acts: {acts.count('roll')} rolls, {acts.count('kill')} kills")
    print(f"ran {len(runs)}, lost {lost}, twice {runs.total() - len(runs)}")
    print(f"tried again {found['tried_again']}; rows {found['statuses']}")
    print(f"pages {watch.pages}, failed {watch.failed_pages}")
    print(
        f"status {watch.answers} times, failed {watch.failed_answers}, "
        f"slowest {watch.slowest_answer * 1e3:.0f} ms"
    )
    return lost


def main() -> None:
    """Print what was lost; exit with 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.05, help="that each takes")
    parser.add_argument("--rolls", type=int, default=5)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument(
        "--lost-after",
        type=float,
        default=5,
        help="seconds after which a task that runs is taken to have lost its worker",
    )
    parser.add_argument("--postgresql", action="store_true")
    options = parser.parse_args()
    acts = plan(options.rolls, options.kills)
    cluster = running_postgresql(60) if options.postgresql else nullcontext()
    with tempfile.TemporaryDirectory() as folder, cluster as running:
        database = None
        if running is not None:
            database = {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postgres",
                "USER": "postgres",
                "HOST": str(running.folder),
            }
        project = serving(Path(folder), database, lost_after=options.lost_after)
        with project as (site, server):
            with site.watched():
                began = time.monotonic()
                site.manage("enqueue", str(options.tasks), str(options.seconds))
                disturb(site, server, options.tasks, acts)
                wait_until(lambda: is_finished(site))
                elapsed = time.monotonic() - began
            lost = report(site, options.tasks, elapsed, acts)
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
