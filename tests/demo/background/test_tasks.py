"""The demo's tasks, run by the real worker of django-tasks-db."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from PIL import Image

from demo_project.background import jobs, media, retries
from demo_project.background.models import Schedule
from demo_project.background.schedule import enqueue_due
from demo_project.chat.models import Attachment, LinkPreview, Membership, Room
from demo_project.chat.services import attachments, messages
from demo_project.notifications.models import Notification
from demo_project.status import figures


@pytest.fixture(autouse=True)
def tasks(settings: Any) -> Iterator[None]:
    """The demo with tasks, as it is where django-tasks-db is installed."""
    if not settings.HAS_TASKS:
        reason = "django-tasks-db is not installed"
        if os.environ.get("DJSERVE_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    settings.DEMO_TASKS = True
    retries.connect()
    yield
    retries.disconnect()


def rows() -> Any:
    return apps.get_model("django_tasks_database", "DBTaskResult").objects


@pytest.fixture
def work() -> Iterator[Callable[[], None]]:
    """Give ``work()``: do all tasks that are due, as ``db_worker`` does them."""
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
    before = {name: signal.getsignal(name) for name in names}

    def run() -> None:
        call_command(
            "db_worker", batch=True, startup_delay=False, reload=False, verbosity=0
        )

    yield run
    for name, handler in before.items():
        signal.signal(name, handler)


def picture() -> SimpleUploadedFile:
    out = io.BytesIO()
    Image.new("RGB", (20, 10)).save(out, "PNG")
    return SimpleUploadedFile("p.png", out.getvalue())


def enqueue(type: str, **values: object) -> None:
    jobs.enqueue("a channel that no worker has", {"type": type, **values})


def statuses() -> list[str]:
    return [str(row.status) for row in rows().order_by("enqueued_at")]


def test_uploaded_picture_gets_its_thumbnail(
    ana: User, lobby: Room, work: Callable[[], None]
) -> None:
    attachments.receive(ana, lobby, picture())
    work()
    assert str(Attachment.objects.get().thumbnail).endswith(".webp")
    assert statuses() == ["SUCCESSFUL"]
    counts = {"ready": 0, "running": 0, "failed": 0, "done": 1}
    assert figures.snapshot()["tasks"] == counts


def test_link_gets_its_title(ana: User, lobby: Room, work: Callable[[], None]) -> None:
    messages.post(ana, lobby, "come to http://testserver/rooms/lobby/ !")
    work()
    assert LinkPreview.objects.get().title == "Lobby"


def test_digest_is_sent(
    ana: User, ben: User, vault: Room, work: Callable[[], None]
) -> None:
    Membership.objects.create(room=vault, user=ben)
    messages.post(ana, vault, "one")
    enqueue("digest.send")
    work()
    assert Notification.objects.get(kind="digest").user == ben


def test_rollback_takes_the_task_back() -> None:
    with pytest.raises(ValueError), transaction.atomic():
        enqueue("digest.send")
        raise ValueError
    assert statuses() == []


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The attempts at a task that fails at each."""
    attempts: list[str] = []

    def fail(attachment_id: str) -> None:
        attempts.append(attachment_id)
        raise ValueError("not today")

    monkeypatch.setattr(media, "process_attachment", fail)
    return attempts


def make_due() -> None:
    rows().update(run_after=timezone.now() - timedelta(seconds=1))


@pytest.mark.filterwarnings("default")
def test_task_that_fails_is_tried_again(
    attempts: list[str], work: Callable[[], None]
) -> None:
    enqueue("attachment.process", id="7")
    work()
    row = rows().get()
    assert (attempts, row.status) == (["7"], "READY")
    assert row.run_after > timezone.now()
    assert "not today" in row.traceback
    # It is not due.
    work()
    assert attempts == ["7"]
    for _ in range(retries.ATTEMPTS + 2):
        make_due()
        work()
    assert attempts == ["7"] * retries.ATTEMPTS
    assert statuses() == ["FAILED"]


def test_task_of_a_killed_worker_runs_again(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]
) -> None:
    done: list[str] = []
    monkeypatch.setattr(media, "process_attachment", done.append)
    enqueue("attachment.process", id="7")
    # As the worker leaves it that is killed.
    rows().get().claim("killed")
    work()
    assert retries.requeue_lost() == 0
    assert done == []
    assert retries.requeue_lost(timedelta(0)) == 1
    work()
    assert done == ["7"]
    row: Any = rows().get()
    assert (row.status, row.worker_ids[0]) == ("SUCCESSFUL", "killed")


def test_what_waits_is_not_enqueued_again(ana: User, lobby: Room) -> None:
    attachments.receive(ana, lobby, picture())
    past = timezone.now() - media.REQUEUE_AFTER - timedelta(minutes=1)
    Attachment.objects.update(created_at=past)
    media.requeue()
    assert statuses() == ["READY"]


def test_claim_is_undone_if_the_task_cannot_be_enqueued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    past = timezone.now() - timedelta(hours=1)
    Schedule.objects.create(name="digest", due_at=past)
    monkeypatch.setitem(jobs.TASKS, "digest.send", "demo_project.no_such_task")
    with pytest.raises(ImportError):
        enqueue_due()
    assert Schedule.objects.get(name="digest").due_at == past
