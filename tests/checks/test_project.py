"""What is wrong with a project, check by check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from djserve.checks import project
from djserve.checks.project import check_database_pools
from tests.checks.messages import ids


@override_settings(DJSERVE={"BIND": ["x"], "NOPE": 1})
def test_each_problem_of_the_configuration_is_an_error() -> None:
    messages = project.check_configuration(None)

    assert ids(messages) == ["djserve.E001", "djserve.E001"]
    assert messages[0].msg.startswith("DJSERVE['BIND'][0]: expected host:port")
    assert messages[1].msg == "DJSERVE['NOPE']: unknown setting"


@override_settings(DJSERVE=[])
def test_setting_that_is_no_mapping_is_an_error() -> None:
    assert ids(project.check_configuration(None)) == ["djserve.E001"]


@override_settings(DJSERVE={"BACKLOG": 5})
def test_right_configuration_passes() -> None:
    assert project.check_configuration(None) == []


APPS = "django.contrib.staticfiles"


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (["djserve", APPS, "channels"], []),
        (["channels", "djserve", APPS], []),
        (["djserve"], []),
        ([APPS, "djserve"], ["djserve.E003"]),
    ],
)
def test_order_of_apps(installed: list[str], expected: list[str]) -> None:
    with override_settings(INSTALLED_APPS=installed):
        assert ids(project.check_installed_apps(None)) == expected


def test_daphne_beside_djserve_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Daphne itself installs a reactor when it is imported; its app's name is enough.
    (tmp_path / "daphne").mkdir()
    (tmp_path / "daphne" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "daphne"]:
        monkeypatch.delitem(sys.modules, name)

    with override_settings(INSTALLED_APPS=["djserve", "daphne", APPS]):
        (message,) = project.check_installed_apps(None)

    assert message.id == "djserve.E002"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("demo_project.asgi.application", []),
        (None, ["djserve.W001"]),
        ("demo_project.asgi:application", ["djserve.E004"]),
        ("application", ["djserve.E004"]),
        ("", ["djserve.E004"]),
        (5, ["djserve.E004"]),
        ("demo_project..application", ["djserve.E004"]),
        ("demo_project.nowhere.application", ["djserve.E004"]),
        ("nowhere.asgi.application", ["djserve.E004"]),
        ("demo_project.asgi.aplication", ["djserve.E004"]),
        ("json.decoder.nowhere.application", ["djserve.E004"]),
    ],
)
def test_application_path(path: object, expected: list[str]) -> None:
    with override_settings(ASGI_APPLICATION=path):
        assert ids(project.check_application(None)) == expected


def test_wsgi_application_in_its_place_is_an_error() -> None:
    path = "demo_project.asgi.application"
    with override_settings(ASGI_APPLICATION=path, WSGI_APPLICATION=path):
        assert ids(project.check_application(None)) == ["djserve.E005"]


@override_settings()
def test_missing_application_says_what_is_served_instead() -> None:
    from django.conf import settings

    del settings.ASGI_APPLICATION
    (message,) = project.check_application(None)

    assert message.id == "djserve.W001"
    assert '"demo_project.asgi.application" is served' in str(message.hint)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("3.12.9", ["djserve.W003"]),
        ("2.20", ["djserve.W003"]),
        ("3.13.0", []),
        ("3.13.0rc1", []),
        ("4.0", []),
    ],
)
def test_version_of_asgiref(version: str, expected: list[str]) -> None:
    assert ids(project.find_asgiref_problems(version)) == expected


def test_installed_asgiref_is_new_enough() -> None:
    assert project.check_asgiref(None) == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("0.0.0.0:8000", ["djserve.W004"]),
        ("[::]:8000", ["djserve.W004"]),
        (":8000", ["djserve.W004"]),
        ("*:8000", ["djserve.W004"]),
        ("192.0.2.1:8000", ["djserve.W004"]),
        ("127.0.0.1:8000", []),
        ("127.9.9.9:8000", []),
        ("[::1]:8000", []),
        ("localhost:8000", []),
        ("unix:/run/a", []),
        ("fd://3", []),
        ("tcp:8000", []),
    ],
)
def test_debug_on_a_public_address(address: str, expected: list[str]) -> None:
    with override_settings(DEBUG=True, DJSERVE={"BIND": [address]}):
        assert ids(project.check_debug(None)) == expected


@override_settings(DEBUG=False, DJSERVE={"BIND": ["0.0.0.0:80"]})
def test_public_address_without_debug_passes() -> None:
    assert project.check_debug(None) == []


@override_settings(DAPHNE_WEBSOCKET_MAX_FRAME_SIZE=5)
def test_setting_of_daphne_names_ours() -> None:
    (message,) = project.check_daphne_settings(None)

    assert message.id == "djserve.W005"
    assert message.hint == "Set DJSERVE['WEBSOCKET_FRAME_SIZE_LIMIT'] instead."


def test_no_setting_of_daphne_passes() -> None:
    assert project.check_daphne_settings(None) == []


@pytest.mark.parametrize(
    ("proxy_headers", "trusted", "expected"),
    [
        (True, ["*"], ["djserve.W006"]),
        (True, ["10.0.0.0/8", "*"], ["djserve.W006"]),
        (True, ["10.0.0.0/8"], []),
        (False, ["*"], []),
    ],
)
def test_trust_in_every_client(
    proxy_headers: bool, trusted: list[str], expected: list[str]
) -> None:
    config = {"PROXY_HEADERS": proxy_headers, "TRUSTED_PROXIES": trusted}

    with override_settings(DJSERVE=config):
        assert ids(project.check_proxies(None)) == expected


@pytest.mark.parametrize(
    ("cors", "origins", "expected"),
    [
        ({"CORS_ALLOWED_ORIGINS": ["https://app.test"]}, [], ["https://app.test"]),
        ({"CORS_ORIGIN_WHITELIST": ["https://app.test"]}, [], ["https://app.test"]),
        ({"CORS_ALLOWED_ORIGINS": ["https://app.test"]}, ["https://app.test"], []),
        ({"CORS_ALLOWED_ORIGINS": ["http://example.com:3000"]}, [], []),
        ({"CORS_ALLOWED_ORIGINS": ["null"]}, [], ["null"]),
        ({"CORS_ALLOW_ALL_ORIGINS": True}, [], ["*"]),
        ({"CORS_ALLOW_ALL_ORIGINS": True}, ["*"], []),
        ({}, [], []),
    ],
)
def test_origin_of_cors_that_may_not_open_a_websocket(
    cors: dict[str, Any], origins: list[str], expected: list[str]
) -> None:
    with override_settings(
        MIDDLEWARE=["corsheaders.middleware.CorsMiddleware"],
        ALLOWED_HOSTS=["example.com"],
        DJSERVE={"WEBSOCKET_ORIGINS": origins},
        **cors,
    ):
        messages = project.check_cors_origins(None)

    assert ids(messages) == ["djserve.W009"] * len(expected)
    for message, origin in zip(messages, expected, strict=True):
        assert message.hint is not None
        assert message.hint.startswith(
            f"Add {origin!r} to DJSERVE['WEBSOCKET_ORIGINS']"
        )


@override_settings(
    ALLOWED_HOSTS=["example.com"], CORS_ALLOWED_ORIGINS=["https://app.test"]
)
def test_cors_without_its_middleware_or_without_websockets_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert project.check_cors_origins(None) == []

    monkeypatch.setattr(project, "_WEBSOCKET_PACKAGES", ("not_installed",))
    with override_settings(MIDDLEWARE=["corsheaders.middleware.CorsMiddleware"]):
        assert project.check_cors_origins(None) == []


@pytest.mark.parametrize(
    ("handler", "name", "expected"),
    [
        ("djserve", "both", ["djserve.I001"]),
        ("djserve", "plain_both", ["djserve.I001"]),
        ("django", "both", []),
        ("djserve", "hooks", []),
        ("djserve", "missing", []),
    ],
)
def test_middleware_of_which_each_lane_has_one_is_named(
    handler: str, name: str, expected: list[str]
) -> None:
    path = f"tests.handlers.middleware.{name}"
    with override_settings(MIDDLEWARE=[path], DJSERVE={"HANDLER": handler}):
        messages = project.check_middleware(None)

    assert ids(messages) == expected
    assert all(path in message.msg for message in messages)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("counts", "All views take the asynchronous lane"), ("plain_both", "twice")],
)
def test_message_says_what_becomes_of_middleware_for_both_lanes(
    name: str, outcome: str
) -> None:
    with override_settings(MIDDLEWARE=[f"tests.handlers.middleware.{name}"]):
        (message,) = project.check_middleware(None)

    assert outcome in message.msg


def processes(**command: list[str]) -> dict[str, Any]:
    return {"PROCESSES": {name: {"command": words} for name, words in command.items()}}


def test_management_command_that_does_not_exist_is_an_error() -> None:
    given = processes(good=["check"], bad=["chekc", "--deploy"], worse=["--help"])
    given["PROCESSES"]["other"] = {"program": ["chekc"]}
    with override_settings(DJSERVE=given):
        bad, worse = project.check_processes(None)
    assert ids([bad, worse]) == ["djserve.E006"] * 2
    assert bad.msg.startswith("PROCESSES: bad runs")
    assert "'chekc'; did you mean 'check'?" in bad.msg
    assert "'--help'" in worse.msg


@pytest.mark.parametrize(
    "given", [{}, {"PROCESSES": 3}, processes(good=["migrate"])], ids=repr
)
def test_other_processes_are_right(given: dict[str, Any]) -> None:
    with override_settings(DJSERVE=given):
        assert project.check_processes(None) == []


def check_pool(
    pool: Any, threads: Any, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> list[Any]:
    database = {**connections.settings["default"], "OPTIONS": {"pool": pool}}
    monkeypatch.setitem(connections.settings, "default", database)
    with override_settings(DJSERVE={"THREADS": threads, **more}):
        return check_database_pools(None)


@pytest.mark.parametrize(
    ("pool", "threads", "ids"),
    [
        (None, 8, []),
        (False, 8, []),
        (True, 4, []),
        (True, 5, ["djserve.W007"]),
        ({"max_size": 8}, 8, []),
        ({"max_size": 7}, 8, ["djserve.W007"]),
        ({"min_size": 9}, 8, []),
        ({"min_size": 0}, 1, ["djserve.W007"]),
        ({"min_size": 2, "max_size": None}, 3, ["djserve.W007"]),
    ],
)
def test_pool_must_not_be_smaller_than_the_number_of_threads(
    pool: Any, threads: int, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [message.id for message in check_pool(pool, threads, monkeypatch)] == ids


def test_warning_names_the_database_and_both_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (message,) = check_pool({"max_size": 2}, 8, monkeypatch)

    assert message.msg == (
        "The connection pool of database 'default' has 2 connections: of the 8 threads "
        "that compute, no more are connected to it at a time, and the others wait."
    )
    assert 'Raise "max_size" in OPTIONS["pool"] to 8,' in message.hint


@pytest.mark.parametrize(
    ("most", "ids"),
    [(2, []), (1, []), (3, ["djserve.W007"]), (100, ["djserve.W007"])],
)
def test_pool_as_large_as_the_bound_on_connections_is_meant(
    most: int, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check_pool({"max_size": 2}, 8, monkeypatch, DATABASE_CONNECTIONS=most)

    assert [message.id for message in found] == ids


def test_wrong_settings_are_left_to_their_own_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert check_pool({"max_size": 2}, "many", monkeypatch) == []
