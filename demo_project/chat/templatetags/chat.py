"""Template tags of the chat."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.safestring import SafeString

from demo_project.chat.models import Message, Room
from demo_project.chat.services.reading import room_entries
from demo_project.chat.text import render

register = template.Library()

AVATAR_COLOURS = 10


@register.inclusion_tag("chat/sidebar.html", takes_context=True)
def sidebar(context: dict[str, Any]) -> dict[str, Any]:
    """Show the viewer's rooms, grouped by kind."""
    entries = room_entries(context["user"])
    current = context.get("room")
    return {
        "groups": [
            (label, [entry for entry in entries if entry.room.kind == kind])
            for kind, label in (
                (Room.Kind.PUBLIC, "Rooms"),
                (Room.Kind.PRIVATE, "Private rooms"),
                (Room.Kind.DIRECT, "Direct messages"),
            )
        ],
        "current": current.pk if isinstance(current, Room) else None,
        "user": context["user"],
    }


@register.filter
def as_html(message: Message) -> SafeString:
    """Render the text of a message that has its details (events.with_details)."""
    mentioned = {user.username.lower(): user.pk for user in message.named}
    return render(message.text, mentioned)


@register.filter
def avatar_colour(user_id: int) -> int:
    """Return which of the avatar colours is a person's."""
    return user_id % AVATAR_COLOURS
