"""``manage.py djserve``: look at a running supervisor, and tell it what to do."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from djserve.conf.loader import load
from djserve.control import VARIABLE, Control, add_commands
from djserve.errors import ConfigError


class Command(BaseCommand):
    """Ask the supervisor at the control socket."""

    help = (
        "Controls a running server: shows its workers, reloads, drains or scales it. "
        "It starts none: manage.py runasgi and the shell command djserve do. "
        "manage.py loads the settings first; djserve-ctl is the same without them."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        add_commands(parser, "default: CONTROL_SOCKET")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            path = options["control_socket"] or _configured_path()
            Control(path, self.stdout.write).run(options)
        except ConfigError as error:
            raise CommandError("\n".join(error.problems)) from None
        except KeyboardInterrupt:
            return


def _configured_path() -> str:
    path = os.environ.get(VARIABLE) or load().workers.control_socket
    if path is None:
        raise ConfigError(["Set CONTROL_SOCKET in DJSERVE, or give --control-socket"])
    return path
