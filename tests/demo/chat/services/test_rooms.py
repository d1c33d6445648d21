"""Making rooms, and people coming and going."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from demo_project.chat.models import Invitation, Membership, Room
from demo_project.chat.services import rooms
from demo_project.notifications.models import Notification
from demo_project.realtime.errors import Forbidden, Invalid, TooMany


def test_direct_room_is_the_same_from_both_sides(ana: User, ben: User) -> None:
    assert rooms.direct(ana, ben) == rooms.direct(ben, ana)
    assert Membership.objects.count() == 2


def test_nobody_talks_to_themselves(ana: User) -> None:
    with pytest.raises(Invalid):
        rooms.direct(ana, ana)


@pytest.mark.parametrize("name", ["Lobby", "dm-1234", "New", "休憩室"])
def test_slug_is_never_one_in_use_or_reserved(
    ana: User, lobby: Room, name: str
) -> None:
    room = rooms.create(ana, name)

    assert room.slug not in {"lobby", "new", ""}
    assert not room.slug.startswith("dm-")


def test_invitation_makes_a_member_who_has_nothing_unread(
    ana: User, ben: User, vault: Room
) -> None:
    invitation = rooms.invite(ana, vault, "ben")
    rooms.accept(invitation)

    membership = vault.memberships.get(user=ben)
    assert membership.role == Membership.Role.MEMBER
    assert membership.read_position == vault.version
    assert not Invitation.objects.exists()


def test_inviting_twice_notifies_once(ana: User, ben: User, vault: Room) -> None:
    rooms.invite(ana, vault, "ben")
    rooms.invite(ana, vault, "BEN")

    assert Notification.objects.filter(user=ben, kind="invitation").count() == 1


def test_members_do_not_invite(ana: User, ben: User, vault: Room) -> None:
    Membership.objects.create(room=vault, user=ben)

    with pytest.raises(Forbidden):
        rooms.invite(ben, vault, "ana")


def test_nobody_is_invited_into_a_public_room(
    ana: User, ben: User, lobby: Room
) -> None:
    with pytest.raises(Forbidden):
        rooms.invite(ana, lobby, "ben")


def test_room_passes_to_the_longest_member_when_its_owner_leaves(
    ana: User, ben: User, vault: Room
) -> None:
    Membership.objects.create(room=vault, user=ben)
    rooms.leave(ana, vault)

    assert vault.memberships.get().role == Membership.Role.OWNER


def test_only_the_owner_removes(ana: User, ben: User, vault: Room) -> None:
    Membership.objects.create(room=vault, user=ben)

    with pytest.raises(Forbidden):
        rooms.remove(ben, vault, ana)
    rooms.remove(ana, vault, ben)
    assert not vault.memberships.filter(user=ben).exists()


def test_direct_messages_are_not_left(ana: User, whisper: Room) -> None:
    with pytest.raises(Invalid):
        rooms.leave(ana, whisper)


def test_making_rooms_has_a_rate_limit(ana: User, ben: User) -> None:
    for number in range(rooms.RATE_ROOMS):
        rooms.create(ana, f"Room {number}")
    rooms.create(ben, "Of another")

    with pytest.raises(TooMany):
        rooms.create(ana, "One more")
    browser = Client()
    browser.force_login(ana)
    page = browser.post("/rooms/new/", {"name": "One more", "topic": ""})
    assert b"too many rooms" in page.content
    assert Room.objects.count() == rooms.RATE_ROOMS + 1
