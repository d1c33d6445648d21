"""gunicorn's flags and settings: every one that the installed package has."""

from __future__ import annotations

import argparse

import pytest
from gunicorn.config import KNOWN_SETTINGS, Config

from djserve.doctor.gunicorn import SERVER
from djserve.doctor.rules import Kind
from djserve.doctor.translate import translate


def test_every_setting_of_the_package_is_known() -> None:
    known = {rule.name for rule in SERVER.rules} - {""}

    assert {setting.name for setting in KNOWN_SETTINGS} - {"config"} == known


def test_every_flag_of_the_package_is_known() -> None:
    actions = Config().parser()._actions
    flags = {flag for action in actions for flag in action.option_strings}
    known = {flag for rule in SERVER.rules for flag in rule.flags}

    assert flags == known


def test_flags_take_as_many_words_as_in_the_package() -> None:
    values: dict[str, str] = {}
    for action in Config().parser()._actions:
        nargs = "1" if action.nargs is None else str(action.nargs)
        values |= dict.fromkeys(action.option_strings, nargs)

    assert {flag: rule.values for rule in SERVER.rules for flag in rule.flags} == values


VALUES = {
    "--access-logfile": "access.log",
    "--access-logformat": "'%(h)s %(r)s %(s)s'",
    "--asgi-lifespan": "on",
    "--bind": "127.0.0.1:8000",
    "--cert-reqs": "0",
    "--forwarded-allow-ips": "10.0.0.1",
    "--http2-initial-window-size": "300000",
    "--log-level": "debug",
    "--proxy-allow-from": "10.0.0.1",
    "--root-path": "/x",
    "--statsd-host": "127.0.0.1:8125",
    "--umask": "0o27",
}


@pytest.mark.parametrize(
    "flag",
    [r.title for r in SERVER.rules if r.kind is Kind.TRANSLATED and r.values == "1"],
)
def test_djserve_accepts_what_a_flag_becomes(flag: str) -> None:
    found = translate(f"gunicorn app:app {flag} {VALUES.get(flag, '700')}")

    assert found.problems == ()
    assert found.outcomes[0].becomes or found.outcomes[0].note


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("-b :8000", "--bind 0.0.0.0:8000"),
        ("-b localhost", "--bind localhost:8000"),
        ("-b [::]:80", "--bind [::]:80"),
        ("-b unix:///run/x.sock", "--bind unix:/run/x.sock"),
        ("-b 0.0.0.0:$PORT -b fd://3", "--bind 0.0.0.0:$PORT --bind fd://3"),
        ("-w 4", "--workers 4"),
        ("-w $(nproc)", "--workers auto"),
        ("--threads 8 -k gthread", ""),
        ("--threads 1", ""),
        ("-t 120", "--worker-hang-timeout 120"),
        ("--max-requests 1000", "--worker-max-requests 1000"),
        ("--max-requests 0", ""),
        ("-m 007", "--unix-mode 660"),
        ("--access-logfile /dev/stdout", "--access-log -"),
        ("--http-protocols h1", "--no-http2"),
        ("--proxy-allow-from 10.0.0.1", "--trusted-proxies 10.0.0.1"),
    ],
)
def test_flag_becomes_djserves(given: str, expected: str) -> None:
    found = translate(f"gunicorn app:app {given}")
    words = f"{expected} " if expected else ""

    assert found.command == f"djserve {words}--proxy-headers app:app"


def test_every_folder_of_the_path_is_kept() -> None:
    found = translate("gunicorn app:app --pythonpath /a,/b")

    # gunicorn puts each of them first: the last one is searched first.
    assert found.command == ("env PYTHONPATH=/b:/a djserve --proxy-headers app:app")


def test_threads_are_a_setting_of_runasgi() -> None:
    found = translate("gunicorn app:app --threads 8", manage="manage.py")

    assert found.command == "python manage.py runasgi --threads 8 --proxy-headers"


def test_folder_and_environment_stay() -> None:
    found = translate("gunicorn --chdir src -e A=b -e C=d app:app -t 0")

    assert found.command == (
        "cd src && env A=b C=d DJSERVE_WORKER_HANG_TIMEOUT=none "
        "djserve --proxy-headers app:app"
    )


def test_proxy_protocol_has_an_optional_value() -> None:
    found = translate("gunicorn app:app --proxy-protocol")

    assert found.command == "djserve --proxy-protocol app:app"
    assert isinstance(Config().parser(), argparse.ArgumentParser)
