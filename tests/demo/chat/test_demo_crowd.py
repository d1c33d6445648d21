from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from demo_project.chat.models import Membership, Room
from demo_project.chat.services import messages


def crowd(users: int, rooms: int) -> list[dict[str, str]]:
    out = StringIO()
    call_command("demo_crowd", users=users, rooms=rooms, force=True, stdout=out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_sessions_of_the_crowd_are_signed_in() -> None:
    person = crowd(users=1, rooms=1)[0]
    client = Client()
    client.cookies["sessionid"] = person["session"]
    response = client.get(f"/rooms/{person['room']}/")

    assert response.context["user"].username == person["user"]


def test_crowd_is_spread_evenly_and_may_write() -> None:
    people = crowd(users=6, rooms=3)

    assert [person["room"] for person in people] == [
        "crowd-0",
        "crowd-1",
        "crowd-2",
    ] * 2
    for room in Room.objects.all():
        assert Membership.objects.filter(room=room).count() == 2
    member = Membership.objects.select_related("user", "room").first()
    assert member is not None
    assert messages.post(member.user, member.room, "Hello").pk


def test_second_crowd_reuses_people_and_rooms() -> None:
    first, second = crowd(users=2, rooms=1), crowd(users=2, rooms=1)

    assert [person["user"] for person in first] == [person["user"] for person in second]
    assert Room.objects.count() == 1


def test_sessions_are_not_printed_without_debug_unless_forced(settings: Any) -> None:
    settings.DEBUG = False
    with pytest.raises(CommandError, match="--force"):
        call_command("demo_crowd", stdout=StringIO())
