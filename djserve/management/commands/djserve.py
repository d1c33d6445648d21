"""``manage.py djserve``: look at a running supervisor, and tell it what to do."""

from __future__ import annotations

import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from djserve.conf.loader import load
from djserve.errors import ConfigError
from djserve.management.status_page import format_status
from djserve.net.control import ask

TIMEOUT = 10.0


class Command(BaseCommand):
    """Ask the supervisor at the control socket."""

    help = "Shows the workers of a running server, reloads, drains or scales it."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--control-socket",
            metavar="PATH",
            help="The supervisor's control socket (default: CONTROL_SOCKET).",
        )
        commands = parser.add_subparsers(dest="command", required=True)
        status = commands.add_parser("status", help="Show the workers.")
        status.add_argument("--json", action="store_true", help="As JSON.")
        status.add_argument(
            "--watch", action="store_true", help="Again every second, until Ctrl-C."
        )
        status.add_argument(
            "--stacks", action="store_true", help="With each request's stack."
        )
        reload = commands.add_parser("reload", help="Replace the workers by new code.")
        reload.add_argument(
            "--no-wait", action="store_true", help="Do not wait for the outcome."
        )
        commands.add_parser("drain", help="Finish all requests and stop.")
        scale = commands.add_parser("scale", help="Change the number of workers.")
        scale.add_argument("workers", type=int, metavar="N")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._path = options["control_socket"] or _configured_path()
            getattr(self, f"_{options['command']}")(options)
        except ConfigError as error:
            raise CommandError("\n".join(error.problems)) from None
        except KeyboardInterrupt:
            return

    def _status(self, options: dict[str, Any]) -> None:
        while True:
            status = self._ask({"command": "status"})
            if options["json"]:
                self.stdout.write(json.dumps(status, indent=2))
            else:
                page = format_status(status, stacks=options["stacks"])
                if options["watch"]:
                    # Home and clear, as the terminal knows it.
                    self.stdout.write("\x1b[H\x1b[2J", ending="")
                self.stdout.write(page)
            if not options["watch"]:
                return
            time.sleep(1)

    def _reload(self, options: dict[str, Any]) -> None:
        before = self._ask({"command": "status"})["generation"]
        self._ask({"command": "reload"})
        if options["no_wait"]:
            return
        while True:
            status = self._ask({"command": "status"})
            outcome = status["reload"]
            if outcome["state"] == "failed":
                problems = "\n".join(outcome["problems"])
                raise CommandError(f"The old workers stay: {problems}")
            if outcome["state"] == "done" and status["generation"] > before:
                self.stdout.write(f"Reloaded: generation {status['generation']}")
                return
            time.sleep(0.1)

    def _drain(self, options: dict[str, Any]) -> None:
        self._ask({"command": "drain"})

    def _scale(self, options: dict[str, Any]) -> None:
        if options["workers"] < 1:
            raise CommandError("At least one worker is needed; drain stops the server")
        self._ask({"command": "scale", "workers": options["workers"]})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = ask(self._path, request, TIMEOUT)
        if "error" in answer:
            raise CommandError(f"The supervisor refused: {answer['error']}")
        return answer


def _configured_path() -> str:
    path = load().workers.control_socket
    if path is None:
        raise ConfigError(["Set CONTROL_SOCKET in DJSERVE, or give --control-socket"])
    return path
