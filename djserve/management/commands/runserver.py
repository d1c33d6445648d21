"""``manage.py runserver``: Django's development server, over ASGI.

Everything but the server is Django's: reloading, system checks, the warning about
migrations, static files. The class comes on top of the ``runserver`` that the project
would have without djserve, so that an app such as WhiteNoise keeps its say.
"""

from __future__ import annotations

import importlib
import os
import sys
from argparse import BooleanOptionalAction
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands.runserver import Command as DjangoCommand
from django.utils.autoreload import autoreload_started

import djserve
from djserve import handlers
from djserve.collector import collect_as_usual
from djserve.conf.catalogue import settings_by_key
from djserve.conf.options import add_arguments, mapping_from_namespace
from djserve.conf.suggestions import suggest_flags
from djserve.errors import ConfigError
from djserve.handlers.project import load_project
from djserve.management.development import (
    DevelopmentServer,
    choose_loop,
    load_development_config,
)
from djserve.management.development_processes import (
    await_processes,
    choose_processes,
    create_keeper,
    follow_parent,
    watch_code,
)
from djserve.management.options import find_development_certificate, trust_line
from djserve.management.reloader import look_often
from djserve.management.settings_errors import (
    SettingsWatch,
    are_settings_broken,
    is_parent,
)
from djserve.management.static_files import mount
from djserve.net.handover import hold_sockets, protect_sockets
from djserve.system import CAN_FORK, SYSTEM

if TYPE_CHECKING:
    from djserve.supervisor.keeper import Keeper

# Daphne's command stands in the same place, with the same flags.
COMPETITORS = frozenset({"daphne", "djserve"})

OFFERED_SETTINGS = frozenset({"HTTP3", "REQUEST_TIMEOUT", "WEBSOCKET_CONNECT_TIMEOUT"})


def find_next_command() -> type[DjangoCommand]:
    """Return the ``runserver`` of the next app that has one, else Django's own."""
    names = [config.name for config in apps.get_app_configs()]
    start = names.index("djserve") + 1 if "djserve" in names else 0
    for name in names[start:]:
        if name in COMPETITORS:
            continue
        command = _import_command(f"{name}.management.commands.runserver")
        if command is not None:
            return command
    return DjangoCommand


def _import_command(name: str) -> type[DjangoCommand] | None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only the command's absence may pass, not that of something it needs.
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise
    command: type[DjangoCommand] = module.Command
    return command


class Command(find_next_command()):  # type: ignore[misc]
    """Serve the project's ASGI application to its developer."""

    help = "Starts a development server for HTTP and WebSocket (djserve)."

    _server: DevelopmentServer | None = None
    _keeper: Keeper | None = None

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--noasgi",
            action="store_false",
            dest="use_asgi",
            help="Serve the WSGI application, by Django's own server.",
        )
        parser.add_argument(
            "--https",
            action="store_true",
            dest="use_https",
            help="Serve https with a certificate made for this machine.",
        )
        parser.add_argument(
            "--processes",
            action=BooleanOptionalAction,
            dest="with_processes",
            help="Run all that DJSERVE['PROCESSES'] names alongside the server, or "
            'none; by default those whose key "runserver" is not False.',
        )
        add_arguments(parser, exclude=settings_by_key().keys() - OFFERED_SETTINGS)
        suggest_flags(parser)

    def run(self, **options: Any) -> None:
        """Run the server, under the reloader or not; called by ``handle``."""
        exit_code = 0
        try:
            with self._hold_for_reloads(options):
                self._run_through_errors(options)
        except SystemExit as end:
            exit_code = end.code if isinstance(end.code, int) else 1
            raise
        finally:
            if self._keeper is not None:
                self._keeper.stop()
            # Under the reloader, the server is in another thread and runs on.
            if self._server is not None:
                self._server.stop_within(exit_code)

    @contextmanager
    def _hold_for_reloads(self, options: dict[str, Any]) -> Iterator[None]:
        """Keep the port open through reloads, in the process that starts the server.

        In the end it waits until nothing is left of what was started.
        """
        if not options["use_reloader"]:
            yield
        elif not is_parent():
            protect_sockets()
            follow_parent()
            autoreload_started.connect(watch_code)
            autoreload_started.connect(look_often)
            yield
        else:
            with await_processes(), self._hold_sockets(options):
                yield

    def _hold_sockets(self, options: dict[str, Any]) -> AbstractContextManager[None]:
        if not options["use_asgi"]:
            return nullcontext()
        try:
            config = load_development_config({})
        except ConfigError:
            # The process that serves reports it.
            return nullcontext()
        return hold_sockets((self.addr, int(self.port)), config.bind.backlog)

    def _run_through_errors(self, options: dict[str, Any]) -> None:
        """Run, and start again after the settings could not be loaded for a while."""
        if not (options["use_reloader"] and is_parent()):
            super().run(**options)
            return
        while True:
            started = SettingsWatch()
            try:
                super().run(**options)
            except SystemExit as end:
                # 2: without the settings Django's own command reads the options.
                if end.code not in {1, 2}:
                    raise
                watch = SettingsWatch()
                if not are_settings_broken():
                    if started.has_changed():
                        # They may have been, and are fixed already.
                        continue
                    raise
                error = "The settings cannot be loaded; waiting for a change of a file."
                self.stderr.write(self.style.ERROR(error))
                watch.wait()
            else:
                return

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Check the project and serve it; called again for each reload."""
        self._uses_asgi = options["use_asgi"]
        self._read_config(options)
        self._keeper = self._create_keeper(options)
        if self._uses_asgi:
            self._runner = choose_loop()
            # Django calls this with an address and serves by what it returns.
            self.server_cls = self._create_server
            options = {**options, "use_threading": False}
        try:
            super().inner_run(*args, **options)
        except ConfigError as error:
            raise CommandError("\n".join(error.problems)) from None

    def get_handler(self, *args: Any, **options: Any) -> Any:
        """Return the application that is served, static files in front of it."""
        if not options["use_asgi"]:
            collect_as_usual()
            return super().get_handler(*args, **options)
        application = self._load_application()
        collect_as_usual()
        # Without the app there are no such options.
        wants_static = options.get("use_static_handler", False)
        if wants_static and (settings.DEBUG or options["insecure_serving"]):
            return _serve_static_files(application)
        return application

    def on_bind(self, server_port: int) -> None:
        """Say where the server is found; called once it is bound."""
        if self._uses_asgi:
            self._write_banner(server_port)
        else:
            super().on_bind(server_port)
        # A file or a pipe would get it at the end: docker logs, a log of an editor's.
        self.stdout.flush()
        if self._keeper is not None:
            self._keeper.start()

    def _write_banner(self, server_port: int) -> None:
        quit_command = "CTRL-BREAK" if sys.platform == "win32" else "CONTROL-C"
        address = f"[{self.addr}]" if ":" in self.addr else self.addr
        if self.addr == "0":
            address = "0.0.0.0"
        self.stdout.write(
            f"{datetime.now():%B %d, %Y - %X}\n"
            f"Django version {self.get_version()}, "
            f"using settings {settings.SETTINGS_MODULE!r}\n"
            f"Starting ASGI/djserve version {djserve.__version__} development server "
            f"at {self.protocol}://{address}:{server_port}/\n"
            f"Quit the server with {quit_command}."
        )
        if os.environ.get("DJANGO_RUNSERVER_HIDE_WARNING") != "true":
            warning = (
                "WARNING: This is a development server. For production use "
                '"manage.py runasgi".'
            )
            self.stdout.write(self.style.WARNING(warning))

    def _read_config(self, options: dict[str, Any]) -> None:
        mapping = mapping_from_namespace(options)
        if options["use_https"] and options["use_asgi"]:
            self._add_certificate(mapping)
        if not options["use_threading"]:
            mapping["THREADS"] = 1
        try:
            self._config = load_development_config(mapping)
        except ConfigError as error:
            raise CommandError("\n".join(error.problems)) from None

    def _create_keeper(self, options: dict[str, Any]) -> Keeper | None:
        processes = self._config.processes.processes
        chosen = choose_processes(processes, options["with_processes"])
        if chosen and not CAN_FORK:
            names = ", ".join(process.name for process in chosen)
            self.stdout.write(f"Not run on {SYSTEM}, from PROCESSES: {names}")
            return None
        return create_keeper(chosen) if chosen else None

    def _add_certificate(self, mapping: dict[str, Any]) -> None:
        try:
            certificate = find_development_certificate(mapping)
        except ConfigError as error:
            raise CommandError("\n".join(error.problems)) from None
        self.protocol = "https"
        self.stdout.write(trust_line(certificate))

    def _load_application(self) -> Any:
        handlers.configure(self._config)
        try:
            project = load_project(self._config.django)
        except ConfigError as error:
            cause = error.__cause__
            # Django's reloader shows the error and watches the file that it names. An
            # OSError would be taken for one of binding the address.
            if cause is None or isinstance(cause, OSError):
                raise ImproperlyConfigured(str(error)) from cause
            raise cause from None
        mount(self._config.proxy.root_path)
        for note in project.notes:
            self.stdout.write(note)
        return project.application

    def _create_server(
        self, address: tuple[str, int], *args: object, **kwargs: object
    ) -> DevelopmentServer:
        self._server = DevelopmentServer(
            address, self._config, self._runner, self.style
        )
        return self._server


def _serve_static_files(application: Any) -> Any:
    from djserve.handlers.static import StaticFilesHandler

    return StaticFilesHandler(application)
