"""What the status page shows; counted in the database, so over all processes."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count
from django.db.models.functions import TruncMinute
from django.utils import timezone

from demo_project.background import retries
from demo_project.chat.models import Message
from demo_project.realtime import presence

HISTORY_MINUTES = 30
WINDOW = timedelta(seconds=10)


def snapshot() -> dict[str, Any]:
    """Return the current figures, with the time that their queries took."""
    started = time.perf_counter()
    live = presence.live()
    figures = {
        "connections": live.count(),
        "people": live.exclude(user=None).values("user").distinct().count(),
        "messages_per_second": _recent_messages() / WINDOW.total_seconds(),
        "tasks": retries.count() if settings.DEMO_TASKS else None,
    }
    elapsed = time.perf_counter() - started
    return {**figures, "database_ms": round(elapsed * 1000, 2)}


def messages_per_minute() -> list[int]:
    """Return how many messages each of the last minutes brought, oldest first."""
    this_minute = timezone.now().replace(second=0, microsecond=0)
    first = this_minute - timedelta(minutes=HISTORY_MINUTES - 1)
    rows = (
        Message.objects.filter(created_at__gte=first)
        .annotate(minute=TruncMinute("created_at"))
        .order_by("minute")
        .values_list("minute")
        .annotate(count=Count("pk"))
    )
    counts: dict[datetime, int] = dict(rows)
    minutes = (first + timedelta(minutes=step) for step in range(HISTORY_MINUTES))
    return [counts.get(minute, 0) for minute in minutes]


def _recent_messages() -> int:
    return Message.objects.filter(created_at__gt=timezone.now() - WINDOW).count()
