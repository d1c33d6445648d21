"""``manage.py runasgi``: serve the project in production.

The command line and ``settings.DJSERVE`` are one configuration, and the command line
wins. Nothing starts with a wrong setting or a failed system check.
"""

from __future__ import annotations

import atexit
import os
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
from djserve.checks.channel_layers import find_layer_problems
from djserve.checks.project import find_process_problems
from djserve.conf.loader import load, load_for_production
from djserve.conf.options import add_arguments
from djserve.conf.process import become_worker
from djserve.conf.short_help import shorten_help
from djserve.conf.suggestions import suggest_flags
from djserve.errors import ConfigError
from djserve.management.known_checks import known_left_out
from djserve.management.options import (
    find_development_certificate,
    read_options,
    trust_line,
)
from djserve.management.production import create_program
from djserve.server.launch import THREADS_TIMEOUT, exit_within
from djserve.server.lifecycle import ExitCode
from djserve.supervisor import run
from djserve.supervisor.inheritance import is_checked, is_child, is_successor
from djserve.supervisor.roles import become_supervisor, needs_supervisor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djserve.conf.processes import ProcessConfig
    from djserve.conf.schema import ServerConfig


# The parser that ``become_role`` has made, which is the whole command's as well: it has
# more than a hundred options. By the command and its two names.
_early_parsers: dict[tuple[type, str, str], CommandParser] = {}


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

    def create_parser(
        self, prog_name: str, subcommand: str, **kwargs: Any
    ) -> CommandParser:
        """Return a parser of the command line; ``become_role``'s, the first time."""
        early = _early_parsers.pop((type(self), prog_name, subcommand), None)
        if early is None or kwargs:
            return super().create_parser(prog_name, subcommand, **kwargs)
        early.called_from_command_line = self._called_from_command_line  # type: ignore[attr-defined]
        return early

    def get_version(self) -> str:
        return djserve.__version__

    def handle(self, *args: Any, **options: Any) -> None:
        atexit.unregister(_end_unserved)
        try:
            code = self._serve(options)
        except (ConfigError, CommandError) as error:
            text = str(error)
            if is_child():
                # A server alone needs nothing of it.
                from djserve.supervisor.loader import report_failure

                report_failure([text])
                sys.exit(ExitCode.CONFIG_WRONG)
            raise CommandError(text, returncode=ExitCode.CONFIG_WRONG) from None
        if self._called_from_command_line:  # type: ignore[attr-defined]
            exit_within(THREADS_TIMEOUT, code)
        if code is not ExitCode.OK:
            sys.exit(code)

    def become_role(self, arguments: list[str]) -> None:
        """Become the supervisor, if one is needed, before the project is loaded.

        Whatever is wrong with the command line is reported later, in the usual way.
        """
        if {"-h", "--help", "--help-all", "--version"} & set(arguments):
            return
        parser = self.create_parser(arguments[0], arguments[1])
        # An error of a parser that is not called from the command line is raised.
        parser.called_from_command_line = False
        try:
            options = vars(parser.parse_args(arguments[2:]))
            config = load_for_production(read_options(options))
            needed = needs_supervisor(config.workers, config.processes)
            if needed or is_successor():
                become_supervisor(self._read_config(options))
        except (CommandError, ConfigError):
            return
        _early_parsers[type(self), arguments[0], arguments[1]] = parser
        become_worker()
        atexit.register(_end_unserved)

    def _read_config(self, options: dict[str, Any]) -> ServerConfig:
        mapping = read_options(options)
        if options["dev_https"]:
            self._add_certificate(mapping)
        return load_for_production(mapping)

    def _serve(self, options: dict[str, Any]) -> ExitCode:
        config = self._read_config(options)
        needed = needs_supervisor(config.workers, config.processes)
        if not is_child() and (needed or is_successor()):
            # The checks are for the process that loads the project.
            become_supervisor(config)
        if not options["skip_checks"] and not is_checked():
            self._run_checks()
            self._check_command_line(config.workers.workers, config.processes.processes)
        return run(config, create_program(config))

    def _add_certificate(self, mapping: dict[str, Any]) -> None:
        line = trust_line(find_development_certificate(mapping))
        if not is_child():
            self.stdout.write(line)

    def _run_checks(self) -> None:
        try:
            with known_left_out():
                self.check()
        except SystemCheckError as error:
            raise CommandError(str(error), returncode=ExitCode.CONFIG_WRONG) from None
        # A check may have asked a database; its connection is not for this thread.
        connections.close_all()

    def _check_command_line(
        self, workers: int | None, processes: Sequence[ProcessConfig]
    ) -> None:
        """Tell what the checks could not: they know the settings alone."""
        if problems := find_process_problems(processes):
            raise CommandError("\n".join(map(str, problems)))
        if load().workers.workers != 1:
            return
        for message in find_layer_problems(workers):
            self.stderr.write(str(message), self.style.WARNING)


def _end_unserved() -> None:
    """End as a failure if loading the apps has ended the process: sys.exit() in one."""
    print("runasgi: error: loading the apps has ended the process", file=sys.stderr)
    sys.stderr.flush()
    os._exit(ExitCode.CONFIG_WRONG)
