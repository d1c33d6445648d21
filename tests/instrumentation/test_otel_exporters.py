from __future__ import annotations

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

from djserve.errors import ConfigError
from djserve.instrumentation.otel_exporters import load_exporters


@pytest.mark.parametrize(
    ("signal", "environ", "expected"),
    [
        ("traces", {}, [OTLPSpanExporter]),
        ("metrics", {}, [OTLPMetricExporter]),
        ("metrics", {"OTEL_METRICS_EXPORTER": "none"}, []),
        (
            "metrics",
            {"OTEL_METRICS_EXPORTER": "console, otlp"},
            [ConsoleMetricExporter, OTLPMetricExporter],
        ),
        ("metrics", {"OTEL_TRACES_EXPORTER": "none"}, [OTLPMetricExporter]),
    ],
    ids=["traces", "metrics", "none", "two", "other-signal"],
)
def test_exporters_are_those_of_the_variables(
    signal: str, environ: dict[str, str], expected: list[type]
) -> None:
    assert load_exporters(signal, environ) == expected


@pytest.mark.parametrize(
    "variable",
    ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"],
)
def test_exporter_that_is_not_installed_is_named(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "djserve.instrumentation.otel_exporters.metadata.entry_points",
        lambda **wanted: [],
    )
    with pytest.raises(ConfigError, match="otlp_proto_grpc"):
        load_exporters("metrics", {variable: "grpc"})
    with pytest.raises(ConfigError, match="OTEL_METRICS_EXPORTER: no exporter 'x'"):
        load_exporters("metrics", {"OTEL_METRICS_EXPORTER": "x"})
