"""Who is online: reads and writes the rows of open connections."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils import timezone

from demo_project.realtime.database import writing
from demo_project.realtime.models import Connection

# Clients ping every 20 seconds, but a browser may hold the timers of a background tab
# back to one a minute; two missed ones of those mean that the client has gone.
EXPIRY = timedelta(seconds=150)


@writing()
def opened(topic: str, user: User | None) -> uuid.UUID:
    """Note a new connection and return its id."""
    row = Connection.objects.create(topic=topic, user=user, seen_at=timezone.now())
    return row.id


@writing()
def touched(connection_id: uuid.UUID, topic: str, user: User | None) -> None:
    """Note a sign of life; a row that was swept in the meantime comes back."""
    row = Connection.objects.filter(id=connection_id)
    if row.update(seen_at=timezone.now()):
        return
    Connection.objects.update_or_create(
        id=connection_id,
        defaults={"topic": topic, "user": user, "seen_at": timezone.now()},
    )


@writing()
def closed(connection_id: uuid.UUID) -> None:
    """Note that a connection has ended."""
    Connection.objects.filter(id=connection_id).delete()


def oldest() -> datetime:
    """Return the time since which a connection must have shown life."""
    return timezone.now() - EXPIRY


def live() -> QuerySet[Connection]:
    """Connections that have shown life lately."""
    return Connection.objects.filter(seen_at__gt=oldest())


def people(topic: str) -> dict[str, Any]:
    """Describe who is on a topic: people once each, guests as a number."""
    rows = live().filter(topic=topic).values_list("user", "user__username")
    present: list[tuple[int | None, str]] = list(rows.order_by("user__username"))
    people = {pk: {"id": pk, "name": name} for pk, name in present if pk is not None}
    guests = sum(pk is None for pk, _ in present)
    return {"people": [*people.values()], "guests": guests}


def online(user_ids: Iterable[int]) -> set[int]:
    """Return those of the users who have any page open."""
    return set(live().filter(user__in=user_ids).values_list("user", flat=True))


def sweep() -> list[str]:
    """Delete rows that have run out; return the topics that lost one."""
    stale = Connection.objects.filter(seen_at__lte=oldest())
    topics = sorted(set(stale.values_list("topic", flat=True)))
    stale.delete()
    return topics
