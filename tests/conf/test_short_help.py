from __future__ import annotations

import argparse

import pytest

from djserve.conf.catalogue import settings_by_key
from djserve.conf.options import add_arguments
from djserve.conf.short_help import COMMON_SETTINGS, shorten_help


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve")
    parser.add_argument("place", help="Where.")
    parser.add_argument("--quiet", help="Less.")
    parser.add_argument("--loud", help="More.")
    add_arguments(parser)
    shorten_help(parser, "--loud")
    return parser


@pytest.mark.parametrize("key", COMMON_SETTINGS)
def test_common_settings_are_shown(key: str, parser: argparse.ArgumentParser) -> None:
    assert settings_by_key()[key].flag in parser.format_help()


def test_others_are_hidden(parser: argparse.ArgumentParser) -> None:
    text = parser.format_help()

    assert "place" in text
    assert "--loud" in text
    assert "--quiet" not in text
    assert "--backlog" not in text
    # Titles of groups with nothing in them.
    assert "HTTP/2" not in text


def test_number_of_hidden_options_is_told(parser: argparse.ArgumentParser) -> None:
    hidden = [each for each in parser._actions if each.help is argparse.SUPPRESS]

    assert f"Show all options, {len(hidden)} more, and exit." in parser.format_help()


def test_all_are_shown_on_demand(
    parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--help-all"])

    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "--quiet" in text
    for setting in settings_by_key().values():
        assert setting.flag in text


def test_hidden_options_are_taken(parser: argparse.ArgumentParser) -> None:
    options = parser.parse_args(["here", "--quiet", "yes", "--backlog", "5"])

    assert options.quiet == "yes"
    assert options.backlog.value == "5"
    assert not hasattr(options, "help_all")
