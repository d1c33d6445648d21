"""Periodic jobs: due once each, however many processes look."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from demo_project.background import jobs
from demo_project.background.models import Schedule

JOBS = {
    "digest": ("digest", {"type": "digest.send"}),
    "requeue": ("media", {"type": "work.requeue"}),
    "sweep": ("digest", {"type": "connections.sweep"}),
}


def periods() -> dict[str, timedelta]:
    """Return how often each job runs; a period of zero leaves the job out."""
    return {
        "digest": timedelta(minutes=settings.DEMO_DIGEST_MINUTES),
        "requeue": timedelta(minutes=1),
        "sweep": timedelta(minutes=1),
    }


def claim(name: str, period: timedelta) -> bool:
    """Whether the job is due and this caller is the one to run it.

    The condition is part of the update, so of several processes only one sees a row.
    """
    now = timezone.now()
    Schedule.objects.get_or_create(name=name, defaults={"due_at": now + period})
    due = Schedule.objects.filter(name=name, due_at__lte=now)
    return due.update(due_at=now + period) == 1


def enqueue_due() -> list[str]:
    """Hand the jobs that are due to their workers; return their names.

    The claim and the task that it leads to are committed together.
    """
    sent = []
    for name, period in periods().items():
        with transaction.atomic():
            if period and claim(name, period):
                channel, job = JOBS[name]
                jobs.enqueue(channel, job)
                sent.append(name)
    return sent
