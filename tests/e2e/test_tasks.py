"""django.tasks by two settings: the worker is one of PROCESSES."""

from __future__ import annotations

import os
import signal
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.task_chaos import Site, serving
from benchmarks.task_site import count_runs
from djserve.net.control import ask
from tests.e2e.workers import wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path, workers=1, lost_after=0.5, stop_timeout=1) as (site, _):
        yield site


def enqueue(site: Site, number: int) -> None:
    with urllib.request.urlopen(f"{site.url}enqueue/{number}/", timeout=120) as page:
        assert page.status == 200


def statuses(site: Site) -> dict[str, int]:
    """Return the tasks in each state, read without the project."""
    with closing(sqlite3.connect(site.folder / "db.sqlite3", timeout=60)) as database:
        query = "select status, count(*) from django_tasks_database_dbtaskresult"
        return dict(database.execute(f"{query} group by status"))


def test_task_of_a_view_runs_in_the_worker(site: Site) -> None:
    enqueue(site, 7)
    wait_for(lambda: statuses(site) == {"SUCCESSFUL": 1}, 0.1)
    assert count_runs(site.folder) == [7]
    text = (site.folder / "log").read_text()
    assert "tasks 1: Starting worker" in text
    assert "Processes alongside the workers: tasks (1), lost (1)" in text


def test_task_whose_worker_was_killed_runs_again(site: Site) -> None:
    ask(site.control, {"command": "scale", "process": "lost", "workers": 0}, 60)
    site.manage("enqueue", "1", "60")
    wait_for(lambda: statuses(site) == {"RUNNING": 1}, 0.1)
    (worker,) = site.task_workers()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: site.task_workers() not in ([], [worker]), 0.1)
    # The new worker leaves it alone; another task shows that it works.
    enqueue(site, 7)
    wait_for(lambda: count_runs(site.folder) == [7], 0.1)
    wait_for(lambda: statuses(site) == {"RUNNING": 1, "SUCCESSFUL": 1}, 0.1)

    ask(site.control, {"command": "scale", "process": "lost", "workers": 1}, 60)
    wait_for(lambda: "1 tasks had lost their worker" in log_of(site), 0.1)
    # It takes a minute, which is not waited for.
    wait_for(lambda: tries(site) >= 2, 0.1)


def log_of(site: Site) -> str:
    return (site.folder / "log").read_text()


def tries(site: Site) -> int:
    """Return how many workers have had the task that waits."""
    with closing(sqlite3.connect(site.folder / "db.sqlite3", timeout=60)) as database:
        query = "select json_array_length(worker_ids) "
        query += "from django_tasks_database_dbtaskresult order by enqueued_at limit 1"
        return int(database.execute(query).fetchone()[0])
