"""``runserver`` around its server; tests/e2e/test_runserver.py has the processes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from io import StringIO
from types import ModuleType, SimpleNamespace
from typing import Any

import django
import pytest
from django.apps import apps
from django.contrib.staticfiles.management.commands.runserver import (
    Command as StaticFilesCommand,
)
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import CommandError
from django.core.management.commands.runserver import Command as DjangoCommand
from django.test import modify_settings, override_settings
from django.utils import autoreload

from djserve import handlers
from djserve.errors import ConfigError
from djserve.handlers.project import Project
from djserve.handlers.static import StaticFilesHandler
from djserve.management.commands import runserver
from djserve.management.commands.runserver import Command, find_next_command


async def application(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


class FakeServer:
    """Stands for a server that has been bound."""

    def __init__(self, address: Any, config: Any, reactor: Any, style: Any) -> None:
        self.server_port = address[1]
        self.config = config
        self.ended_with: list[int] = []

    def set_app(self, application: Any) -> None:
        self.application = application

    def serve_forever(self) -> None:
        return

    def stop_within(self, exit_code: int) -> None:
        self.ended_with.append(exit_code)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command, with everything real but its server and its reactor."""
    monkeypatch.setattr(runserver, "DevelopmentServer", FakeServer)
    monkeypatch.setattr(runserver, "choose_loop", object)
    monkeypatch.setattr(handlers, "configure", lambda config: None)
    monkeypatch.setattr(Command, "check_migrations", lambda self: None)
    yield Command(stdout=StringIO(), stderr=StringIO(), no_color=True)


def run(command: Command, *arguments: str) -> Any:
    """Run the command without the reloader; return its server."""
    parser = command.create_parser("manage.py", "runserver")
    options = vars(parser.parse_args(["--noreload", "--skip-checks", *arguments]))
    command.execute(**options)
    return command._server


def output_of(command: Command) -> str:
    return str(command.stdout._out.getvalue())


def test_next_command_is_that_of_the_next_app() -> None:
    assert find_next_command() is StaticFilesCommand


@modify_settings(INSTALLED_APPS={"remove": "django.contrib.staticfiles"})
def test_without_another_app_it_is_djangos() -> None:
    assert find_next_command() is DjangoCommand


def test_command_of_daphne_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [SimpleNamespace(name=name) for name in ("djserve", "daphne")]
    monkeypatch.setattr(apps, "get_app_configs", lambda: configs)

    assert find_next_command() is DjangoCommand


def test_command_that_cannot_be_imported_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'missing'", name="missing")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="missing"):
        find_next_command()


@override_settings(DEBUG=True)
def test_project_is_served_with_static_files_in_front(command: Command) -> None:
    server = run(command, "8123")

    assert server.server_port == 8123
    assert isinstance(server.application, StaticFilesHandler)


@override_settings(DEBUG=False, ALLOWED_HOSTS=["*"])
def test_static_files_are_for_debugging(command: Command) -> None:
    assert not isinstance(run(command).application, StaticFilesHandler)


@override_settings(DEBUG=False, ALLOWED_HOSTS=["*"])
def test_static_files_may_be_asked_for(command: Command) -> None:
    server = run(command, "--insecure")

    assert isinstance(server.application, StaticFilesHandler)


@override_settings(DEBUG=True)
def test_static_files_may_be_left_out(command: Command) -> None:
    server = run(command, "--nostatic")

    assert not isinstance(server.application, StaticFilesHandler)


@override_settings(DEBUG=True)
def test_options_reach_the_configuration(command: Command) -> None:
    options = ("--http_timeout", "7", "--websocket_handshake_timeout", "8")
    config = run(command, "--nothreading", *options).config

    assert config.http.request_timeout == 7
    assert config.websocket.websocket_connect_timeout == 8
    assert config.django.threads == 1


@override_settings(DEBUG=True)
def test_threads_are_those_of_the_settings(command: Command) -> None:
    assert run(command).config.django.threads is None


@override_settings(DEBUG=True, DJSERVE={"BAKLOG": 1})
def test_wrong_settings_are_told(command: Command) -> None:
    with pytest.raises(CommandError, match="did you mean 'BACKLOG'"):
        run(command)


@pytest.mark.parametrize(
    ("addrport", "url"),
    [
        ("8123", "http://127.0.0.1:8123/"),
        ("0:8123", "http://0.0.0.0:8123/"),
        ("[::1]:8123", "http://[::1]:8123/"),
        ("localhost:8123", "http://localhost:8123/"),
    ],
)
@override_settings(DEBUG=True)
def test_banner_shows_the_address(addrport: str, url: str, command: Command) -> None:
    run(command, addrport)

    assert f"development server at {url}\n" in output_of(command)


@override_settings(DEBUG=True)
def test_ipv6_option_is_djangos(command: Command) -> None:
    run(command, "--ipv6")

    assert "http://[::1]:8000/" in output_of(command)


@override_settings(DEBUG=True)
def test_warning_can_be_hidden_as_djangos(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_RUNSERVER_HIDE_WARNING", "true")
    run(command)

    assert "WARNING" not in output_of(command)


@override_settings(DEBUG=True)
def test_wsgi_application_is_left_to_django(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []

    def serve(address: str, port: int, handler: Any, **options: Any) -> None:
        served.append(handler)
        options["on_bind"](port)

    monkeypatch.setattr("django.core.management.commands.runserver.run", serve)
    run(command, "--noasgi", "--nostatic")

    assert isinstance(served[0], WSGIHandler)
    # Django 6.1 says which interface it serves.
    kind = "WSGI " if django.VERSION >= (6, 1) else ""
    assert f"Starting {kind}development server at" in output_of(command)


@pytest.mark.e2e
@override_settings(DEBUG=True)
@pytest.mark.parametrize(("code", "told"), [(3, 3), (None, 1)])
def test_end_of_the_reloader_is_passed_on(
    code: int | None, told: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reload_at_once(serve: Any, **options: Any) -> None:
        serve(**options)
        sys.exit("why" if code is None else code)

    monkeypatch.setattr(autoreload, "run_with_reloader", reload_at_once)
    parser = command.create_parser("manage.py", "runserver")
    options = vars(parser.parse_args(["--skip-checks"]))
    with pytest.raises(SystemExit):
        command.execute(**options)

    server: Any = command._server
    assert server.ended_with == [told]


@pytest.mark.e2e
@override_settings(DEBUG=True)
def test_process_without_a_server_just_ends(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoreload, "run_with_reloader", lambda serve, **kwargs: None)
    parser = command.create_parser("manage.py", "runserver")
    command.execute(**vars(parser.parse_args([])))

    assert command._server is None


@pytest.mark.parametrize(
    ("cause", "raised"),
    [
        (ValueError("in the project"), ValueError),
        # Django would take it for a fault of the address.
        (FileNotFoundError("in the project"), ImproperlyConfigured),
        (None, ImproperlyConfigured),
    ],
    ids=["any", "OSError", "none"],
)
@override_settings(DEBUG=True)
def test_error_of_the_project_reaches_the_reloader(
    cause: Exception | None,
    raised: type[Exception],
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(config: object) -> Project:
        raise ConfigError(["Importing failed: in the project"]) from cause

    monkeypatch.setattr(runserver, "load_project", fail)
    with pytest.raises(raised, match="in the project"):
        run(command)


ONE = {"PROCESSES": {"tasks": {"program": ["true"]}}}


@override_settings(DJSERVE=ONE)
def test_processes_start_with_the_server_and_end_with_it(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def create(processes: Any) -> Any:
        calls.extend(process.name for process in processes)
        return SimpleNamespace(
            start=lambda: calls.append("start"), stop=lambda: calls.append("stop")
        )

    monkeypatch.setattr(runserver, "create_keeper", create)
    run(command)
    assert calls == ["tasks", "start", "stop"]


@override_settings(DJSERVE=ONE)
def test_processes_may_be_left_out(command: Command) -> None:
    run(command, "--no-processes")
    assert command._keeper is None


@override_settings(DJSERVE=ONE)
def test_system_without_fork_names_them(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runserver, "CAN_FORK", False)
    monkeypatch.setattr(runserver, "SYSTEM", "Windows")
    run(command)
    assert command._keeper is None
    assert "Not run on Windows, from PROCESSES: tasks" in output_of(command)
