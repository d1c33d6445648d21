"""Prepare the demo: tables, sample people and rooms; again changes nothing."""

from __future__ import annotations

import uuid
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from demo_project.chat.models import Membership, Message, Room
from demo_project.chat.services import rooms
from demo_project.chat.services.versions import next_version

PASSWORD = "open-sesame-demo"
PEOPLE = ("ana", "ben", "chen", "dara")
ROOMS = (
    ("lobby", "Lobby", "Everyone is welcome", Room.Kind.PUBLIC),
    ("channels", "Channels", "Consumers, groups and layers", Room.Kind.PUBLIC),
    ("design", "Design", "Colours, type and the odd argument", Room.Kind.PRIVATE),
)
DESIGN_TEAM = ("ana", "ben")
SAMPLES = {
    "lobby": (
        ("ana", "Morning! The new server is up."),
        ("ben", "Nice. Is it the one with HTTP/2?"),
        ("ana", "Yes, and WebSockets over it too. Try two browser windows."),
        ("chen", "Typing in both at once is oddly satisfying."),
        ("dara", "Stop the server for a moment and write anyway: nothing gets lost."),
    ),
    "channels": (
        ("chen", "A consumer is to a WebSocket what a view is to a request."),
        ("dara", "And a group is who should hear of it."),
    ),
    "design": (
        ("ana", "Warm grey or cold grey?"),
        ("ben", "Warm. The green wants it."),
    ),
}
_NAMESPACE = uuid.UUID("9b1fe3a4-32c5-4b8f-9f6a-0f6d5f3c5a11")


class Command(BaseCommand):
    help = "Migrate, then make sample users and rooms. Safe to run again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--force",
            action="store_true",
            help="Make the sample users, whose password everyone knows, without DEBUG.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG and not options["force"]:
            raise CommandError(
                "The sample users have a known password; without DEBUG this needs "
                "--force."
            )
        call_command("migrate", verbosity=0, interactive=False)
        make_samples()
        names = ", ".join(PEOPLE)
        self.stdout.write(
            f"Ready. Sign in as {names} or admin; the password is {PASSWORD}"
        )


@transaction.atomic
def make_samples() -> None:
    """Make what is missing of the sample people, rooms and messages."""
    people = {name: _person(name) for name in PEOPLE}
    _person("admin", is_staff=True, is_superuser=True)
    # One hash for all: it takes a while to make, and hides nothing here.
    unset = User.objects.filter(username__in=[*PEOPLE, "admin"], password="")
    if unset.exists():
        unset.update(password=make_password(PASSWORD))
    for slug, name, topic, kind in ROOMS:
        room, is_new = Room.objects.get_or_create(
            slug=slug, defaults={"name": name, "topic": topic, "kind": kind}
        )
        if is_new:
            _furnish(room, people)
    rooms.direct(people["ana"], people["ben"])


def _person(name: str, **flags: bool) -> User:
    return User.objects.get_or_create(username=name, defaults=flags)[0]


def _furnish(room: Room, people: dict[str, User]) -> None:
    members = DESIGN_TEAM if room.kind == Room.Kind.PRIVATE else PEOPLE
    Membership.objects.bulk_create(
        Membership(
            room=room,
            user=people[name],
            role=Membership.Role.OWNER if name == "ana" else Membership.Role.MEMBER,
        )
        for name in members
    )
    for number, (name, text) in enumerate(SAMPLES[room.slug]):
        # Not by the service: its rate limit is for people.
        version = next_version(room.pk)
        Message.objects.create(
            room=room,
            author=people[name],
            position=version,
            version=version,
            nonce=uuid.uuid5(_NAMESPACE, f"{room.slug}-{number}"),
            text=text,
        )
    Membership.objects.filter(room=room).update(read_position=room_version(room))


def room_version(room: Room) -> int:
    """Return the room's version as it is now."""
    return Room.objects.values_list("version", flat=True).get(pk=room.pk)
