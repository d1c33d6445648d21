"""Saying, changing and reading back messages."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from demo_project.chat.models import Membership, Message, Room
from demo_project.chat.services import messages
from demo_project.chat.services.versions import next_version
from demo_project.notifications.models import Notification
from demo_project.realtime.errors import Forbidden, Invalid, TooMany


def say(author: User, room: Room, count: int) -> list[Message]:
    """Make messages that the rate limit would not let through."""
    made = []
    for _ in range(count):
        with transaction.atomic():
            version = next_version(room.pk)
            message = Message.objects.create(
                room=room, author=author, position=version, version=version, text="x"
            )
        made.append(message)
    old = timezone.now() - 2 * messages.RATE_WINDOW
    Message.objects.filter(room=room).update(created_at=old)
    return made


def test_messages_take_the_rooms_versions_without_a_gap(ana: User, lobby: Room) -> None:
    first = messages.post(ana, lobby, "one")
    second = messages.post(ana, lobby, "two")
    messages.edit(ana, first, "uno")
    first.refresh_from_db()

    assert (first.position, second.position) == (1, 2)
    assert (first.version, second.version) == (3, 2)


def test_version_outside_a_transaction_is_refused(lobby: Room) -> None:
    with pytest.raises(RuntimeError, match="transaction"):
        next_version(lobby.pk)


def test_same_nonce_says_it_once(ana: User, lobby: Room) -> None:
    nonce = uuid.uuid4()
    first = messages.post(ana, lobby, "once", nonce=nonce)
    again = messages.post(ana, lobby, "once", nonce=nonce)
    lobby.refresh_from_db()

    assert first.pk == again.pk
    assert Message.objects.count() == 1
    assert lobby.version == 1


def test_same_nonce_of_another_author_is_another_message(
    ana: User, ben: User, lobby: Room
) -> None:
    nonce = uuid.uuid4()
    messages.post(ana, lobby, "mine", nonce=nonce)
    messages.post(ben, lobby, "mine too", nonce=nonce)

    assert Message.objects.count() == 2


def test_refused_message_leaves_no_version_behind(ana: User, lobby: Room) -> None:
    with pytest.raises(Invalid, match="Write something"):
        messages.post(ana, lobby, "   ")

    lobby.refresh_from_db()
    assert lobby.version == 0


@pytest.fixture
def long_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the slowest machine the time to write too fast."""
    monkeypatch.setattr(messages, "RATE_WINDOW", timedelta(hours=1))


@pytest.mark.usefixtures("long_window")
def test_rate_limit_holds_over_rooms(ana: User, lobby: Room, vault: Room) -> None:
    for number in range(messages.RATE_MESSAGES):
        messages.post(ana, lobby if number % 2 else vault, "quick")

    with pytest.raises(TooMany):
        messages.post(ana, vault, "too quick")


@pytest.mark.usefixtures("long_window")
def test_rate_limit_is_each_persons_own(ana: User, ben: User, lobby: Room) -> None:
    for _ in range(messages.RATE_MESSAGES):
        messages.post(ana, lobby, "quick")

    assert messages.post(ben, lobby, "calm").position == messages.RATE_MESSAGES + 1


def test_only_the_author_edits(ana: User, ben: User, lobby: Room) -> None:
    message = messages.post(ana, lobby, "mine")

    with pytest.raises(Forbidden):
        messages.edit(ben, message, "yours")


def test_owner_deletes_what_others_said(ana: User, ben: User, vault: Room) -> None:
    Membership.objects.create(room=vault, user=ben)
    message = messages.post(ben, vault, "secret")
    messages.delete(ana, message)
    message.refresh_from_db()

    assert message.text == ""
    assert message.deleted_at is not None


def test_member_does_not_delete_what_others_said(
    ana: User, ben: User, vault: Room
) -> None:
    Membership.objects.create(room=vault, user=ben)
    message = messages.post(ana, vault, "mine")

    with pytest.raises(Forbidden):
        messages.delete(ben, message)


def test_deleted_message_is_not_edited(ana: User, lobby: Room) -> None:
    message = messages.post(ana, lobby, "gone soon")
    messages.delete(ana, message)

    with pytest.raises(Invalid, match="deleted"):
        messages.edit(ana, message, "back")


def test_former_member_cannot_change_what_they_said(ben: User, vault: Room) -> None:
    membership = Membership.objects.create(room=vault, user=ben)
    message = messages.post(ben, vault, "hello")
    membership.delete()

    with pytest.raises(Forbidden):
        messages.edit(ben, message, "changed")
    with pytest.raises(Forbidden):
        messages.delete(ben, message)


def test_mention_notifies_once_over_edits(ana: User, ben: User, lobby: Room) -> None:
    message = messages.post(ana, lobby, "hi @ben")
    messages.edit(ana, message, "hi there @ben @ana")

    assert list(Notification.objects.values_list("user__username", "kind")) == [
        ("ben", "mention")
    ]


def test_name_that_comes_and_goes_rings_the_bell_once(
    ana: User, ben: User, lobby: Room
) -> None:
    message = messages.post(ana, lobby, "hello @ben")
    for text in ("hello", "hello @ben", "nothing", "@ben!"):
        message = messages.edit(ana, message, text)

    assert Notification.objects.filter(user=ben).count() == 1


def test_mention_in_a_private_room_does_not_reach_outsiders(
    ana: User, ben: User, vault: Room
) -> None:
    message = messages.post(ana, vault, "do not tell @ben")

    assert not Notification.objects.exists()
    assert not message.mentions.exists()


def test_history_comes_in_pages_that_meet(ana: User, lobby: Room) -> None:
    say(ana, lobby, messages.HISTORY_PAGE + 5)
    latest = messages.history(lobby)
    older = messages.history(lobby, before=latest.messages[0].position)
    positions = [message.position for message in older.messages + latest.messages]

    assert positions == list(range(1, messages.HISTORY_PAGE + 6))
    assert (latest.has_more, older.has_more) == (True, False)


def test_changes_hold_edits_and_deletions_in_their_order(
    ana: User, lobby: Room
) -> None:
    first, second, third = say(ana, lobby, 3)
    messages.delete(ana, second)
    messages.edit(ana, first, "changed")
    changes = messages.changes_since(lobby, third.version)

    assert [message.pk for message in changes.messages] == [second.pk, first.pk]
    assert changes.version == 5


def test_no_changes_since_the_latest_version(ana: User, lobby: Room) -> None:
    say(ana, lobby, 2)

    assert messages.changes_since(lobby, 2) == messages.Changes([], 2)


@pytest.mark.parametrize("seen", [0, 999], ids=["far behind", "ahead"])
def test_client_that_cannot_catch_up_is_told_to_reload(
    ana: User, lobby: Room, seen: int
) -> None:
    say(ana, lobby, messages.CHANGES_PAGE + 1)
    changes = messages.changes_since(lobby, seen)

    assert changes.is_reset
    assert changes.messages == []
