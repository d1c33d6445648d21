"""Make a crowd for load tests: people with open sessions, spread over public rooms."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from demo_project.chat.models import Membership, Room


class Command(BaseCommand):
    help = (
        "Make people, public rooms, and a session for each person; print one line of "
        "JSON for each. For load tests on a database of their own."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--users", type=int, default=500)
        parser.add_argument("--rooms", type=int, default=50)
        parser.add_argument(
            "--force",
            action="store_true",
            help="Print sessions, which are as good as passwords, without DEBUG.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG and not options["force"]:
            raise CommandError(
                "The sessions that it prints let anyone in; without DEBUG this needs "
                "--force."
            )
        if options["rooms"] < 1:
            raise CommandError("There must be a room.")
        for entry in make_crowd(options["users"], options["rooms"]):
            self.stdout.write(json.dumps(entry))


@transaction.atomic
def make_crowd(users: int, rooms: int) -> list[dict[str, str]]:
    """Return name, session key and room of each person; all are made where missing."""
    places = [_room(number) for number in range(rooms)]
    crowd = []
    for number in range(users):
        user, room = _person(number), places[number % rooms]
        Membership.objects.get_or_create(room=room, user=user)
        crowd.append(
            {"user": user.username, "session": _session(user), "room": room.slug}
        )
    return crowd


def _room(number: int) -> Room:
    slug = f"crowd-{number}"
    return Room.objects.get_or_create(slug=slug, defaults={"name": slug})[0]


def _person(number: int) -> User:
    user, is_new = User.objects.get_or_create(username=f"crowd-{number}")
    if is_new:
        # Nobody signs in as one of them: the session is the only way.
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def _session(user: User) -> str:
    """Sign the user in without a request, and return the key of the session."""
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[-1]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    key: str = session.session_key
    return key
