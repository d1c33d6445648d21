"""A message as clients get it, and telling them of a change.

The HTML is rendered here, once for all who read the room, by the template that also
makes the page: it says nothing of who looks at it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet
from django.template.loader import render_to_string

from demo_project.chat.models import Message
from demo_project.realtime import presence
from demo_project.realtime.groups import Delivery, inbox_group, publish, room_group


def with_details(messages: QuerySet[Message]) -> QuerySet[Message]:
    """Load what rendering needs in a constant number of queries."""
    return messages.select_related("author", "room").prefetch_related(
        "mentions", "attachments", "previews"
    )


def payload(message: Message) -> dict[str, Any]:
    """Describe a message, rendered."""
    return {
        "id": message.pk,
        "position": message.position,
        "version": message.version,
        "author": message.author_id,
        "nonce": str(message.nonce),
        "html": render_to_string("chat/message.html", {"message": message}),
    }


def announce_change(message_id: int) -> None:
    """Send a message that is new or has changed to all who have the room open."""
    message = with_details(Message.objects.filter(pk=message_id)).get()
    event = {"type": "message.changed", "message": payload(message)}
    publish([(room_group(message.room_id), event)])


def announce_activity(message: Message) -> None:
    """Tell the other members' open pages that the room has a new message."""
    members = message.room.memberships.exclude(user=message.author)
    event = {
        "type": "room.activity",
        "slug": message.room.slug,
        "position": message.position,
    }
    publish(_to_online(members.values_list("user", flat=True), event))


def announce_access_lost(room_id: int, user_id: int | None) -> None:
    """Make the connections of a user, or with None of everybody, to the room close."""
    event = {"type": "access.lost", "user": user_id}
    publish([(room_group(room_id), event)])


def _to_online(user_ids: Iterable[int], event: dict[str, Any]) -> list[Delivery]:
    online = sorted(presence.online(user_ids))
    return [(inbox_group(user_id), event) for user_id in online]
