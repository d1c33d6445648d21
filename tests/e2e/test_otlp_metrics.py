"""Metrics of a Django project, sent to a collector as in production."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from tests.e2e.test_metrics import ENVIRONMENT, fetch, fill
from tests.support.otlp import Collector

pytestmark = pytest.mark.e2e

GUARD = 120.0


class MetricsCollector(Collector):
    """A receiver of metrics over OTLP, and what it was told last."""

    def __init__(self) -> None:
        self.resources: list[Any] = []
        self.metrics: dict[str, Any] = {}
        super().__init__("metrics", ExportMetricsServiceRequest)

    def take(self, message: Any) -> None:
        for resource in message.resource_metrics:
            self.resources.append(resource.resource)
            for scope in resource.scope_metrics:
                self.metrics |= {metric.name: metric for metric in scope.metrics}

    def requests(self) -> int:
        """Return how many requests got 200."""
        metric = self.metrics.get("djserve.requests")
        points = [] if metric is None else metric.sum.data_points
        return sum(
            int(point.as_double or point.as_int)
            for point in points
            if read_attributes(point)["status"] == "200"
        )

    def views(self) -> dict[str, int]:
        """Return how often each view has answered."""
        metric = self.metrics.get("djserve.view_duration")
        points = [] if metric is None else metric.histogram.data_points
        return {read_attributes(point)["view"]: point.count for point in points}


def read_attributes(point: Any) -> dict[str, str]:
    return {entry.key: entry.value.string_value for entry in point.attributes}


@pytest.fixture
def collector() -> Iterator[MetricsCollector]:
    collector = MetricsCollector()
    yield collector
    collector.close()


def serve(
    start_server: Callable[..., Any],
    folder: Path,
    port: int,
    environment: dict[str, str],
    *words: str,
) -> Any:
    return start_server(
        *("manage.py", "runasgi", f"127.0.0.1:{port}", "--metrics-otlp", *words),
        port=port,
        cwd=fill(folder),
        env={**ENVIRONMENT, **environment},
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_figures_of_all_workers_reach_the_collector(
    start_server: Callable[..., Any],
    tmp_path: Path,
    free_port: int,
    collector: MetricsCollector,
    workers: int,
) -> None:
    words = ("--workers", str(workers))
    server = serve(start_server, tmp_path, free_port, collector.environment, *words)
    for number in range(10):
        fetch(f"{server.url}/")
        fetch(f"{server.url}/shop/later/{number}")
    assert collector.wait_for(lambda: collector.requests() >= 20), collector.metrics
    fetch(f"{server.url}/")
    # The last figures are sent when the server ends.
    server.process.terminate()
    assert server.process.wait(GUARD) == 0

    assert collector.requests() == 21
    assert collector.views() == {"site_urls.index": 11, "shop:later": 10}
    assert collector.metrics["djserve.requests"].sum.is_monotonic
    assert "djserve.workers" in collector.metrics
    names = {read_attributes(each)["service.name"] for each in collector.resources}
    instances = {
        read_attributes(each)["service.instance.id"] for each in collector.resources
    }
    assert names == {"site"}
    assert len(instances) == 1


def test_site_is_served_and_ended_without_the_collector(
    start_server: Callable[..., Any],
    tmp_path: Path,
    free_port: int,
    collector: MetricsCollector,
) -> None:
    environment = collector.environment
    environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port + 1}"
    server = serve(start_server, tmp_path, free_port, environment)
    server.wait_for("Supervisor")
    assert fetch(f"{server.url}/") == (200, "index")
    server.process.terminate()

    assert server.process.wait(GUARD) == 0
    assert "Traceback" not in server.output


def test_wrong_interval_is_told_at_the_start(
    start_server: Callable[..., Any],
    tmp_path: Path,
    free_port: int,
    collector: MetricsCollector,
) -> None:
    environment = {**collector.environment, "OTEL_METRIC_EXPORT_INTERVAL": "often"}
    with pytest.raises(pytest.fail.Exception, match="OTEL_METRIC_EXPORT_INTERVAL"):
        serve(start_server, tmp_path, free_port, environment)
