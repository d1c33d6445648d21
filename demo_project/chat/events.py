"""A message as clients get it, and telling them of a change.

The HTML is rendered here, once for all who read the room, by the template that also
makes the page: it says nothing of who looks at it.
"""

from __future__ import annotations

import json
from typing import Any

from django.db.models import Prefetch, QuerySet
from django.template.loader import render_to_string

from demo_project.chat.models import Message
from demo_project.chat.presence import members_online
from demo_project.realtime.groups import Delivery, inbox_group, publish, room_group


def with_details(messages: QuerySet[Message]) -> QuerySet[Message]:
    """Load what rendering needs in a constant number of queries."""
    # The stubs take each to_attr for a new attribute; the model declares them already.
    return messages.select_related("author", "room").prefetch_related(  # type: ignore[no-redef]
        Prefetch("mentions", to_attr="named"),
        Prefetch("attachments", to_attr="files"),
        Prefetch("previews", to_attr="links"),
    )


def payload(message: Message) -> dict[str, Any]:
    """Describe a message that has its details, rendered."""
    return {
        "id": message.pk,
        "position": message.position,
        "version": message.version,
        "author": message.author_id,
        "nonce": str(message.nonce),
        "html": render_to_string("chat/message.html", {"message": message}),
    }


def announce_change(message_id: int) -> None:
    """Send a message that has changed to all who have the room open."""
    publish([_change(with_details(Message.objects.filter(pk=message_id)).get())])


def announce_new(message: Message) -> None:
    """Send a new message, with its details, to all who have the room open.

    The other members' open pages are told that the room has something new.
    """
    event = {
        "type": "room.activity",
        "slug": message.room.slug,
        "position": message.position,
    }
    others = members_online(message.room_id) - {message.author_id}
    activity = [(inbox_group(user_id), event) for user_id in sorted(others)]
    publish([_change(message), *activity])


def announce_access_changed(room_id: int) -> None:
    """Make each connection to a room find out whether it may still be there."""
    publish([(room_group(room_id), {"type": "access.changed"})])


def announce_access_lost(room_id: int, user_id: int | None) -> None:
    """Make the connections of a user, or with None of everybody, to the room close."""
    event = {"type": "access.lost", "user": user_id}
    publish([(room_group(room_id), event)])


def _change(message: Message) -> Delivery:
    # Encoded here, once, and not again for each connection.
    event = {
        "type": "message.changed",
        "frame": json.dumps({"type": "message", "message": payload(message)}),
        "is_public": message.room.is_public,
    }
    return room_group(message.room_id), event
