"""Channel layers that do not fit the workers, the machines or the Redis client."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer
from django.test import override_settings

from djserve.checks import channel_layers
from tests.checks.messages import ids

IN_MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
REDIS = {"BACKEND": "channels_redis.core.RedisChannelLayer"}


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
        assert ids(channel_layers.check_channel_layers(None)) == expected


class DerivedLayer(InMemoryChannelLayer):
    """A project's own."""


def test_layer_derived_from_the_one_in_memory_lives_in_one_process_too() -> None:
    layers = {"default": {"BACKEND": f"{__name__}.DerivedLayer"}}

    with override_settings(DJSERVE={"WORKERS": 2}, CHANNEL_LAYERS=layers):
        assert ids(channel_layers.check_channel_layers(None)) == ["djserve.W002"]


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

    assert ids(channel_layers.check_machines(None)) == expected


def test_layer_of_one_machine_is_right_for_several_workers() -> None:
    with override_settings(
        DJSERVE={"WORKERS": 2}, CHANNEL_LAYERS={"default": HOST}, DEBUG=True
    ):
        assert channel_layers.check_channel_layers(None) == []
        assert channel_layers.check_machines(None) == []


@pytest.mark.parametrize("backend", ["nowhere.Layer", "django.VERSION", None])
def test_layer_that_is_no_class_is_left_to_channels(backend: object) -> None:
    layers = {"default": {"BACKEND": backend}}

    with override_settings(DJSERVE={"WORKERS": 2}, CHANNEL_LAYERS=layers):
        assert channel_layers.check_channel_layers(None) == []


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
        assert ids(channel_layers.find_redis_problems("8.0.0")) == expected
        assert channel_layers.find_redis_problems("7.4.1") == []


@override_settings(CHANNEL_LAYERS={"default": REDIS, "other": IN_MEMORY})
def test_redis_layer_without_any_host_has_the_default_timeout() -> None:
    messages = channel_layers.find_redis_problems("8.1.0")

    assert ids(messages) == ["djserve.W008"]
    assert "'default'" in messages[0].msg
    assert "socket_timeout" in str(messages[0].hint)


@override_settings(CHANNEL_LAYERS={"default": REDIS})
def test_project_is_judged_by_the_redis_that_is_installed() -> None:
    expected = channel_layers.find_redis_problems(metadata.version("redis"))

    assert ids(channel_layers.check_redis_timeouts(None)) == ids(expected)


@override_settings(CHANNEL_LAYERS={"default": REDIS})
def test_no_redis_installed_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", find)

    assert channel_layers.check_redis_timeouts(None) == []


def test_installed_layer_still_reads_for_five_seconds() -> None:
    assert RedisChannelLayer.brpop_timeout == channel_layers._REDIS_READ_SECONDS
