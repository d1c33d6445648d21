"""Granian's flags and variables: every one that the installed package has."""

from __future__ import annotations

import click
import pytest
from granian.cli import cli

from djserve.doctor.granian import SERVER
from djserve.doctor.rules import Kind
from djserve.doctor.translate import translate

OPTIONS = [option for option in cli.params if isinstance(option, click.Option)]


def test_every_flag_of_the_package_is_known() -> None:
    expected = {
        flag: not (option.is_flag or option.count)
        for option in OPTIONS
        for flag in (*option.opts, *option.secondary_opts)
    }
    known = {flag: rule.values != "0" for rule in SERVER.rules for flag in rule.flags}

    assert known == expected | {"--help": False}


def test_every_variable_of_the_package_is_its_flag() -> None:
    found = {
        option.opts[0]: SERVER.read_variable(f"GRANIAN_{option.name}".upper(), "true")
        for option in OPTIONS
        if option.name != "version"
    }

    assert {flag: words[:1] for flag, words in found.items()} == {
        option.opts[0]: [option.opts[0] if option.is_flag else f"{option.opts[0]}=true"]
        for option in OPTIONS
        if option.name != "version"
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--host :: --port 80", "--bind [::]:80"),
        (
            "--uds /run/x.sock --uds-permissions 660",
            "--bind unix:/run/x.sock --unix-mode 660",
        ),
        ("--interface asginl", "--lifespan off"),
        ("--http 1 --no-http1-keep-alive", "--no-http2 --keep-alive-timeout 0"),
        ("--http1-header-read-timeout 5000", "--header-timeout 5000ms"),
        ("--http2-keep-alive-interval 9000", "--http2-ping-interval 9000ms"),
        ("--workers-max-rss 300", "--worker-max-memory 300MiB"),
        ("--workers-lifetime 2h", "--worker-max-age 2h"),
        (
            "--ssl-certificate c --ssl-ca ca.pem --ssl-client-verify",
            "--certfile c --client-ca-file ca.pem --client-certificates required",
        ),
        ("--access-log", "--access-log -"),
        ("--static-path-mount a", "--files /static/=a"),
        ("--static-path-route / --static-path-mount a", "--files /=a"),
        (
            "--static-path-route /a --static-path-route /b "
            "--static-path-mount x --static-path-mount y",
            "--files /a/=x --files /b/=y",
        ),
        ("--metrics --metrics-port 91", "--metrics-bind 127.0.0.1:91"),
        ("--metrics-port 91", ""),
    ],
)
def test_flag_becomes_djserves(given: str, expected: str) -> None:
    found = translate(f"granian {given} app:app")

    assert found.command.split() == ["djserve", *expected.split(), "app:app"]
    assert found.problems == ()


@pytest.mark.parametrize("given", ["--interface rsgi", "--no-ws", "--ssl-crl x"])
def test_flag_without_an_equivalent_says_what_to_do(given: str) -> None:
    found = translate(f"granian {given} app:app")

    assert found.outcomes[0].kind is Kind.MISSING
    assert found.outcomes[0].note


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ("GRANIAN_PORT=80", "--bind 127.0.0.1:80"),
        ("GRANIAN_LOG_ACCESS_ENABLED=true", "--access-log -"),
        ("GRANIAN_LOG_ACCESS_ENABLED=false", ""),
        ("GRANIAN_HTTP1_KEEP_ALIVE=0", "--keep-alive-timeout 0"),
    ],
)
def test_variables_are_flags(variables: str, expected: str) -> None:
    found = translate(f"{variables} granian --interface asgi app:app")

    assert found.command.split() == ["djserve", *expected.split(), "app:app"]


def test_variables_of_others_stay() -> None:
    found = translate("env GRANIAN_NOTHING=1 A=2 granian app:app --workers 2")

    assert found.command == "env GRANIAN_NOTHING=1 A=2 djserve --workers 2 app:app"
