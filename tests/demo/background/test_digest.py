"""The digest."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from demo_project.background import digest
from demo_project.chat.models import Membership, Room
from demo_project.chat.services import messages, reading
from demo_project.notifications.models import Notification
from demo_project.realtime import presence


@pytest.fixture(autouse=True)
def member(ben: User, vault: Room) -> None:
    Membership.objects.create(room=vault, user=ben)


def digests() -> list[tuple[str, str]]:
    found = Notification.objects.filter(kind="digest").order_by("pk")
    return list(found.values_list("user__username", "text"))


def test_absent_member_gets_one_digest_of_what_is_new(ana: User, vault: Room) -> None:
    messages.post(ana, vault, "one")
    messages.post(ana, vault, "two")
    digest.send()
    digest.send()

    assert digests() == [("ben", "2 unread in Vault")]


def test_later_news_make_another_digest(ana: User, vault: Room) -> None:
    messages.post(ana, vault, "one")
    digest.send()
    messages.post(ana, vault, "two")
    digest.send()

    assert [text for _, text in digests()] == ["1 unread in Vault", "2 unread in Vault"]


def test_who_has_read_everything_gets_none(ana: User, ben: User, vault: Room) -> None:
    messages.post(ana, vault, "one")
    reading.mark_read(ben, vault, 1)
    digest.send()

    assert digests() == []


def test_who_is_online_gets_none(ana: User, ben: User, vault: Room) -> None:
    messages.post(ana, vault, "one")
    presence.opened("inbox", ben)
    digest.send()

    assert digests() == []
