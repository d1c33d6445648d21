"""Giving out a room's versions."""

from __future__ import annotations

from django.db import transaction

from demo_project.chat.models import Room
from demo_project.chat.services import statements


def next_version(room_id: int) -> int:
    """Return the room's next version; the room stays locked until the commit."""
    return advance(room_id).version


def advance(room_id: int) -> Room:
    """Give out the room's next version, and return the room as it is now.

    The update takes the row's lock, so two senders never get the same number, and the
    later one commits later.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError(
            "A version is only good inside the transaction that uses it."
        )
    return statements.advance(room_id)
