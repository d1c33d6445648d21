"""Waitress's flags: every one that the installed package has."""

from __future__ import annotations

import pytest

from djserve.doctor.rules import Kind
from djserve.doctor.translate import translate
from djserve.doctor.waitress import SERVER


def test_every_flag_of_the_package_is_known() -> None:
    adjustments = pytest.importorskip("waitress.adjustments").Adjustments
    known = {flag for rule in SERVER.rules for flag in rule.flags}
    names = {name.replace("_", "-") for name, _ in adjustments._params}

    # "sockets" takes objects.
    assert {f"--{name}" for name in names} - known <= {"--sockets"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--port=8000", "--bind 0.0.0.0:8000"),
        ("", "--bind 0.0.0.0:8080"),
        ("--host ::1", "--bind [::1]:8080"),
        (
            "--listen=127.0.0.1:80 --listen *:81",
            "--bind 127.0.0.1:80 --bind :81",
        ),
        (
            "--unix-socket /run/x --unix-socket-perms 660",
            "--bind unix:/run/x --unix-mode 660",
        ),
        ("--listen *:80", "--bind :80"),
        ("--listen *:80 --listen 10.0.0.1:81", "--bind :80 --bind 10.0.0.1:81"),
        ("--host * --port 1", "--bind :1"),
        ("--port 1 --threads 8", "--threads 8 --bind 0.0.0.0:1"),
        ("--port 1 --ident=", "--no-server-name --bind 0.0.0.0:1"),
        (
            "--port 1 --trusted-proxy 10.0.0.1 --trusted-proxy-headers x-forwarded-for",
            "--trusted-proxies 10.0.0.1 --proxy-headers --bind 0.0.0.0:1",
        ),
        ("--port 1 --channel-timeout 9", "--keep-alive-timeout 9 --bind 0.0.0.0:1"),
    ],
)
def test_flag_becomes_djserves(given: str, expected: str) -> None:
    found = translate(f"waitress-serve {given} x.wsgi:application", manage="manage.py")
    words = found.command.split()

    assert words[:3] == ["python", "manage.py", "runasgi"]
    assert sorted(words[3:]) == sorted(expected.split())
    assert found.problems == ()


def test_scheme_needs_a_field_of_the_proxy() -> None:
    found = translate("waitress-serve --url-scheme=https a:b")
    (outcome,) = [each for each in found.outcomes if "url-scheme" in each.given]

    assert outcome.becomes == "--proxy-headers"
    assert "X-Forwarded-Proto" in outcome.note


def test_application_that_is_not_djangos_is_told_of() -> None:
    found = translate("waitress-serve --call shop:make")
    (outcome,) = [each for each in found.outcomes if each.kind is Kind.MISSING]

    assert found.command == "djserve --bind 0.0.0.0:8080 --factory shop:make" or (
        found.command == "djserve --factory --bind 0.0.0.0:8080 shop:make"
    )
    assert "WsgiToAsgi" in outcome.note
