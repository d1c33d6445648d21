"""Send a notification from the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from demo_project.notifications import services


class Command(BaseCommand):
    help = "Notify a user. Open pages show it at once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", metavar="USER", help="Name of the user.")
        parser.add_argument("text", metavar="TEXT", help="What to say.")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["user"]
        user = User.objects.filter(username=name).first()
        if user is None:
            raise CommandError(f"There is no user {name!r}.")
        services.notify(user, options["text"])
        self.stdout.write(self.style.SUCCESS(f"Notified {name}."))
