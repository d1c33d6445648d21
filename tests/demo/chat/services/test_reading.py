"""Unread counts."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser, User

from demo_project.chat.models import Membership, Room
from demo_project.chat.services import messages, reading


def unread(user: User, room: Room) -> int:
    return reading.unread_counts(user, [room])[room.pk]


def test_messages_of_others_are_unread(ana: User, ben: User, vault: Room) -> None:
    Membership.objects.create(room=vault, user=ben)
    messages.post(ana, vault, "one")
    messages.post(ben, vault, "mine")
    messages.post(ana, vault, "two")

    assert unread(ben, vault) == 1
    assert unread(ana, vault) == 0


def test_deleted_messages_are_not_unread(ana: User, ben: User, vault: Room) -> None:
    Membership.objects.create(room=vault, user=ben)
    messages.delete(ana, messages.post(ana, vault, "oops"))

    assert unread(ben, vault) == 0


def test_reading_goes_forward_only(ana: User, ben: User, lobby: Room) -> None:
    for text in ("one", "two", "three"):
        messages.post(ana, lobby, text)
    reading.mark_read(ben, lobby, 2)
    reading.mark_read(ben, lobby, 1)

    assert unread(ben, lobby) == 1


def test_reading_ahead_of_the_room_counts_to_its_end(
    ana: User, ben: User, lobby: Room
) -> None:
    reading.mark_read(ben, lobby, 10**6)
    messages.post(ana, lobby, "new")

    assert unread(ben, lobby) == 1


def test_outsider_cannot_become_a_member_by_reading(ben: User, vault: Room) -> None:
    reading.mark_read(ben, vault, 1)

    assert not vault.memberships.filter(user=ben).exists()


def test_former_member_does_not_come_back_by_reading(ana: User, vault: Room) -> None:
    vault.memberships.filter(user=ana).delete()
    # What a connection knows of the room is as old as the connection.
    vault.kind = Room.Kind.PUBLIC
    reading.mark_read(ana, vault, 1)

    assert not vault.memberships.exists()


def test_room_that_is_gone_is_not_read(ana: User, lobby: Room) -> None:
    Room.objects.all().delete()
    reading.mark_read(ana, lobby, 1)

    assert not Membership.objects.exists()


def test_direct_room_is_titled_by_the_other_person(ana: User, whisper: Room) -> None:
    titles = {entry.room.slug: entry.title for entry in reading.room_entries(ana)}

    assert titles == {"dm-1": "eve"}


def test_guest_sees_public_rooms_only(lobby: Room, vault: Room, whisper: Room) -> None:
    entries = reading.room_entries(AnonymousUser())

    assert [entry.room for entry in entries] == [lobby]


def test_lately_holds_nothing_of_rooms_that_are_not_ones_own(
    ana: User, ben: User, vault: Room, lobby: Room
) -> None:
    messages.post(ana, vault, "secret")
    messages.post(ana, lobby, "open")

    assert [message.text for message in reading.lately(AnonymousUser())] == ["open"]
    assert reading.lately(ben) == []
