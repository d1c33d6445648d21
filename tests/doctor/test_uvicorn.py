"""Uvicorn's flags: every one that the installed package has."""

from __future__ import annotations

import click
import pytest
from uvicorn.main import main

from djserve.doctor.rules import Kind
from djserve.doctor.translate import translate
from djserve.doctor.uvicorn import SERVER

DEFAULTS = " --access-log - --proxy-headers"


def find_flags() -> dict[str, bool]:
    """Return each flag of the package, and whether it takes a value."""
    return {
        flag: not (option.is_flag or option.count)
        for option in main.params
        if isinstance(option, click.Option)
        for flag in (*option.opts, *option.secondary_opts)
    } | {"--help": False}


def test_every_flag_of_the_package_is_known() -> None:
    known = {flag: rule.values != "0" for rule in SERVER.rules for flag in rule.flags}

    assert known == find_flags()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--host :: --port 80", "--bind [::]:80"),
        ("--port $PORT", "--bind 127.0.0.1:$PORT"),
        ("--uds /run/x.sock", "--bind unix:/run/x.sock"),
        ("--fd 3", "--bind fd://3"),
        ("--port 80 --uds /run/x.sock --host ::", "--bind unix:/run/x.sock"),
        ("--fd 3 --port 80", "--bind fd://3"),
        ("--workers 4", "--workers 4"),
        ("--ws-max-size 100", "--websocket-message-size-limit 100"),
        ("--ws-max-queue 0", "--websocket-queue-limit 1"),
        ("--ws-per-message-deflate false", "--no-websocket-compression"),
        ("--ssl-cert-reqs 2", "--client-certificates required"),
        ("--limit-max-requests 500", "--worker-max-requests 500"),
        ("--timeout-graceful-shutdown 9", "--shutdown-timeout 9"),
        ("--log-level debug", "--verbosity 2"),
        ("--header Server:x", "--server-name x"),
        ("--header X-A:b", "--header 'X-A: b'"),
        ("--env-file .env", "--env-file .env"),
        ("--no-server-header", "--no-server-name"),
    ],
)
def test_flag_becomes_djserves(given: str, expected: str) -> None:
    found = translate(f"uvicorn app:app {given}")

    assert found.command == f"djserve {expected}{DEFAULTS} app:app"


@pytest.mark.parametrize(
    "given",
    ["--loop uvloop", "--http httptools", "--ws auto", "--interface asgi3", "--http2"],
)
def test_flag_that_is_not_needed(given: str) -> None:
    found = translate(f"uvicorn app:app {given}")

    assert found.command == f"djserve{DEFAULTS} app:app"
    assert found.outcomes[0].kind is Kind.NEEDLESS
    assert found.outcomes[0].note


@pytest.mark.parametrize(
    "given",
    ["--log-config x", "--ssl-ciphers x", "--interface wsgi"],
)
def test_flag_without_an_equivalent_says_what_to_do(given: str) -> None:
    found = translate(f"uvicorn app:app {given}")

    assert found.outcomes[0].kind is Kind.MISSING
    assert found.outcomes[0].note


def test_each_trusted_proxy_is_named_once() -> None:
    flag = "--forwarded-allow-ips '10.0.0.0/8, ::1,/run/x.sock,unix:'"
    found = translate(f"uvicorn app:app {flag} --no-access-log")

    assert found.command == (
        "djserve --trusted-proxies 10.0.0.0/8 --trusted-proxies ::1 "
        "--trusted-proxies unix --proxy-headers app:app"
    )


def test_what_is_on_by_default_can_be_off() -> None:
    found = translate("uvicorn app:app --no-access-log --no-proxy-headers")

    assert found.command == "djserve --no-proxy-headers app:app"


def test_level_above_info_silences_the_access_log() -> None:
    found = translate("uvicorn app:app --log-level warning")

    assert found.command == "djserve --verbosity 0 --proxy-headers app:app"


def test_factory_and_folder() -> None:
    found = translate("uvicorn --factory --app-dir src app:make --no-access-log")

    assert found.command == "djserve --app-dir src --factory --proxy-headers app:make"
