"""Making rooms, and people coming and going."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify

from demo_project.chat import permissions
from demo_project.chat.models import Invitation, Membership, Room
from demo_project.notifications import services as notifications
from demo_project.realtime.errors import Forbidden, Invalid, TooMany

RATE_ROOMS = 10
RATE_WINDOW = timedelta(minutes=5)


@transaction.atomic
def create(
    owner: User, name: str, *, topic: str = "", is_private: bool = False
) -> Room:
    """Make a room; its maker owns it. Raises TooMany: each is on everybody's page."""
    _check_rate(owner)
    room = Room.objects.create(
        name=name,
        slug=_free_slug(name),
        topic=topic,
        kind=Room.Kind.PRIVATE if is_private else Room.Kind.PUBLIC,
    )
    Membership.objects.create(room=room, user=owner, role=Membership.Role.OWNER)
    return room


def direct(user: User, other: User) -> Room:
    """Return the direct conversation of two people; make it the first time."""
    if user == other:
        raise Invalid("That would be a conversation with yourself.")
    key = "-".join(str(pk) for pk in sorted((user.pk, other.pk)))
    existing = Room.objects.filter(direct_key=key).first()
    if existing is not None:
        return existing
    try:
        return _create_direct(key, user, other)
    except IntegrityError:
        # The other one opened it at the same moment.
        return Room.objects.get(direct_key=key)


@transaction.atomic
def invite(inviter: User, room: Room, username: str) -> Invitation:
    """Invite somebody into a private room and notify them."""
    if room.kind != Room.Kind.PRIVATE or not permissions.is_owner(inviter, room):
        raise Forbidden("Only the owner of a private room can invite.")
    user = User.objects.filter(username=username.lower(), is_active=True).first()
    if user is None:
        raise Invalid("There is nobody of that name.")
    if room.memberships.filter(user=user).exists():
        raise Invalid(f"{user} is in this room already.")
    invitation, is_new = Invitation.objects.get_or_create(
        room=room, user=user, defaults={"invited_by": inviter}
    )
    if is_new:
        notifications.notify(
            user,
            kind="invitation",
            text=f"{inviter} invited you into {room}",
            url=reverse("chat:home"),
        )
    return invitation


@transaction.atomic
def accept(invitation: Invitation) -> Room:
    """Make the invited person a member, who has read what was said before."""
    room = invitation.room
    Membership.objects.get_or_create(
        room=room, user=invitation.user, defaults={"read_position": room.version}
    )
    invitation.delete()
    return room


def decline(invitation: Invitation) -> None:
    """Turn an invitation down; nobody is told."""
    invitation.delete()


@transaction.atomic
def leave(user: User, room: Room) -> None:
    """Leave a room; open connections of the user to a private one close.

    The longest-standing member takes over from an owner.
    """
    if room.kind == Room.Kind.DIRECT:
        raise Invalid("Direct messages cannot be left.")
    room.memberships.filter(user=user).delete()
    if not room.memberships.filter(role=Membership.Role.OWNER).exists():
        heir = room.memberships.order_by("joined_at", "pk").first()
        if heir is not None and room.kind == Room.Kind.PRIVATE:
            heir.role = Membership.Role.OWNER
            heir.save(update_fields=["role"])


@transaction.atomic
def remove(owner: User, room: Room, user: User) -> None:
    """Take somebody out of a private room."""
    if room.kind != Room.Kind.PRIVATE or not permissions.is_owner(owner, room):
        raise Forbidden("Only the owner of a private room can remove people.")
    if user == owner:
        raise Invalid("To go yourself, leave the room.")
    room.memberships.filter(user=user).delete()


@transaction.atomic
def _create_direct(key: str, user: User, other: User) -> Room:
    room = Room.objects.create(
        name=f"{user}, {other}",
        slug=f"dm-{secrets.token_hex(8)}",
        kind=Room.Kind.DIRECT,
        direct_key=key,
    )
    Membership.objects.bulk_create(
        [Membership(room=room, user=member) for member in (user, other)]
    )
    return room


def _check_rate(owner: User) -> None:
    since = timezone.now() - RATE_WINDOW
    own = Membership.objects.filter(user=owner, role=Membership.Role.OWNER)
    if own.filter(joined_at__gt=since).count() >= RATE_ROOMS:
        raise TooMany("You are making too many rooms. Wait a few minutes.")


def _free_slug(name: str) -> str:
    base = slugify(name)[:60] or "room"
    # "dm-" starts the slugs of direct messages, "new" is a page.
    if base.startswith("dm-") or base == "new":
        base = f"room-{base}"
    taken = Room.objects.filter(slug=base).exists()
    return f"{base}-{secrets.token_hex(4)}" if taken else base
