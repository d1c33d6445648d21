"""Settings whose package is not installed, each with the package really hidden."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from djserve.checks.packages import check_packages
from tests.checks.messages import ids

# Any file: it is read at the start.
CERTIFICATE = {"CERTFILE": __file__}
ACME = {"ACME_DOMAINS": ["example.org"], "ACME_AGREE_TO_TERMS": True}

NEEDY: list[tuple[dict[str, Any], str, str, str]] = [
    ({"METRICS_BIND": ":9100"}, "prometheus_client", "prometheus-client", "metrics"),
    ({"METRICS_PATH": "/m"}, "prometheus_client", "prometheus-client", "metrics"),
    ({"HTTP3": True, **CERTIFICATE}, "aioquic", "aioquic", "http3"),
    ({"HTTP3": True, **CERTIFICATE}, "pylsqpack", "pylsqpack", "http3"),
    ({"RELOAD": True}, "watchfiles", "watchfiles", "reload"),
    ({"TRACING": True}, "opentelemetry.trace", "opentelemetry-api", "otel"),
    ({"TRACING": True}, "opentelemetry.sdk", "opentelemetry-sdk", "otel"),
    ({"METRICS_OTLP": True}, "opentelemetry.sdk", "opentelemetry-sdk", "otel"),
    (
        {"METRICS_OTLP": True},
        "opentelemetry.exporter.otlp.proto.http",
        "opentelemetry-exporter-otlp-proto-http",
        "otel",
    ),
    (
        {"COMPRESSION": True, "COMPRESSION_CODINGS": ["br"]},
        "brotli",
        "brotli",
        "compression",
    ),
]


def name_of(values: dict[str, Any]) -> str:
    first = next(key for key in ("COMPRESSION_CODINGS", *values) if key in values)
    return f"DJSERVE[{first!r}]"


@pytest.mark.parametrize(("values", "module", "package", "extra"), NEEDY)
def test_missing_package_of_a_setting_is_named(
    values: dict[str, Any],
    module: str,
    package: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with override_settings(DJSERVE=values, CHANNEL_LAYERS={}):
        before = check_packages(None)
        monkeypatch.setitem(sys.modules, module, None)
        (message,) = check_packages(None)

    assert before == []
    assert message.id == "djserve.W010"
    assert message.msg == (
        f"{name_of(values)} needs the package {package}, which is not installed."
    )
    assert f'"djserve[{extra}]"' in str(message.hint)


def test_order_of_a_certificate_needs_its_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "acme", None)
    values = {**ACME, "ACME_FOLDER": str(tmp_path), "REDIRECT_HTTP": [":80"]}

    with override_settings(DJSERVE=values, CHANNEL_LAYERS={}):
        (message,) = check_packages(None)

    assert message.msg.startswith("DJSERVE['ACME_DOMAINS'] needs the package acme,")


def test_packages_of_one_extra_are_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aioquic", None)
    monkeypatch.setitem(sys.modules, "pylsqpack", None)

    with override_settings(DJSERVE={"HTTP3": True, **CERTIFICATE}, CHANNEL_LAYERS={}):
        (message,) = check_packages(None)

    assert "the packages aioquic, pylsqpack, which are not installed" in message.msg


def test_settings_at_their_defaults_need_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _, module, _, _ in NEEDY:
        monkeypatch.setitem(sys.modules, module, None)

    with override_settings(DJSERVE={"COMPRESSION": True}, CHANNEL_LAYERS={}):
        assert check_packages(None) == []


def test_spans_that_others_send_need_no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry import trace

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", trace.NoOpTracerProvider())
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)

    with override_settings(DJSERVE={"TRACING": True}, CHANNEL_LAYERS={}):
        assert check_packages(None) == []


def test_exporter_of_another_name_is_the_projects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)

    with override_settings(DJSERVE={"METRICS_OTLP": True}, CHANNEL_LAYERS={}):
        assert check_packages(None) == []


@pytest.mark.parametrize(
    ("backend", "module", "extra"),
    [
        ("djserve.channels.HostChannelLayer", "msgpack", "channels"),
        ("djserve.channels.HostChannelLayer", "channels", "channels"),
        ("channels.layers.InMemoryChannelLayer", "channels", "channels"),
        ("channels_redis.core.RedisChannelLayer", "channels_redis", "redis"),
    ],
)
def test_missing_package_of_a_channel_layer_is_named(
    backend: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = {"default": {"BACKEND": backend}, "own": {"BACKEND": "site.layers.Own"}}
    with override_settings(DJSERVE={}, CHANNEL_LAYERS=layers):
        before = check_packages(None)
        monkeypatch.setitem(sys.modules, module, None)
        (message,) = check_packages(None)

    assert before == []
    assert message.msg.startswith("CHANNEL_LAYERS['default'] needs the package ")
    assert f'"djserve[{extra}]"' in str(message.hint)


def test_wrong_settings_are_reported_by_their_own_check() -> None:
    with override_settings(DJSERVE={"HTTP3": "perhaps"}, CHANNEL_LAYERS={}):
        assert ids(check_packages(None)) == []
