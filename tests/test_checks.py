from __future__ import annotations

import ast
import inspect
import re
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer
from django.core.checks import CheckMessage
from django.test import override_settings

from djserve import checks
from djserve.handlers import checks as pool_checks

ROOT = Path(__file__).parents[1]
IN_MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
REDIS = {"BACKEND": "channels_redis.core.RedisChannelLayer"}


def ids(messages: Sequence[CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


def ids_in_source() -> list[str]:
    trees = [ast.parse(inspect.getsource(module)) for module in (checks, pool_checks)]
    return [
        keyword.value.value
        for tree in trees
        for keyword in ast.walk(tree)
        if isinstance(keyword, ast.keyword)
        and keyword.arg == "id"
        and isinstance(keyword.value, ast.Constant)
        and isinstance(keyword.value.value, str)
    ]


def test_each_id_is_given_in_one_place() -> None:
    counted = Counter(ids_in_source())

    assert counted
    assert set(counted.values()) == {1}


@pytest.mark.parametrize("page", ["djserve/checks.py", "docs/reference/checks.md"])
def test_tables_list_every_id(page: str) -> None:
    lines = (ROOT / page).read_text().splitlines()
    found = [re.match(r"(?:\| `)?(djserve\.[EWI]\d+)", line) for line in lines]

    assert [match[1] for match in found if match] == sorted(ids_in_source())


@override_settings(DJSERVE={"BIND": ["x"], "NOPE": 1})
def test_each_problem_of_the_configuration_is_an_error() -> None:
    messages = checks.check_configuration(None)

    assert ids(messages) == ["djserve.E001", "djserve.E001"]
    assert messages[0].msg.startswith("DJSERVE['BIND'][0]: expected host:port")
    assert messages[1].msg == "DJSERVE['NOPE']: unknown setting"


@override_settings(DJSERVE=[])
def test_setting_that_is_no_mapping_is_an_error() -> None:
    assert ids(checks.check_configuration(None)) == ["djserve.E001"]


@override_settings(DJSERVE={"BACKLOG": 5})
def test_right_configuration_passes() -> None:
    assert checks.check_configuration(None) == []


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
        assert ids(checks.check_installed_apps(None)) == expected


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
        (message,) = checks.check_installed_apps(None)

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
        assert ids(checks.check_application(None)) == expected


def test_wsgi_application_in_its_place_is_an_error() -> None:
    path = "demo_project.asgi.application"
    with override_settings(ASGI_APPLICATION=path, WSGI_APPLICATION=path):
        assert ids(checks.check_application(None)) == ["djserve.E005"]


@override_settings()
def test_missing_application_says_what_is_served_instead() -> None:
    from django.conf import settings

    del settings.ASGI_APPLICATION
    (message,) = checks.check_application(None)

    assert message.id == "djserve.W001"
    assert '"demo_project.asgi.application" is served' in str(message.hint)


@pytest.mark.parametrize(
    ("workers", "layers", "expected"),
    [
        (2, {"default": IN_MEMORY}, ["djserve.W002"]),
        (2, {"default": REDIS}, []),
        (2, {"default": REDIS, "other": IN_MEMORY}, ["djserve.W002"]),
        (2, {}, []),
        (None, {"default": IN_MEMORY}, ["djserve.W002"]),
        (1, {"default": IN_MEMORY}, []),
    ],
)
def test_channel_layer_of_one_process(
    workers: int | None, layers: dict[str, Any], expected: list[str]
) -> None:
    with override_settings(DJSERVE={"WORKERS": workers}, CHANNEL_LAYERS=layers):
        assert ids(checks.check_channel_layers(None)) == expected


class DerivedLayer(InMemoryChannelLayer):
    """A project's own."""


def test_layer_derived_from_the_one_in_memory_lives_in_one_process_too() -> None:
    layers = {"default": {"BACKEND": f"{__name__}.DerivedLayer"}}

    with override_settings(DJSERVE={"WORKERS": 2}, CHANNEL_LAYERS=layers):
        assert ids(checks.check_channel_layers(None)) == ["djserve.W002"]


HOST = {"BACKEND": "djserve.channels.HostChannelLayer"}


@pytest.mark.parametrize(
    ("host", "layer", "expected"),
    [
        ("db.example.org", HOST, ["djserve.I002"]),
        ("10.0.0.7", HOST, ["djserve.I002"]),
        ("db.example.org", REDIS, []),
        ("db.example.org", IN_MEMORY, []),
        ("", HOST, []),
        ("localhost", HOST, []),
        ("127.0.0.2", HOST, []),
        ("[::1]", HOST, []),
        ("/run/postgresql", HOST, []),
    ],
)
def test_layer_of_one_machine_beside_a_database_of_another(
    host: str,
    layer: dict[str, Any],
    expected: list[str],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.DEBUG, settings.CHANNEL_LAYERS = False, {"default": layer}
    monkeypatch.setitem(settings.DATABASES["default"], "HOST", host)

    assert ids(checks.check_machines(None)) == expected


def test_layer_of_one_machine_is_right_for_several_workers() -> None:
    with override_settings(
        DJSERVE={"WORKERS": 2}, CHANNEL_LAYERS={"default": HOST}, DEBUG=True
    ):
        assert checks.check_channel_layers(None) == []
        assert checks.check_machines(None) == []


@pytest.mark.parametrize("backend", ["nowhere.Layer", "django.VERSION", None])
def test_layer_that_is_no_class_is_left_to_channels(backend: object) -> None:
    layers = {"default": {"BACKEND": backend}}

    with override_settings(DJSERVE={"WORKERS": 2}, CHANNEL_LAYERS=layers):
        assert checks.check_channel_layers(None) == []


URL = "redis://127.0.0.1:6379/0"


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (None, ["djserve.W008"]),
        ([], ["djserve.W008"]),
        ([("127.0.0.1", 6379)], ["djserve.W008"]),
        ([URL], ["djserve.W008"]),
        ([f"{URL}?socket_timeout=15"], []),
        ([{"address": URL}], ["djserve.W008"]),
        ([{"address": URL, "socket_timeout": 15}], []),
        ([{"address": URL, "socket_timeout": None}], []),
        ([{"address": URL, "socket_timeout": 5}], ["djserve.W008"]),
        ([{"address": f"{URL}?socket_timeout=3"}], ["djserve.W008"]),
        ([{"address": f"{URL}?socket_timeout=15"}], []),
        ([f"{URL}?socket_timeout=soon"], []),
        ([f"{URL}?socket_timeout=15", URL], ["djserve.W008"]),
        ([{"sentinels": [("127.0.0.1", 26379)], "socket_timeout": 15}], []),
    ],
)
def test_redis_client_must_outlast_the_reads_of_the_layer(
    hosts: object, expected: list[str]
) -> None:
    layers = {"default": {**REDIS, "CONFIG": {"hosts": hosts}}}

    with override_settings(CHANNEL_LAYERS=layers):
        assert ids(checks.find_redis_problems("8.0.0")) == expected
        assert checks.find_redis_problems("7.4.1") == []


@override_settings(CHANNEL_LAYERS={"default": REDIS, "other": IN_MEMORY})
def test_redis_layer_without_any_host_has_the_default_timeout() -> None:
    messages = checks.find_redis_problems("8.1.0")

    assert ids(messages) == ["djserve.W008"]
    assert "'default'" in messages[0].msg
    assert "socket_timeout" in str(messages[0].hint)


@override_settings(CHANNEL_LAYERS={"default": REDIS})
def test_project_is_judged_by_the_redis_that_is_installed() -> None:
    expected = checks.find_redis_problems(metadata.version("redis"))

    assert ids(checks.check_redis_timeouts(None)) == ids(expected)


@override_settings(CHANNEL_LAYERS={"default": REDIS})
def test_no_redis_installed_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", find)

    assert checks.check_redis_timeouts(None) == []


def test_installed_layer_still_reads_for_five_seconds() -> None:
    assert RedisChannelLayer.brpop_timeout == checks._REDIS_READ_SECONDS


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
    assert ids(checks.find_asgiref_problems(version)) == expected


def test_installed_asgiref_is_new_enough() -> None:
    assert checks.check_asgiref(None) == []


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
        assert ids(checks.check_debug(None)) == expected


@override_settings(DEBUG=False, DJSERVE={"BIND": ["0.0.0.0:80"]})
def test_public_address_without_debug_passes() -> None:
    assert checks.check_debug(None) == []


@override_settings(DAPHNE_WEBSOCKET_MAX_FRAME_SIZE=5)
def test_setting_of_daphne_names_ours() -> None:
    (message,) = checks.check_daphne_settings(None)

    assert message.id == "djserve.W005"
    assert message.hint == "Set DJSERVE['WEBSOCKET_FRAME_SIZE_LIMIT'] instead."


def test_no_setting_of_daphne_passes() -> None:
    assert checks.check_daphne_settings(None) == []


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
        assert ids(checks.check_proxies(None)) == expected


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
        messages = checks.check_cors_origins(None)

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
    assert checks.check_cors_origins(None) == []

    monkeypatch.setattr(checks, "_WEBSOCKET_PACKAGES", ("not_installed",))
    with override_settings(MIDDLEWARE=["corsheaders.middleware.CorsMiddleware"]):
        assert checks.check_cors_origins(None) == []


@override_settings(DEBUG=True, DJSERVE={"NOPE": 1})
def test_wrong_configuration_is_reported_once() -> None:
    messages = [message for check in checks.CHECKS for message in check(None)]

    assert ids(messages) == ["djserve.E001"]


@override_settings(DJSERVE={"NOPE": 1}, DAPHNE_WEBSOCKET_MAX_FRAME_SIZE=5)
def test_every_message_has_a_hint() -> None:
    messages = [message for check in checks.CHECKS for message in check(None)]

    assert len(messages) == 2
    assert all(message.hint for message in messages)
