"""Giving out a room's versions."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from demo_project.chat.models import Room


def next_version(room_id: int) -> int:
    """Return the room's next version; the room stays locked until the commit."""
    return advance(room_id).version


def advance(room_id: int) -> Room:
    """Give out the room's next version, and return the room as it is now.

    The update comes before the read on purpose: it takes the row's lock, so two
    senders never read the same number, and the later one commits later.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError(
            "A version is only good inside the transaction that uses it."
        )
    Room.objects.filter(pk=room_id).update(version=F("version") + 1)
    return Room.objects.get(pk=room_id)
