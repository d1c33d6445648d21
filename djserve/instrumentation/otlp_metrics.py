"""Figures to OpenTelemetry's metrics, handed to the exporters that OTEL_* name.

The SDK's own instruments count in one process; what workers have counted on their
boards is made into its data as it is, as for its producers of metrics. Imports
OpenTelemetry: to be imported only if METRICS_OTLP is on.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING, Any

import djserve
from djserve.conf.extras import missing_package
from djserve.errors import ConfigError
from djserve.instrumentation.board import BUCKETS
from djserve.instrumentation.figures import FigureKind
from djserve.instrumentation.otel import load_exporters

try:
    from opentelemetry.sdk.metrics import export
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
except ImportError:
    raise missing_package("METRICS_OTLP", "opentelemetry-sdk") from None

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from djserve.instrumentation.figures import Family

UNITS = {"seconds": "s", "bytes": "By"}
"""The last word of a name, and the unit that a receiver makes it of again."""

# In milliseconds, as the specification has it.
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_PREFERENCE = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"


class OTLPSink:
    """Send figures by OpenTelemetry's exporters. Raises ConfigError."""

    name = "OpenTelemetry"

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.interval = _read_interval(environ)
        makers = load_exporters("metrics", environ)
        self._exporters = [make() for make in makers]
        preference = environ.get(_PREFERENCE, "").strip().lower()
        self._converter = Converter(is_delta=preference in ("delta", "lowmemory"))

    def send(self, families: Sequence[Family]) -> None:
        """Export the figures; an exporter logs by itself what it meets with."""
        data = self._converter.convert(families, time.time_ns())
        for exporter in self._exporters:
            exporter.export(data)

    def close(self) -> None:
        for exporter in self._exporters:
            exporter.shutdown()


class Converter:
    """Families to OpenTelemetry's data.

    With ``is_delta``, counters and histograms are sent as what they have grown by.
    """

    def __init__(self, *, is_delta: bool = False) -> None:
        self._temporality = (
            export.AggregationTemporality.DELTA
            if is_delta
            else export.AggregationTemporality.CUMULATIVE
        )
        self._is_delta = is_delta
        self._start = time.time_ns()
        self._before: dict[tuple[str, tuple[str, ...]], Any] = {}
        # Two supervisors of one service count apart: a reload of all has two for long.
        instance = {"service.instance.id": str(uuid.uuid4())}
        self._resource = Resource(instance).merge(Resource.create())
        self._scope = InstrumentationScope("djserve", djserve.__version__)

    def convert(self, families: Sequence[Family], now: int) -> export.MetricsData:
        """Return the figures at a time in nanoseconds."""
        metrics = [
            self._convert_one(family, now)
            for family in families
            if family.values or family.histograms
        ]
        if self._is_delta:
            self._start = now
        scope = export.ScopeMetrics(self._scope, metrics, "")
        return export.MetricsData([export.ResourceMetrics(self._resource, [scope], "")])

    def _convert_one(self, family: Family, now: int) -> export.Metric:
        name, _, last = family.name.rpartition("_")
        unit = UNITS.get(last, "")
        if not unit:
            name = family.name
        data: Any
        if family.kind is FigureKind.HISTOGRAM:
            points = self._histogram_points(family, now)
            data = export.Histogram(points, self._temporality)
        elif family.kind is FigureKind.COUNTER:
            growing = self._number_points(family, now)
            data = export.Sum(growing, self._temporality, is_monotonic=True)
        else:
            data = export.Gauge(self._number_points(family, now))
        return export.Metric(f"djserve.{name}", family.text, unit, data)

    def _number_points(self, family: Family, now: int) -> list[export.NumberDataPoint]:
        points = []
        for labels, value in family.values.items():
            if self._is_delta and family.kind is FigureKind.COUNTER:
                key = family.name, labels
                before = self._before.get(key, 0)
                self._before[key] = value
                value = max(0, value - before)
            attributes = dict(zip(family.labels, labels, strict=True))
            points.append(export.NumberDataPoint(attributes, self._start, now, value))
        return points

    def _histogram_points(
        self, family: Family, now: int
    ) -> list[export.HistogramDataPoint]:
        points = []
        for labels, histogram in family.histograms.items():
            if self._is_delta:
                key = family.name, labels
                before = self._before.get(key)
                self._before[key] = histogram
                histogram = histogram.since(before)
            points.append(
                export.HistogramDataPoint(
                    attributes=dict(zip(family.labels, labels, strict=True)),
                    start_time_unix_nano=self._start,
                    time_unix_nano=now,
                    count=sum(histogram.counts),
                    sum=histogram.total,
                    bucket_counts=histogram.counts,
                    explicit_bounds=BUCKETS,
                    # Optional on the wire, and not known of a sum over workers.
                    min=None,  # type: ignore[arg-type]
                    max=None,  # type: ignore[arg-type]
                )
            )
        return points


def _read_interval(environ: Mapping[str, str]) -> float:
    text = environ.get(_INTERVAL, "").strip() or "60000"
    try:
        interval = float(text) / 1000
    except ValueError:
        interval = 0.0
    if not 0 < interval < float("inf"):
        raise ConfigError([f"{_INTERVAL}: expected milliseconds, got {text!r}"])
    return interval
