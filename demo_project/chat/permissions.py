"""Who may do what in a room: the only place that knows.

Public rooms are read by anyone and written by anyone signed in. Private rooms and
direct messages exist only for their members: to others they are not found, so that
not even a name gets out.
"""

from __future__ import annotations

from typing import TypeAlias

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet

from demo_project.chat.models import Membership, Message, Room

Viewer: TypeAlias = User | AnonymousUser


def readable_rooms(viewer: Viewer) -> QuerySet[Room]:
    """Rooms that the viewer may read; look rooms up here and outsiders get 404."""
    if not viewer.is_authenticated or not viewer.is_active:
        return Room.objects.filter(kind=Room.Kind.PUBLIC)
    joined = Membership.objects.filter(user=viewer).values("room")
    return Room.objects.filter(Q(kind=Room.Kind.PUBLIC) | Q(pk__in=joined))


def can_read(viewer: Viewer, room: Room) -> bool:
    """Whether the viewer may see the room."""
    if room.is_public:
        return True
    return readable_rooms(viewer).filter(pk=room.pk).exists()


def can_post(viewer: Viewer, room: Room) -> bool:
    """Whether the viewer may write in the room."""
    return viewer.is_authenticated and viewer.is_active and can_read(viewer, room)


def is_owner(viewer: Viewer, room: Room) -> bool:
    """Whether the viewer runs the room: invites, removes people and messages."""
    if not viewer.is_authenticated:
        return False
    owners = room.memberships.filter(role=Membership.Role.OWNER)
    return owners.filter(user=viewer).exists()


def can_edit(viewer: Viewer, message: Message) -> bool:
    """Whether the viewer may change the text: only its author."""
    return message.author_id == viewer.pk and can_post(viewer, message.room)


def can_delete(viewer: Viewer, message: Message) -> bool:
    """Whether the viewer may delete it: its author, or the room's owner."""
    return can_edit(viewer, message) or is_owner(viewer, message.room)
