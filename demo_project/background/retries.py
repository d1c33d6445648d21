"""Tasks that failed or were lost, tried again.

django.tasks leaves that to the project. A task is tried again in its own row, which
keeps the last error and the id of each worker that has had it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import django
from django.apps import apps
from django.db.models import Count
from django.utils import timezone
from django.utils.module_loading import import_string

ATTEMPTS = 5
FIRST_DELAY = timedelta(seconds=2)
"""Twice as long after each attempt."""

LOST_AFTER = timedelta(minutes=5)
"""Longer than any task takes: one that was started before has no worker any more."""

STATUSES = {
    "ready": "READY",
    "running": "RUNNING",
    "failed": "FAILED",
    "done": "SUCCESSFUL",
}


def connect() -> None:
    """Listen to the end of tasks, in whichever process they run."""
    _finished().connect(retry_failed)


def disconnect() -> None:
    """Listen no more."""
    _finished().disconnect(retry_failed)


def retry_failed(task_result: Any, **kwargs: Any) -> None:
    """Have a task that has failed run again after a while."""
    attempts = len(task_result.worker_ids)
    if task_result.status == "FAILED" and attempts < ATTEMPTS:
        delay = FIRST_DELAY * 2 ** (attempts - 1)
        row = _rows().filter(pk=task_result.id, status="FAILED")
        row.update(status="READY", run_after=timezone.now() + delay)


def requeue_lost(after: timedelta = LOST_AFTER) -> int:
    """Have tasks run again whose worker was killed; return how many there were.

    db_worker leaves them as running for ever.
    """
    past = timezone.now() - after
    lost = _rows().filter(status="RUNNING", started_at__lt=past)
    return int(lost.update(status="READY"))


def count() -> dict[str, int]:
    """Return how many tasks are in each state."""
    rows = _rows().order_by().values_list("status").annotate(count=Count("pk"))
    counts = dict(rows)
    return {name: counts.get(status, 0) for name, status in STATUSES.items()}


def _finished() -> Any:
    package = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
    return import_string(f"{package}.signals.task_finished")


def _rows() -> Any:
    return apps.get_model("django_tasks_database", "DBTaskResult").objects.all()
