"""What runs with every message, in SQL of SQLite and PostgreSQL.

The ORM takes several times as long to put each of these together as the database takes
to run it, and a busy room has no other queries (``python -m benchmarks.demo_load``).
Elsewhere the demo has none but the ORM's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connection

from demo_project.chat.models import Membership, Message, Room
from demo_project.realtime.models import Connection

# The tables' names are the models'; all that comes from outside is a parameter.
_ADVANCE = f"""
    UPDATE {Room._meta.db_table} SET version = version + 1 WHERE id = %s RETURNING *
"""
_COUNT_SINCE = f"""
    SELECT COUNT(*) FROM {Message._meta.db_table}
    WHERE author_id = %s AND created_at > %s
"""
_MEMBERS_ON_TOPIC = f"""
    SELECT DISTINCT membership.user_id
    FROM {Membership._meta.db_table} membership
    JOIN {Connection._meta.db_table} socket ON socket.user_id = membership.user_id
    WHERE membership.room_id = %s AND socket.topic = %s AND socket.seen_at > %s
"""
_MARK_READ = f"""
    UPDATE {Membership._meta.db_table} SET read_position = %s
    WHERE room_id = %s AND user_id = %s
"""
_READABLE_KIND = f"""
    SELECT room.kind FROM {Room._meta.db_table} room
    WHERE room.id = %s AND (room.kind = %s OR EXISTS (
        SELECT 1 FROM {Membership._meta.db_table} membership
        WHERE membership.room_id = room.id AND membership.user_id = %s
    ))
"""


def advance(room_id: int) -> Room:
    """Add one to the room's version, and return the room as it then is."""
    rooms = [*Room.objects.raw(_ADVANCE, [room_id])]
    if not rooms:
        raise Room.DoesNotExist
    return rooms[0]


def count_messages(author_id: int, since: datetime) -> int:
    """Return how many messages somebody has written since a time."""
    [[count]] = _rows(_COUNT_SINCE, author_id, _moment(since))
    return int(count)


def members_on_topic(room_id: int, topic: str, since: datetime) -> set[int]:
    """Return the members of a room whose connection to a topic showed life since."""
    rows = _rows(_MEMBERS_ON_TOPIC, room_id, topic, _moment(since))
    return {user_id for (user_id,) in rows}


def readable_kind(room_id: int, user_id: int | None) -> str | None:
    """Return the kind of a room as it now is, None if an account may not read it.

    ``user_id`` is None for a guest.
    """
    rows = _rows(_READABLE_KIND, room_id, Room.Kind.PUBLIC, user_id)
    return str(rows[0][0]) if rows else None


def mark_read(room_id: int, user_id: int, position: int) -> None:
    """Note how far a member has read; without a membership, nothing is noted."""
    with connection.cursor() as cursor:
        cursor.execute(_MARK_READ, [position, room_id, user_id])


def _rows(statement: str, *params: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        rows: list[Any] = cursor.fetchall()
    return rows


def _moment(value: datetime) -> Any:
    """Return a time as the database's own type for it."""
    return connection.ops.adapt_datetimefield_value(value)
