"""A project with background tasks: two settings, and its code in a folder.

Each task writes its number to a file, so that what ran, and how often, can be counted
without the database.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RAN = "ran"
"""The file of the numbers."""

SETTINGS = """
import json
from pathlib import Path
import django

BASE = Path(__file__).parent
SECRET_KEY = "benchmark"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "work.urls"
ASGI_APPLICATION = "work.asgi.application"
INSTALLED_APPS = [
    "djserve",
    *(["django_tasks"] if django.VERSION < (6, 0) else []),
    "django_tasks_db",
    "work",
]
USE_TZ = True
DATABASES = {"default": json.loads(r'''%(database)s''')}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
DJSERVE = json.loads(r'''%(djserve)s''')
"""

MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""

ASGI = """
from django.core.asgi import get_asgi_application
application = get_asgi_application()
"""

URLS = """
from django.http import HttpResponse
from django.urls import path
from work.tasks import note

def enqueue(request, number):
    return HttpResponse(note.enqueue(number).id)

urlpatterns = [
    path("", lambda request: HttpResponse("served")),
    path("enqueue/<int:number>/", enqueue),
]
"""

TASKS = """
import os, time
import django
from django.conf import settings

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task

@task()
def note(number, seconds=0.0):
    time.sleep(seconds)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    file = os.open(settings.BASE / "ran", flags, 0o644)
    os.write(file, f"{number}\\n".encode())
    os.close(file)
    return number
"""

ENQUEUE = """
from django.core.management.base import BaseCommand
from work.tasks import note

class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("count", type=int)
        parser.add_argument("seconds", type=float)

    def handle(self, count, seconds, **options):
        for number in range(count):
            note.enqueue(number, seconds)
"""

COUNT = """
import json
from collections import Counter
from django.core.management.base import BaseCommand
from django_tasks_db.models import DBTaskResult

class Command(BaseCommand):
    def handle(self, **options):
        rows = list(DBTaskResult.objects.values_list("status", "worker_ids"))
        counts = Counter(status for status, _ in rows)
        tried = sum(len(workers) > 1 for _, workers in rows)
        print(json.dumps({"statuses": counts, "tried_again": tried}))
"""

REQUEUE_LOST = """
import time
from datetime import timedelta
from django.core.management.base import BaseCommand
from django.db import OperationalError, close_old_connections
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

LOST_AFTER = timedelta(seconds=%(lost_after)s)

class Command(BaseCommand):
    def handle(self, **options):
        while True:
            past = timezone.now() - LOST_AFTER
            rows = DBTaskResult.objects.filter(status="RUNNING", started_at__lt=past)
            if count := rows.update(status="READY"):
                print(f"{count} tasks had lost their worker")
            close_old_connections()
            time.sleep(1)
"""


def make_site(
    folder: Path,
    djserve: dict[str, Any],
    database: dict[str, Any] | None = None,
    lost_after: float = 5,
) -> None:
    """Write a project; without ``database`` it has an SQLite file."""
    default = database or {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(folder / "db.sqlite3"),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 60,
            "init_command": "PRAGMA journal_mode=WAL",
        },
    }
    given = {
        "database": json.dumps(default),
        "djserve": json.dumps(djserve),
        "lost_after": lost_after,
    }
    files = {
        "settings.py": SETTINGS % given,
        "manage.py": MANAGE,
        "work/__init__.py": "",
        "work/asgi.py": ASGI,
        "work/urls.py": URLS,
        "work/tasks.py": TASKS,
        "work/management/__init__.py": "",
        "work/management/commands/__init__.py": "",
        "work/management/commands/enqueue.py": ENQUEUE,
        "work/management/commands/count.py": COUNT,
        "work/management/commands/requeue_lost.py": REQUEUE_LOST % given,
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def count_runs(folder: Path) -> list[int]:
    """Return the numbers of the tasks that ran, once for each run."""
    path = folder / RAN
    return [int(line) for line in path.read_text().split()] if path.exists() else []
