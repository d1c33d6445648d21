"""Who is online."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from demo_project.chat.presence import sweep_connections
from demo_project.realtime import presence
from demo_project.realtime.models import Connection


def expire() -> None:
    past = timezone.now() - presence.EXPIRY - timedelta(seconds=1)
    Connection.objects.update(seen_at=past)


def test_two_tabs_are_one_person_until_both_close(ana: User) -> None:
    first = presence.opened("room.1", ana)
    second = presence.opened("room.1", ana)
    presence.closed(first)

    assert presence.people("room.1") == {
        "people": [{"id": ana.pk, "name": "ana"}],
        "guests": 0,
    }
    presence.closed(second)
    assert presence.people("room.1")["people"] == []


def test_connections_of_a_dead_process_run_out(ana: User) -> None:
    presence.opened("room.1", ana)
    expire()

    assert presence.people("room.1")["people"] == []
    assert presence.online([ana.pk]) == set()
    assert presence.sweep() == ["room.1"]
    assert not Connection.objects.exists()


def test_sign_of_life_brings_a_swept_connection_back(ana: User) -> None:
    connection = presence.opened("room.1", ana)
    expire()
    presence.sweep()
    presence.touched(connection, "room.1", ana)

    assert presence.online([ana.pk]) == {ana.pk}


def test_sweep_passes_over_topics_that_are_no_rooms(ana: User) -> None:
    presence.opened("inbox", ana)
    expire()
    sweep_connections()

    assert not Connection.objects.exists()
