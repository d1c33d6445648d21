"""What the doctor says of packages, settings and proxies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from djserve.conf.schema import LifecycleConfig
from djserve.doctor import advice
from djserve.doctor.advice import advise_packages, advise_proxies, advise_settings
from djserve.doctor.files import Files
from djserve.doctor.translate import translate

READY: dict[str, Any] = {
    "INSTALLED_APPS": ["djserve", "django.contrib.staticfiles"],
    "ASGI_APPLICATION": "mysite.asgi.application",
}


def advise(*commands: str, **settings: Any) -> list[tuple[str, str]]:
    found = [translate(each) for each in commands]
    project = SimpleNamespace(**{**READY, **settings})
    return [
        (each.where, each.text) for each in advise_settings(project, Files(), found)
    ]


def test_project_that_is_ready_needs_nothing() -> None:
    assert advise() == []


@pytest.mark.parametrize(
    ("apps", "expected"),
    [
        (["daphne", "x"], 'Replace "daphne" by "djserve".'),
        (["daphne.apps.DaphneConfig"], 'Replace "daphne" by "djserve".'),
        (["x"], 'Put "djserve" first.'),
        (
            ["django.contrib.staticfiles", "djserve"],
            'Put "djserve" before "django.contrib.staticfiles".',
        ),
    ],
)
def test_installed_apps(apps: list[str], expected: str) -> None:
    assert advise(INSTALLED_APPS=apps) == [("INSTALLED_APPS", expected)]


def test_application_of_the_command_is_the_settings() -> None:
    ((where, text),) = advise("daphne other.asgi:app", ASGI_APPLICATION="a.asgi.app")

    assert where == "ASGI_APPLICATION"
    assert '"other.asgi.app"' in text


def test_application_that_is_missing_is_written_down() -> None:
    settings = {"ASGI_APPLICATION": None, "WSGI_APPLICATION": "shop.wsgi.application"}

    assert advise(**settings)[0][1].endswith('to "shop.asgi.application".')


@pytest.mark.parametrize(
    ("command", "settings", "expected"),
    [
        ("gunicorn shop.wsgi", {}, "shop.asgi.application"),
        ("", {"WSGI_APPLICATION": "shop.wsgi.application"}, "shop.asgi.application"),
        ("", {"ROOT_URLCONF": "shop.config.urls"}, "shop.config.asgi.application"),
        ("", {}, "mysite.asgi.application"),
    ],
)
def test_application_that_is_missing_is_the_projects(
    command: str, settings: dict[str, str], expected: str
) -> None:
    commands = [command] if command else []
    found = advise(*commands, ASGI_APPLICATION=None, **settings)
    assert found == [("ASGI_APPLICATION", f'Set it to "{expected}".')]


def test_time_to_stop_is_the_settings_default() -> None:
    assert LifecycleConfig().shutdown_timeout == advice._SHUTDOWN_TIMEOUT


def test_synchronous_middleware_is_named() -> None:
    names = [
        "tests.doctor.test_advice.Old",
        "django.middleware.common.CommonMiddleware",
    ]
    ((where, text),) = advise(MIDDLEWARE=names)

    assert where == "MIDDLEWARE"
    assert text.startswith("tests.doctor.test_advice.Old is synchronous only")


class Old:
    """A middleware as they were before Django 3.1."""


@pytest.mark.parametrize("name", ["nope.Missing", "tests.doctor.test_advice.No", ""])
def test_middleware_that_cannot_be_imported_is_named(name: str) -> None:
    ((_, text),) = advise(MIDDLEWARE=[name])

    assert "cannot be imported" in text


def test_layer_of_one_process_is_named() -> None:
    layers = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    ((where, text),) = advise(
        "uvicorn mysite.asgi:application -w 2", CHANNEL_LAYERS=layers
    )

    assert where == "CHANNEL_LAYERS['default']"
    assert "HostChannelLayer" in text


def test_connections_of_all_workers_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("djserve.doctor.advice.count_cpus", lambda: 8)
    databases = {
        "default": {"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": 60},
        "small": {"ENGINE": "django.db.backends.sqlite3"},
    }
    command = "uvicorn mysite.asgi:application --workers 8"
    ((where, text),) = advise(command, DATABASES=databases)

    assert where == "DATABASES['default']"
    assert "32 connections for each worker, 256 for 8" in text
    assert "--database-connections 12." in text


def test_connections_that_are_closed_after_each_request() -> None:
    databases = {"default": {"ENGINE": "django.db.backends.mysql"}}

    assert any("CONN_MAX_AGE" in text for _, text in advise(DATABASES=databases))


@pytest.mark.parametrize("value", [None, [], "x", {"default": None}, {"default": 3}])
def test_settings_of_wrong_types_are_passed_over(value: object) -> None:
    settings = dict.fromkeys(("CHANNEL_LAYERS", "DATABASES", "LOGGING"), value)

    assert advise(**settings) == []


def test_loggers_of_the_other_server_are_named() -> None:
    logging: dict[str, Any] = {"loggers": {"uvicorn.access": {}, "django": {}}}

    assert advise(LOGGING=logging) == [
        ("LOGGING 'uvicorn.access'", "Rename it: djserve's logger is 'djserve.access'.")
    ]


def test_packages() -> None:
    names = ("channels", "daphne", "gevent", "sentry-sdk", "django")
    found = list(advise_packages(Files(packages=dict.fromkeys(names, "r.txt"))))

    assert [(each.where, each.text.split()[1]) for each in found] == [
        ("requirements", "djserve[channels];"),
        ("r.txt", "daphne"),
        ("r.txt", "gevent,"),
        ("r.txt", "replaces"),
    ]


def test_proxy_without_upgrade_is_named() -> None:
    text = "proxy_pass http://x; proxy_set_header X-Forwarded-Proto $scheme;"
    (advice,) = advise_proxies(Files(proxies=[("nginx.conf", text)]))

    assert "Upgrade" in advice.text
