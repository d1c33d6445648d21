"""The SQL that runs with every message, beside what the ORM says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.utils import timezone

from demo_project.chat import permissions
from demo_project.chat.models import Membership, Message, Room
from demo_project.chat.services import messages, statements
from demo_project.realtime import presence
from demo_project.realtime.groups import INBOX_TOPIC, room_group


def test_advanced_room_is_the_room_with_its_next_version(lobby: Room) -> None:
    with transaction.atomic():
        room = statements.advance(lobby.pk)

    lobby.refresh_from_db()
    fields = [field.attname for field in Room._meta.concrete_fields]
    assert room.version == lobby.version == 1
    assert [getattr(room, name) for name in fields] == [
        getattr(lobby, name) for name in fields
    ]


def test_room_that_is_gone_cannot_advance() -> None:
    with pytest.raises(Room.DoesNotExist), transaction.atomic():
        statements.advance(17)


def test_only_own_messages_since_the_time_are_counted(
    ana: User, ben: User, lobby: Room
) -> None:
    old = messages.post(ana, lobby, "long ago")
    Message.objects.filter(pk=old.pk).update(
        created_at=timezone.now() - timedelta(seconds=40)
    )
    messages.post(ana, lobby, "now")
    messages.post(ben, lobby, "of another")
    since = timezone.now() - timedelta(seconds=30)

    assert statements.count_messages(ana.pk, since) == 1
    assert statements.count_messages(ana.pk, since - timedelta(seconds=30)) == 2


def test_members_on_a_topic_are_those_seen_since(
    ana: User, ben: User, vault: Room
) -> None:
    Membership.objects.get_or_create(room=vault, user=ana)
    for user in (ana, ana, ben):
        presence.opened(INBOX_TOPIC, user)
    presence.opened(INBOX_TOPIC, None)
    now = timezone.now()
    members = set(vault.memberships.values_list("user", flat=True))
    before = presence.oldest()

    found = statements.members_on_topic(vault.pk, INBOX_TOPIC, before)
    assert found == members & {ana.pk, ben.pk}
    assert ana.pk in found
    elsewhere = room_group(vault.pk)
    assert statements.members_on_topic(vault.pk, elsewhere, before) == set()
    assert statements.members_on_topic(vault.pk, INBOX_TOPIC, now) == set()


def test_reading_is_noted_for_one_member_of_one_room(
    ana: User, ben: User, lobby: Room, vault: Room
) -> None:
    for user, room in ((ana, lobby), (ana, vault), (ben, lobby)):
        Membership.objects.update_or_create(room=room, user=user)
    statements.mark_read(lobby.pk, ana.pk, 5)

    rows = Membership.objects.filter(read_position=5)
    assert [(row.user, row.room) for row in rows] == [(ana, lobby)]


def test_room_is_readable_to_those_whom_the_orm_finds(
    ana: User, ben: User, lobby: Room, vault: Room
) -> None:
    Membership.objects.filter(room=vault).delete()
    Membership.objects.create(room=vault, user=ana)

    for viewer in (ana, ben, AnonymousUser()):
        readable = set(permissions.readable_rooms(viewer).values_list("pk", flat=True))
        assert readable == {
            room.pk
            for room in (lobby, vault)
            if statements.readable_kind(room.pk, viewer.pk)
        }
    assert statements.readable_kind(lobby.pk, None) == Room.Kind.PUBLIC
    assert statements.readable_kind(vault.pk, ana.pk) == Room.Kind.PRIVATE
    assert statements.readable_kind(vault.pk, ben.pk) is None
    assert statements.readable_kind(vault.pk + lobby.pk, ana.pk) is None
