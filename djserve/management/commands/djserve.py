"""``manage.py djserve``: look at a running supervisor, and tell it what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.conf import settings as project_settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from djserve.conf.loader import load
from djserve.control import VARIABLE, Control, add_commands
from djserve.doctor.command import add_arguments as add_doctor_arguments
from djserve.doctor.command import run as run_doctor
from djserve.errors import ConfigError
from djserve.management.compressing import add_arguments as add_compress_arguments
from djserve.management.compressing import compress_folders
from djserve.management.settings_table import add_arguments as add_settings_arguments
from djserve.management.settings_table import show_settings


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
        text = "Show each setting, its value and what has set it, for runasgi."
        add_settings_arguments(commands.add_parser("settings", help=text))
        text = "Show what to change to replace Daphne, Uvicorn, gunicorn and others."
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
                show_settings(options, self.stdout.write)
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


def _configured_path() -> str:
    path = os.environ.get(VARIABLE) or load().workers.control_socket
    if path is None:
        raise ConfigError(["Set CONTROL_SOCKET in DJSERVE, or give --control-socket"])
    return path
