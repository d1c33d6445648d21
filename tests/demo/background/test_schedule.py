"""Periodic jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from demo_project.background.models import Schedule
from demo_project.background.schedule import claim, enqueue_due

HOUR = timedelta(hours=1)


def test_due_job_is_claimed_once() -> None:
    Schedule.objects.create(name="digest", due_at=timezone.now())

    assert [claim("digest", HOUR), claim("digest", HOUR)] == [True, False]


def test_new_job_is_first_due_after_its_period() -> None:
    assert claim("digest", HOUR) is False
    assert Schedule.objects.get().due_at > timezone.now() + HOUR / 2


def test_period_of_zero_turns_a_job_off(settings: Any) -> None:
    settings.DEMO_DIGEST_MINUTES = 0
    past = timezone.now() - HOUR
    for name in ("digest", "requeue", "sweep"):
        Schedule.objects.create(name=name, due_at=past)

    assert enqueue_due() == ["requeue", "sweep"]
