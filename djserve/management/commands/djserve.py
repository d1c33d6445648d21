"""``manage.py djserve``: look at a running supervisor, and tell it what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.conf import settings as project_settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from djserve.conf.loader import list_origins, load
from djserve.control import VARIABLE, Control, add_commands
from djserve.doctor.command import add_arguments as add_doctor_arguments
from djserve.doctor.command import run as run_doctor
from djserve.errors import ConfigError
from djserve.management.compressing import add_arguments as add_compress_arguments
from djserve.management.compressing import compress_folders

SECRETS = ("KEYFILE_PASSWORD",)


class Command(BaseCommand):
    """Ask the supervisor at the control socket."""

    help = (
        "Controls a running server: shows its workers, reloads, drains or scales it. "
        "It starts none: manage.py runasgi and the shell command djserve do. "
        "manage.py loads the settings first; djserve-ctl is the same without them."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        commands = add_commands(parser, "default: CONTROL_SOCKET")
        text = "Show each setting, its value and where that comes from."
        settings = commands.add_parser("settings", help=text)
        settings.add_argument(
            "--changed", action="store_true", help="Leave out those at their defaults."
        )
        text = "Show what to change to replace Daphne, Uvicorn or gunicorn."
        add_doctor_arguments(commands.add_parser("doctor", help=text))
        text = "Make the compressed variants of the static files: .zst, .br, .gz."
        add_compress_arguments(commands.add_parser("compress", help=text))

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["command"] == "doctor":
                self._examine(options["command_line"])
                return
            if options["command"] == "compress":
                compress_folders(options["folder"], self.stdout)
                return
            if options["command"] == "settings":
                self._show_settings(only_changed=options["changed"])
                return
            path = options["control_socket"] or _configured_path()
            Control(path, self.stdout.write).run(options)
        except ConfigError as error:
            raise CommandError("\n".join(error.problems)) from None
        except KeyboardInterrupt:
            return

    def _examine(self, command_line: str | None) -> None:
        try:
            text = run_doctor(Path.cwd(), command_line, project_settings, "")
        except ValueError as error:
            raise CommandError(str(error), returncode=2) from None
        self.stdout.write(text)

    def _show_settings(self, *, only_changed: bool) -> None:
        for origin in list_origins():
            if only_changed and origin.source == "default":
                continue
            is_secret = origin.key in SECRETS and origin.value is not None
            value = "***" if is_secret else repr(origin.value)
            self.stdout.write(f"{origin.key:32} {value:32} {origin.source}")


def _configured_path() -> str:
    path = os.environ.get(VARIABLE) or load().workers.control_socket
    if path is None:
        raise ConfigError(["Set CONTROL_SOCKET in DJSERVE, or give --control-socket"])
    return path
