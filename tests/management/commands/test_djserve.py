"""``manage.py djserve``: the socket of the settings; tests/test_control.py has more."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from tests.support.control_socket import Desk, make_status

pytestmark = pytest.mark.e2e


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "control")
    yield desk
    desk.close()


def test_status_is_a_page(desk: Desk) -> None:
    desk.answers = [make_status()]
    output = StringIO()
    call_command("djserve", "--control-socket", desk.path, "status", stdout=output)

    assert output.getvalue().startswith("djserve 1.2, supervisor 4000: 0 of 2 workers")


def test_refused_reload_is_an_error_with_its_reason(desk: Desk) -> None:
    desk.answers = [make_status(), {}, make_status("failed")]

    with pytest.raises(CommandError, match="old workers stay: No module named 'shop'"):
        call_command("djserve", "--control-socket", desk.path, "reload")


def test_socket_of_the_settings_is_the_default(desk: Desk) -> None:
    desk.answers = [{}]
    with override_settings(DJSERVE={"CONTROL_SOCKET": desk.path}):
        call_command("djserve", "drain")

    assert desk.requests == [{"command": "drain"}]


def test_unknown_socket_is_one_clear_line() -> None:
    with (
        override_settings(DJSERVE={}),
        pytest.raises(CommandError, match="Set CONTROL_SOCKET in DJSERVE"),
    ):
        call_command("djserve", "status")


def test_absent_supervisor_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No supervisor answers"):
        call_command("djserve", "--control-socket", str(tmp_path / "none"), "status")


@override_settings(DJSERVE={"BACKLOG": 7, "KEYFILE_PASSWORD": "swordfish"})
def test_settings_are_shown_with_their_source_but_no_secret() -> None:
    output = StringIO()
    call_command("djserve", "settings", "--changed", stdout=output)
    lines = [line.split() for line in output.getvalue().splitlines()]

    assert ["BACKLOG", "settings.DJSERVE", "7"] in lines
    assert ["KEYFILE_PASSWORD", "settings.DJSERVE", "***"] in lines
    assert all("default" not in line for line in lines)
