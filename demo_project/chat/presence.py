"""Who is in a room right now, told to those who have it open."""

from __future__ import annotations

from typing import Any

from demo_project.chat.models import Room
from demo_project.chat.services import statements
from demo_project.realtime import presence
from demo_project.realtime.groups import INBOX_TOPIC, publish_one, room_group


def room_topic(room_id: int) -> str:
    """The presence topic of a room; its group has the same name."""
    return room_group(room_id)


def announce_people(room_id: int) -> None:
    """Send the list of those present to the room."""
    people = presence.people(room_topic(room_id))
    is_public = Room.objects.filter(pk=room_id, kind=Room.Kind.PUBLIC).exists()
    event = {"type": "presence.changed", "is_public": is_public, **people}
    publish_one(room_group(room_id), event)


def people_in(room_id: int) -> dict[str, Any]:
    """Return those present."""
    return presence.people(room_topic(room_id))


def members_online(room_id: int) -> set[int]:
    """Return the members of a room who have any page open.

    Asked with every message, so it is one plain join.
    """
    return statements.members_on_topic(room_id, INBOX_TOPIC, presence.oldest())


def sweep_connections() -> None:
    """Drop connections whose process died; their rooms see them leave."""
    for topic in presence.sweep():
        kind, _, number = topic.partition(".")
        if kind == "room":
            announce_people(int(number))
