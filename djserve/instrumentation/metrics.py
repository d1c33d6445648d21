"""The figures of all boards in Prometheus' text format, by prometheus-client."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from djserve.errors import ConfigError
from djserve.instrumentation.board import BUCKETS, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

    from djserve.instrumentation.board import Board

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

TOTALS = {
    Figure.CONNECTIONS_TOTAL: ("connections", "Connections accepted"),
    Figure.CONNECTIONS_REFUSED: (
        "connections_refused",
        "Connections beyond CONNECTION_LIMIT",
    ),
    Figure.WEBSOCKETS_TOTAL: ("websockets", "WebSockets accepted"),
    Figure.WEBSOCKET_WAITS: (
        "websocket_waits",
        "Times that a WebSocket was read on in a later turn of the event loop",
    ),
    Figure.BYTES_SENT: ("response_bytes", "Bytes of response content sent"),
    Figure.BODIES_LATE: (
        "request_bodies_late",
        "Requests whose content took longer than BODY_TIME_LIMIT",
    ),
    Figure.UPLOADS_REFUSED: (
        "uploads_refused",
        "Requests whose content was beyond UPLOAD_DISK_LIMIT",
    ),
}

GAUGES = {
    Figure.CALLS: ("requests_in_flight", "Application calls that run"),
    Figure.CONNECTIONS: ("connections_open", "Connections that are open"),
    Figure.CLIENT_MEMORY: (
        "client_memory_bytes",
        "Bytes that wait for clients or from them",
    ),
    Figure.UPLOAD_DISK: (
        "upload_disk_bytes",
        "Bytes of request content in temporary files",
    ),
    Figure.WEBSOCKETS: ("websockets_open", "WebSockets that are open"),
    Figure.THREADS: ("threads", "Threads for synchronous code"),
    Figure.THREADS_RUNNING: ("threads_running", "Threads that run synchronous code"),
    Figure.THREADS_WAITING: ("threads_waiting", "Those of them that only wait"),
    Figure.THREADS_PARKED: ("threads_parked", "Threads held for their next call"),
    Figure.THREADS_QUEUED: ("thread_queue", "Calls that wait for a thread"),
}


def require_client() -> None:
    """Raise ConfigError if the library for metrics is not installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        problem = "METRICS_BIND and METRICS_PATH need the package prometheus-client"
        raise ConfigError([f'{problem}: install "djserve[metrics]"']) from None


def render(
    live: Sequence[tuple[str, Board]],
    retired: Board | None = None,
    restarts: int = 0,
    processes: Sequence[tuple[str, int, int]] = (),
) -> bytes:
    """Return the metrics of the workers: ``live`` by their names, and the ended ones.

    ``processes`` are those of PROCESSES: name, how many run, how many have failed.

    Whichever process is asked, the counters are those of all workers since the start.
    """
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(live, retired, restarts, processes))
    return generate_latest(registry)


class _Collector:
    def __init__(
        self,
        live: Sequence[tuple[str, Board]],
        retired: Board | None,
        restarts: int,
        processes: Sequence[tuple[str, int, int]],
    ) -> None:
        self._processes = processes
        self._live = live
        self._boards = [board for _, board in live]
        self._all = self._boards if retired is None else [*self._boards, retired]
        self._restarts = restarts

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield self._requests()
        yield self._durations()
        for field, (name, text) in TOTALS.items():
            total = CounterMetricFamily(f"djserve_{name}", text)
            total.add_metric([], self._sum(field))
            yield total
        yield self._messages()
        yield self._limits()
        for field, (name, text) in GAUGES.items():
            gauge = GaugeMetricFamily(f"djserve_{name}", text)
            gauge.add_metric([], sum(board.numbers[field] for board in self._boards))
            yield gauge
        yield from self._views()
        yield self._longest_wait()
        yield self._lag()
        workers = GaugeMetricFamily("djserve_workers", "Worker processes that serve")
        workers.add_metric([], len(self._live))
        yield workers
        restarts = CounterMetricFamily(
            "djserve_worker_restarts", "Workers that ended unexpectedly"
        )
        restarts.add_metric([], self._restarts)
        yield restarts
        if self._processes:
            yield from self._beside()

    def _beside(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        running = GaugeMetricFamily(
            "djserve_processes", "Processes beside the workers", labels=["name"]
        )
        restarts = CounterMetricFamily(
            "djserve_process_restarts",
            "Processes beside the workers that ended unasked",
            labels=["name"],
        )
        for name, count, ended in self._processes:
            running.add_metric([name], count)
            restarts.add_metric([name], ended)
        yield running
        yield restarts

    def _sum(self, field: Figure) -> int:
        return sum(board.numbers[field] for board in self._all)

    def _requests(self) -> Metric:
        from prometheus_client.core import CounterMetricFamily

        counts: Counter[tuple[str, int, str]] = Counter()
        for board in self._all:
            counts.update(board.requests())
        metric = CounterMetricFamily(
            "djserve_requests",
            "Requests by method, status (0: none was sent) and protocol",
            labels=["method", "status", "protocol"],
        )
        for (method, status, protocol), count in sorted(counts.items()):
            metric.add_metric([method, str(status), protocol], count)
        return metric

    def _durations(self) -> Metric:
        from prometheus_client.core import HistogramMetricFamily

        nothing = [0] * (len(BUCKETS) + 1)
        boards = (board.durations() for board in self._all)
        counts = [sum(column) for column in zip(nothing, *boards, strict=True)]
        cumulated = 0
        buckets = []
        for bound, count in zip([*map(str, BUCKETS), "+Inf"], counts, strict=True):
            cumulated += count
            buckets.append((bound, cumulated))
        metric = HistogramMetricFamily(
            "djserve_request_duration_seconds", "Time from a request's head to its end"
        )
        metric.add_metric([], buckets, self._sum(Figure.DURATION_SUM) / 1e9)
        return metric

    def _messages(self) -> Metric:
        from prometheus_client.core import CounterMetricFamily

        metric = CounterMetricFamily(
            "djserve_websocket_messages", "WebSocket messages", labels=["direction"]
        )
        metric.add_metric(["received"], self._sum(Figure.MESSAGES_RECEIVED))
        metric.add_metric(["sent"], self._sum(Figure.MESSAGES_SENT))
        return metric

    def _limits(self) -> Metric:
        from prometheus_client.core import CounterMetricFamily

        metric = CounterMetricFamily(
            "djserve_limits_reached",
            "Requests, connections and WebSockets that a setting has refused or closed",
            labels=["setting"],
        )
        counts: Counter[str] = Counter()
        for board in self._all:
            counts.update(board.limits())
        for setting, count in counts.items():
            metric.add_metric([setting], count)
        return metric

    def _views(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        running: Counter[str] = Counter()
        queued: Counter[str] = Counter()
        for board in self._boards:
            for view, (threads, calls) in board.views().items():
                running[view] += threads
                queued[view] += calls
        for name, text, counts in (
            ("threads", "Threads that a view has", running),
            ("thread_queue", "Calls of a view that wait for a thread", queued),
        ):
            gauge = GaugeMetricFamily(f"djserve_view_{name}", text, labels=["view"])
            for view, count in sorted(counts.items()):
                gauge.add_metric([view], count)
            yield gauge

    def _longest_wait(self) -> Metric:
        from prometheus_client.core import GaugeMetricFamily

        gauge = GaugeMetricFamily(
            "djserve_thread_wait_seconds",
            "How long the call has waited that has waited for longest",
        )
        waits = (board.numbers[Figure.THREAD_WAIT] for board in self._boards)
        gauge.add_metric([], max(waits, default=0) / 1e9)
        return gauge

    def _lag(self) -> Metric:
        from prometheus_client.core import GaugeMetricFamily

        metric = GaugeMetricFamily(
            "djserve_loop_lag_seconds",
            "How late the event loop's last timer was",
            labels=["worker"],
        )
        for name, board in self._live:
            metric.add_metric([name], board.numbers[Figure.LOOP_LAG] / 1e9)
        return metric
