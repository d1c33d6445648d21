"""``manage.py runasgi``: serve the project in production.

The command line and ``settings.DJSERVE`` are one configuration, and the command line
wins. Nothing starts with a wrong setting or a failed system check.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    SystemCheckError,
)
from django.db import connections

import djserve
from djserve.checks import find_layer_problems
from djserve.conf.loader import load
from djserve.conf.options import add_arguments, mapping_from_namespace
from djserve.conf.parser import Flag
from djserve.conf.short_help import shorten_help
from djserve.conf.suggestions import suggest_flags
from djserve.errors import ConfigError
from djserve.management.production import create_program
from djserve.server.ending import THREADS_TIMEOUT, exit_within
from djserve.server.lifecycle import ExitCode
from djserve.supervisor import run
from djserve.supervisor.birth import is_child

if TYPE_CHECKING:
    from djserve.conf.schema import ServerConfig

DEFAULT_HOST = "127.0.0.1"


class Command(BaseCommand):
    """Serve the project's ASGI application until SIGTERM or SIGINT."""

    help = "Serves the project's ASGI application over HTTP and WebSocket."
    # They run in handle(), after the settings were found to be right.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        # argparse would list all the options there, before they are explained.
        parser.usage = "%(prog)s [options] [addrport]"
        parser.add_argument(
            "addrport",
            nargs="?",
            help="Port, host:port or any address that --bind takes.",
        )
        parser.add_argument(
            "--skip-checks", action="store_true", help="Skip system checks."
        )
        parser.add_argument(
            "--dev-https",
            action="store_true",
            help="Serve https with a certificate made for this machine.",
        )
        add_arguments(parser)
        shorten_help(parser, "--skip-checks", "--dev-https", "--settings")
        suggest_flags(parser)

    def get_version(self) -> str:
        return djserve.__version__

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            code = self._serve(options)
        except ConfigError as error:
            raise CommandError(
                "\n".join(error.problems), returncode=ExitCode.CONFIG_WRONG
            ) from None
        if self._called_from_command_line:  # type: ignore[attr-defined]
            exit_within(THREADS_TIMEOUT, code)
        if code is not ExitCode.OK:
            sys.exit(code)

    def _serve(self, options: dict[str, Any]) -> ExitCode:
        mapping = read_options(options)
        if options["dev_https"]:
            self._add_certificate(mapping)
        config = load(mapping)
        if not options["skip_checks"]:
            self._run_checks()
            self._check_command_line(config)
        return run(config, create_program(config))

    def _add_certificate(self, mapping: dict[str, Any]) -> None:
        from djserve.management.https import find_development_certificate, trust_line

        self.stdout.write(trust_line(find_development_certificate(mapping)))

    def _run_checks(self) -> None:
        try:
            self.check()
        except SystemCheckError as error:
            raise CommandError(str(error), returncode=ExitCode.CONFIG_WRONG) from None
        # A check may have asked a database; its connection is not for this thread.
        connections.close_all()

    def _check_command_line(self, config: ServerConfig) -> None:
        """Tell what the checks could not: they know the settings alone."""
        # The supervisor's command line is also that of each process that it starts.
        if is_child() or load().workers.workers != 1:
            return
        for message in find_layer_problems(config):
            self.stderr.write(str(message), self.style.WARNING)


def read_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the command line gives, ``addrport`` among BIND."""
    address = options.get("addrport")
    if not address:
        return mapping_from_namespace(options)
    # As with Django's runserver, digits alone are a port of this machine.
    text = f"{DEFAULT_HOST}:{address}" if address.isdigit() else address
    bind = [Flag("addrport", text), *options.get("bind", [])]
    return mapping_from_namespace({**options, "bind": bind})
