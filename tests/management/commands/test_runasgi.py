"""``runasgi`` up to where it would serve; tests/e2e/test_runasgi.py has the rest."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.checks import Error, register
from django.core.checks.registry import registry
from django.core.management import CommandError, call_command
from django.test import override_settings

import djserve
from djserve import handlers
from djserve.conf.schema import ServerConfig
from djserve.errors import ConfigError
from djserve.handlers.project import Project
from djserve.management import production
from djserve.management.commands import runasgi
from djserve.server.lifecycle import ExitCode
from djserve.supervisor import roles
from tests.support.logs import own_records

pytestmark = pytest.mark.django_db

Run = Callable[..., ServerConfig]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be served: application, configuration and notes; an exit code."""
    served: list[Any] = []

    def launch(
        application: Any,
        config: ServerConfig,
        reactor: object,
        notes: list[str],
        stats: object,
        files: object,
    ) -> ExitCode:
        served.extend((application, config, notes))
        return ExitCode.OK

    monkeypatch.setattr(roles, "prepare_loop", object)
    monkeypatch.setattr(production, "configure", lambda config, django: None)
    monkeypatch.setattr(handlers, "configure", lambda config: None)
    monkeypatch.setattr(roles, "launch", launch)
    # The tests may run in a container, which adds its notes.
    monkeypatch.setattr(production, "find_platform", lambda environ: None)
    return served


@pytest.fixture
def run(served: list[Any]) -> Run:
    """Give ``run(*arguments, **options)``: the configuration that would be served."""

    def run(*arguments: str, **options: object) -> ServerConfig:
        call_command("runasgi", *arguments, **options)
        config: ServerConfig = served[1]
        return config

    return run


@pytest.mark.parametrize(
    ("arguments", "bind"),
    [
        ([], ("127.0.0.1:8000",)),
        (["8001"], ("127.0.0.1:8001",)),
        (["0.0.0.0:8001"], ("0.0.0.0:8001",)),
        (["[::1]:8001"], ("[::1]:8001",)),
        (["localhost"], ("localhost:8000",)),
        (["0.0.0.0", "-p", "9000"], ("0.0.0.0:9000",)),
        (["unix:/run/x.sock"], ("unix:/run/x.sock",)),
        (["fd://3"], ("fd://3",)),
        (["8001", "-b", "[::1]:8002"], ("127.0.0.1:8001", "[::1]:8002")),
        (["-u", "/run/x.sock"], ("unix:/run/x.sock",)),
    ],
    ids=" ".join,
)
def test_address_may_be_given_in_every_form(
    arguments: list[str], bind: tuple[str, ...], run: Run
) -> None:
    assert run(*arguments).bind.bind == bind


@override_settings(DJSERVE={"BIND": ["unix:/run/x.sock"], "BACKLOG": 7})
def test_address_on_the_command_line_replaces_that_of_the_settings(run: Run) -> None:
    config = run("8001")

    assert config.bind.bind == ("127.0.0.1:8001",)
    assert config.bind.backlog == 7


def test_options_may_be_given_by_a_program(run: Run) -> None:
    config = run(addrport="8001", access_log="-", verbosity=2)

    assert config.bind.bind == ("127.0.0.1:8001",)
    assert config.logging.access_log == "-"
    assert config.logging.verbosity == 2


def test_access_log_is_off_by_default(run: Run) -> None:
    assert run().logging.access_log is None


@override_settings(DJSERVE={"BAKLOG": 7, "LIFESPAN": "maybe"})
def test_every_wrong_setting_is_told(run: Run) -> None:
    with pytest.raises(CommandError) as caught:
        run("--threads", "none")

    assert caught.value.returncode == ExitCode.CONFIG_WRONG
    problems = str(caught.value).splitlines()
    assert [problem.split()[0] for problem in problems] == [
        "DJSERVE['BAKLOG']:",
        "DJSERVE['LIFESPAN']:",
        "--threads:",
    ]


@pytest.fixture
def failing_check() -> Any:
    def check(**kwargs: object) -> list[Error]:
        return [Error("The moon is not full.", id="test.E001")]

    register(check)
    yield
    registry.registered_checks.remove(check)  # type: ignore[arg-type]


def test_passed_system_checks_let_it_start(run: Run) -> None:
    assert isinstance(run(skip_checks=False), ServerConfig)


@pytest.mark.usefixtures("failing_check")
def test_failed_system_check_stops_the_start(run: Run, served: list[Any]) -> None:
    with pytest.raises(CommandError, match="The moon is not full") as caught:
        run(skip_checks=False)

    assert caught.value.returncode == ExitCode.CONFIG_WRONG
    assert served == []


@pytest.mark.usefixtures("failing_check")
def test_system_checks_can_be_skipped(run: Run) -> None:
    assert isinstance(run("--skip-checks"), ServerConfig)


def test_project_is_served_by_djserves_handler(run: Run, served: list[Any]) -> None:
    run()

    note = served[2][0]
    assert note == (
        "Application: demo_project.asgi.application, run by djserve's handler"
    )


@override_settings(DEBUG=True)
def test_debug_is_warned_of(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run()

    assert any("DEBUG is on" in message for message in caplog.messages)


@override_settings(DEBUG=False)
def test_nothing_is_warned_of_in_production(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run()

    assert own_records(caplog) == []


def test_failure_of_the_server_is_the_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "launch", lambda *args: ExitCode.LIFESPAN_FAILED)
    with pytest.raises(SystemExit) as caught:
        run()

    assert caught.value.code == ExitCode.LIFESPAN_FAILED


def test_end_of_the_process_is_bounded_on_the_command_line(
    served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(runasgi, "exit_within", lambda time, code: codes.append(code))
    runasgi.Command().run_from_argv(["manage.py", "runasgi", "--skip-checks"])
    call_command("runasgi")

    assert codes == [ExitCode.OK]


def test_project_that_cannot_be_loaded_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: ServerConfig) -> Project:
        raise ConfigError(["There is no module 'mysite'"])

    monkeypatch.setattr(production, "load_project", fail)
    with pytest.raises(CommandError, match="There is no module 'mysite'") as caught:
        run()

    assert caught.value.returncode == ExitCode.CONFIG_WRONG


def test_parser_of_the_early_look_is_the_commands_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runasgi, "become_worker", lambda: None)
    monkeypatch.setattr(atexit, "register", lambda function: None)
    words = ["manage.py", "runasgi", "--bind", "127.0.0.1:1", "--threads", "2"]
    runasgi.Command().become_role(words)
    [made] = runasgi._early_parsers.values()

    class Derived(runasgi.Command):
        """A project's own command, with options of its own."""

    command = runasgi.Command()
    command._called_from_command_line = True  # type: ignore[attr-defined]
    assert Derived().create_parser(*words[:2]) is not made
    assert command.create_parser(*words[:2]) is made
    again = command.create_parser(*words[:2])

    assert again is not made
    assert vars(made.parse_args(words[2:])) == vars(again.parse_args(words[2:]))
    assert made.called_from_command_line


def test_version_is_that_of_djserve() -> None:
    assert runasgi.Command(stdout=StringIO()).get_version() == djserve.__version__


def test_command_line_names_a_management_command_that_exists(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The checks are for the process that loads the project.
    monkeypatch.setattr(runasgi, "become_supervisor", lambda config: None)
    with pytest.raises(CommandError, match="'migarte'; did you mean 'migrate'"):
        run("--processes", "tasks=migarte", skip_checks=False)
