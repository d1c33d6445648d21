"""Daphne's flags: every one that the installed package has."""

from __future__ import annotations

import pytest
from daphne.cli import CommandLineInterface

from djserve.doctor.daphne import SERVER
from djserve.doctor.rules import Kind
from djserve.doctor.translate import translate


def test_every_flag_of_the_package_is_known() -> None:
    known = {flag for rule in SERVER.rules for flag in rule.flags}
    parser = CommandLineInterface().parser
    flags = {flag for action in parser._actions for flag in action.option_strings}

    assert flags == known


def test_host_and_port_are_one_address() -> None:
    found = translate("daphne -b 0.0.0.0 -p 8001 -v 0 mysite.asgi:application")

    assert found.command == (
        "djserve --bind 0.0.0.0:8001 --verbosity 0 mysite.asgi:application"
    )


def test_daphnes_access_log_is_kept() -> None:
    found = translate("daphne -v 2 mysite.asgi:application", manage="manage.py")

    assert found.command == "python manage.py runasgi --verbosity 2 --access-log -"


def test_all_that_has_a_value_is_accepted() -> None:
    line = (
        "daphne -e tcp:8000 -u /run/x --fd 3 -t 60 --ping-interval 20 --root-path /x "
        "--websocket_timeout -1 --websocket_connect_timeout 5 --ping-timeout 30 "
        "--websocket-max-message-size 0 --websocket-max-frame-size 0 "
        "--log-fmt '%(message)s' "
        "--application-close-timeout 10 --proxy-headers --proxy-headers-host X-Real-IP "
        "--proxy-headers-port X-Port -s name --access-log x.log -v 2 a:b"
    )
    found = translate(line)

    assert found.problems == ()
    assert {outcome.kind for outcome in found.outcomes} == {Kind.TRANSLATED}


@pytest.mark.parametrize("flag", ["--http_timeout", "--nope"])
def test_unknown_flag_is_named(flag: str) -> None:
    found = translate(f"daphne a:b {flag} 3")

    assert [o.given for o in found.outcomes if o.kind is Kind.UNKNOWN] == [f"{flag} 3"]
