from __future__ import annotations

import argparse
import sys
from io import StringIO

import pytest
from django.core.management.base import BaseCommand, CommandError

from djserve.conf.suggestions import suggest, suggest_flags
from djserve.management.commands import djserve, runasgi, runserver


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve", allow_abbrev=False)
    parser.add_argument("application")
    parser.add_argument("-w", "--workers")
    parser.add_argument("--worker-hang-timeout")
    parser.add_argument("--access-log")
    suggest_flags(parser)
    return parser


def error_of(
    parser: argparse.ArgumentParser, line: str, capsys: pytest.CaptureFixture[str]
) -> str:
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(line.split())
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_close_names_are_suggested_once_each() -> None:
    known = ["BIND", "BACKLOG"]

    assert suggest(["BINT"], known) == "; did you mean 'BIND'?"
    assert suggest(["BINT", "BAKLOG"], known) == "; did you mean 'BIND', 'BACKLOG'?"
    assert suggest(["BINT", "BIN"], known) == "; did you mean 'BIND'?"


def test_nothing_is_suggested_for_what_is_close_to_none() -> None:
    assert suggest(["FRUIT"], ["BIND", "BACKLOG"]) == ""
    assert suggest([], ["BIND"]) == ""


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("app --wrokers 2", "--workers"),
        ("app --wrokers=2", "--workers"),
        ("--wrokers 2 app", "--workers"),
        # The error is about the application then.
        ("--wrokers=2", "--workers"),
        ("app --worker_hang_timout 3", "--worker-hang-timeout"),
        ("app --ACCES-LOG -", "--access-log"),
    ],
)
def test_flag_that_was_meant_is_named(
    line: str,
    flag: str,
    parser: argparse.ArgumentParser,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert error_of(parser, line, capsys).endswith(f"; did you mean '{flag}'?")


@pytest.mark.parametrize(
    "line", ["app --zzz", "app --workers", "app -x", "app -- --b c"]
)
def test_other_errors_stay_as_they_are(
    line: str, parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "did you mean" not in error_of(parser, line, capsys)


def test_arguments_of_the_process_are_read_too(
    parser: argparse.ArgumentParser,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve", "app", "--wrokers", "2"])
    with pytest.raises(SystemExit):
        parser.parse_args()

    assert "did you mean '--workers'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "wrong", "flag"),
    [
        (runasgi.Command, "--wrokers", "--workers"),
        (runasgi.Command, "--setings", "--settings"),
        (runserver.Command, "--norelaod", "--noreload"),
    ],
)
def test_commands_suggest_flags(
    command: type[BaseCommand], wrong: str, flag: str
) -> None:
    parser = command(stdout=StringIO()).create_parser("manage.py", "serve")
    with pytest.raises(CommandError, match=f"did you mean '{flag}'"):
        parser.parse_args([wrong, "2"])


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("--control-sokcet s status", "--control-socket"),
        ("status --stakcs", "--stacks"),
        ("--control-sokcet s status --stacks", "--control-socket"),
    ],
)
def test_flags_of_commands_within_commands_are_suggested(line: str, flag: str) -> None:
    parser = djserve.Command(stdout=StringIO()).create_parser("manage.py", "djserve")
    with pytest.raises(CommandError) as caught:
        parser.parse_args(line.split())

    assert str(caught.value).endswith(f"did you mean '{flag}'?")


def test_beginning_of_a_flag_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    parser = runasgi.Command(stdout=StringIO()).create_parser("manage.py", "runasgi")
    with pytest.raises(CommandError) as caught:
        parser.parse_args(["--worker", "2"])

    assert "ambiguous option" in str(caught.value)
    assert "did you mean" not in str(caught.value)
