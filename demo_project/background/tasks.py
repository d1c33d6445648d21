"""The background work that must not be lost, as tasks.

A task is a row: it is committed together with what it is about, and ``db_worker`` runs
it (docs/guides/tasks.md). One that fails, or whose worker was killed, is tried again
(``retries``), so each task finds out by itself what is still to do.
"""

from __future__ import annotations

from typing import Any

import django
from django.utils.module_loading import import_string

from demo_project.background import digest, media

_PACKAGE = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
task: Any = import_string(f"{_PACKAGE}.task")


@task()
def process_attachment(attachment_id: str) -> None:
    """Make a thumbnail, or find a text's title."""
    media.process_attachment(attachment_id)


@task()
def find_preview_title(preview_id: int) -> None:
    """Find the title of a link."""
    media.find_preview_title(preview_id)


@task()
def send_digests() -> None:
    """Tell the absent what waits for them."""
    digest.send()
