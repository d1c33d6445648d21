from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.metrics import export

from djserve.errors import ConfigError
from djserve.instrumentation.board import BUCKETS
from djserve.instrumentation.figures import Family, FigureKind, Histogram
from djserve.instrumentation.otlp_metrics import Converter, OTLPSink


def requests(count: int) -> Family:
    labels = ("method", "status")
    return Family(
        "requests", FigureKind.COUNTER, "text", labels, {("GET", "200"): count}
    )


def durations(count: int, total: float) -> Family:
    counts = (count, *[0] * len(BUCKETS))
    histograms: dict[tuple[str, ...], Histogram] = {
        ("shop:cart",): Histogram(counts, total)
    }
    return Family(
        "view_duration_seconds",
        FigureKind.HISTOGRAM,
        "",
        ("view",),
        histograms=histograms,
    )


def convert(converter: Converter, *families: Family, now: int = 2**62) -> list[Any]:
    ((resource,),) = [converter.convert(families, now).resource_metrics]
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "djserve"
    return [*scope.metrics]


def test_counter_is_a_sum_that_only_grows() -> None:
    (metric,) = convert(Converter(), requests(5))
    (point,) = metric.data.data_points

    assert (metric.name, metric.unit) == ("djserve.requests", "")
    assert metric.data.is_monotonic
    assert metric.data.aggregation_temporality is (
        export.AggregationTemporality.CUMULATIVE
    )
    assert point.attributes == {"method": "GET", "status": "200"}
    assert point.value == 5
    assert point.start_time_unix_nano < point.time_unix_nano


@pytest.mark.parametrize(
    ("name", "expected", "unit"),
    [
        ("loop_lag_seconds", "djserve.loop_lag", "s"),
        ("client_memory_bytes", "djserve.client_memory", "By"),
        ("connections_open", "djserve.connections_open", ""),
    ],
)
def test_gauge_has_its_unit_apart(name: str, expected: str, unit: str) -> None:
    (metric,) = convert(
        Converter(), Family(name, FigureKind.GAUGE, "", values={(): 2.5})
    )

    assert (metric.name, metric.unit) == (expected, unit)
    assert isinstance(metric.data, export.Gauge)
    assert metric.data.data_points[0].value == 2.5


def test_histogram_has_its_buckets() -> None:
    (metric,) = convert(Converter(), durations(3, 0.002))
    (point,) = metric.data.data_points

    assert (metric.name, metric.unit) == ("djserve.view_duration", "s")
    assert (point.count, point.sum) == (3, 0.002)
    assert point.bucket_counts == (3, *[0] * len(BUCKETS))
    assert point.explicit_bounds == BUCKETS
    assert point.attributes == {"view": "shop:cart"}


def test_growth_alone_is_told_to_who_prefers_that() -> None:
    converter = Converter(is_delta=True)
    convert(converter, requests(5), durations(3, 0.002), now=10)
    told = convert(converter, requests(7), durations(4, 0.003), now=20)
    points = [metric.data.data_points[0] for metric in told]

    assert points[0].value == 2
    assert points[1].count == 1
    assert points[1].sum == pytest.approx(0.001)
    assert {(p.start_time_unix_nano, p.time_unix_nano) for p in points} == {(10, 20)}
    assert {metric.data.aggregation_temporality for metric in told} == {
        export.AggregationTemporality.DELTA
    }


def test_families_without_a_value_are_left_out() -> None:
    assert convert(Converter(), Family("requests", FigureKind.COUNTER, "")) == []


def test_process_is_an_instance_of_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    resource = Converter().convert([], 1).resource_metrics[0].resource

    assert resource.attributes["service.name"] == "shop"
    assert len(str(resource.attributes["service.instance.id"])) == 36


NONE = {"OTEL_METRICS_EXPORTER": "none"}


def test_interval_is_that_of_the_specification() -> None:
    assert OTLPSink(NONE).interval == 60
    assert OTLPSink(NONE | {"OTEL_METRIC_EXPORT_INTERVAL": "500"}).interval == 0.5


@pytest.mark.parametrize("text", ["often", "0", "-1", "inf", "nan"])
def test_interval_has_to_be_a_number(text: str) -> None:
    with pytest.raises(ConfigError, match="OTEL_METRIC_EXPORT_INTERVAL: expected"):
        OTLPSink(NONE | {"OTEL_METRIC_EXPORT_INTERVAL": text})


@pytest.mark.e2e
def test_missing_library_is_one_clear_error() -> None:
    script = """
import sys
sys.modules["opentelemetry.sdk.metrics"] = None
from djserve.conf.parser import parse
from djserve.errors import ConfigError
from djserve.server.publishing import open_sinks
try:
    open_sinks(parse({"METRICS_OTLP": True}).metrics)
except ConfigError as error:
    print(error.problems)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    problem = (
        'METRICS_OTLP needs the package opentelemetry-sdk: install "djserve[otel]"'
    )
    assert done.stdout == f"['{problem}']\n"
