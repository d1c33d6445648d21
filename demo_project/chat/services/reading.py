"""How far somebody has read, and what is still unread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db.models import Count, F, Q

from demo_project.chat import permissions
from demo_project.chat.models import Membership, Message, Room
from demo_project.chat.permissions import Viewer
from demo_project.realtime.groups import inbox_group, publish_one

LATELY_SIZE = 8


@dataclass(frozen=True, slots=True)
class RoomEntry:
    """A room as one person's list shows it."""

    room: Room
    title: str
    unread: int


def mark_read(user: User, room: Room, position: int) -> None:
    """Note that the user has read up to a position; it never goes back.

    The user's other tabs are told.
    """
    current = Room.objects.filter(pk=room.pk).first()
    if current is None:
        return
    position = min(position, current.version)
    own = Membership.objects.filter(room=room, user=user)
    is_new = False
    if current.is_public:
        _, is_new = own.get_or_create(
            room=room, user=user, defaults={"read_position": position}
        )
    # Only moved in a room that is not public: whoever is removed from it at this moment
    # must not be a member again.
    moved = own.filter(read_position__lt=position).update(read_position=position)
    if moved or is_new:
        event = {"type": "room.read", "slug": room.slug, "position": position}
        publish_one(inbox_group(user.pk), event)


def unread_counts(user: User, rooms: Sequence[Room]) -> dict[int, int]:
    """Return how many messages of others are unread in each of the user's rooms."""
    unread = Count(
        "room__messages",
        filter=Q(room__messages__position__gt=F("read_position"))
        & Q(room__messages__deleted_at=None)
        & ~Q(room__messages__author=user),
    )
    rows = Membership.objects.filter(user=user, room__in=rooms).annotate(unread=unread)
    return dict(rows.values_list("room", "unread"))


def unread_by_slug(user: User) -> dict[str, dict[str, int]]:
    """Return count and room version for each of the user's rooms, by slug.

    A client uses the version to tell news that the count includes from later news.
    """
    rooms = list(permissions.readable_rooms(user))
    counts = unread_counts(user, rooms)
    return {
        room.slug: {"unread": counts[room.pk], "version": room.version}
        for room in rooms
        if room.pk in counts
    }


def room_entries(viewer: Viewer) -> list[RoomEntry]:
    """Return the viewer's rooms by name, direct messages titled by the other person."""
    rooms = list(permissions.readable_rooms(viewer).order_by("kind", "name"))
    if not isinstance(viewer, User):
        return [RoomEntry(room, room.name, 0) for room in rooms]
    unread = unread_counts(viewer, rooms)
    titles = direct_titles(viewer, rooms)
    return [
        RoomEntry(room, titles.get(room.pk, room.name), unread.get(room.pk, 0))
        for room in rooms
    ]


def lately(viewer: Viewer) -> list[Message]:
    """Return the newest messages over all of the viewer's rooms, newest first.

    Signed in, only of the rooms that the viewer is a member of.
    """
    rooms = permissions.readable_rooms(viewer)
    if isinstance(viewer, User):
        rooms = rooms.filter(memberships__user=viewer)
    messages = Message.objects.filter(room__in=rooms, deleted_at=None)
    newest = messages.select_related("author", "room").order_by("-created_at", "-pk")
    return list(newest[:LATELY_SIZE])


def direct_titles(viewer: User, rooms: Sequence[Room]) -> dict[int, str]:
    """Return the other person's name for each direct conversation among the rooms."""
    direct = [room for room in rooms if room.kind == Room.Kind.DIRECT]
    others = Membership.objects.filter(room__in=direct).exclude(user=viewer)
    return dict(others.values_list("room", "user__username"))
