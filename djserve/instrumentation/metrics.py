"""Figures to Prometheus' text format, by prometheus-client."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from djserve.conf.extras import missing_package
from djserve.instrumentation.board import BUCKETS
from djserve.instrumentation.figures import FigureKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

    from djserve.conf.schema import MetricsConfig
    from djserve.instrumentation.figures import Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def require_client(config: MetricsConfig) -> None:
    """Raise ConfigError if the library is missing, and Prometheus may ask."""
    if config.metrics_bind is None and config.metrics_path is None:
        return
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        setting = "METRICS_BIND" if config.metrics_bind is not None else "METRICS_PATH"
        raise missing_package(setting, "prometheus-client") from None


def render(families: Sequence[Family]) -> bytes:
    """Return figures as Prometheus reads them."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(families))
    return generate_latest(registry)


class _Collector:
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            if family.kind is FigureKind.HISTOGRAM:
                yield _make_histogram(family)
            else:
                yield _make_plain(family)


def _make_histogram(family: Family) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    name = f"djserve_{family.name}"
    metric = HistogramMetricFamily(name, family.text, labels=family.labels)
    bounds = [*map(str, BUCKETS), "+Inf"]
    for labels, (counts, total) in family.histograms.items():
        # How many were below each bound, from how many fell between them.
        buckets = list(zip(bounds, accumulate(counts), strict=True))
        metric.add_metric(labels, buckets, total)
    return metric


def _make_plain(family: Family) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    is_counter = family.kind is FigureKind.COUNTER
    make: Any = CounterMetricFamily if is_counter else GaugeMetricFamily
    metric: Any = make(f"djserve_{family.name}", family.text, labels=family.labels)
    for labels, value in family.values.items():
        metric.add_metric(labels, value)
    return metric
