from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from djserve.conf.parser import parse
from djserve.errors import ConfigError
from djserve.instrumentation.board import (
    BUCKETS,
    Board,
    Figure,
    duration_index,
    find_bucket,
    request_index,
)
from djserve.instrumentation.figures import read_figures
from djserve.instrumentation.limits import LIMITS
from djserve.instrumentation.metrics import CONTENT_TYPE, render, require_client

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def boards() -> Iterator[list[Board]]:
    """Three boards: two of workers, one of those that have ended."""
    boards = [Board(), Board(), Board()]
    yield boards
    for board in boards:
        board.close()


def parse_samples(data: bytes) -> Samples:
    """Read the text as Prometheus does: values by name and labels, those in order."""
    return {
        (
            sample.name,
            tuple(label for _, label in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(data.decode())
        for sample in family.samples
    }


def render_boards(boards: list[Board], restarts: int = 0) -> Samples:
    first, second, retired = boards
    live = [("1", first), ("2", second)]
    return parse_samples(render(read_figures(live, retired, restarts)))


def test_counters_include_workers_that_have_ended(boards: list[Board]) -> None:
    for board in boards:
        board.numbers[Figure.CONNECTIONS_TOTAL] = 2
        board.numbers[Figure.BYTES_SENT] = 10

    samples = render_boards(boards)
    assert samples["djserve_connections_total", ()] == 6
    assert samples["djserve_response_bytes_total", ()] == 30


def test_limits_are_counted_by_their_setting(boards: list[Board]) -> None:
    for board in boards:
        board.set_limits({**dict.fromkeys(LIMITS, 0), "CLIENT_MEMORY_LIMIT": 2})

    samples = render_boards(boards)
    assert samples["djserve_limits_reached_total", ("CLIENT_MEMORY_LIMIT",)] == 6
    assert samples["djserve_limits_reached_total", ("CONNECTION_LIMIT",)] == 0


def test_gauges_are_those_of_live_workers(boards: list[Board]) -> None:
    for board in boards:
        board.numbers[Figure.CALLS] = 3
        board.numbers[Figure.WEBSOCKETS] = 5

    samples = render_boards(boards)
    assert samples["djserve_requests_in_flight", ()] == 6
    assert samples["djserve_websockets_open", ()] == 10
    assert samples["djserve_workers", ()] == 2


def test_requests_have_method_status_and_protocol(boards: list[Board]) -> None:
    boards[0].numbers[request_index("GET", 200, "1.1")] = 1
    boards[1].numbers[request_index("POST", 0, "2")] = 2
    boards[2].numbers[request_index("GET", 200, "1.1")] = 4

    samples = render_boards(boards)
    assert samples["djserve_requests_total", ("GET", "HTTP/1.1", "200")] == 5
    assert samples["djserve_requests_total", ("POST", "HTTP/2", "0")] == 2


def test_durations_are_a_cumulated_histogram(boards: list[Board]) -> None:
    for board, seconds in zip(boards, (0.0005, 0.3, 60.0), strict=True):
        board.numbers[duration_index(seconds)] += 1
        board.numbers[Figure.DURATION_SUM] = int(seconds * 1e9)

    samples = render_boards(boards)
    name = "djserve_request_duration_seconds"
    buckets = [samples[f"{name}_bucket", (str(bound),)] for bound in BUCKETS]
    below = BUCKETS.index(0.5)
    assert buckets == [1] * below + [2] * (len(BUCKETS) - below)
    assert samples[f"{name}_bucket", ("+Inf",)] == samples[f"{name}_count", ()] == 3
    assert samples[f"{name}_sum", ()] == pytest.approx(60.3005)


def test_lag_is_told_for_each_worker(boards: list[Board]) -> None:
    boards[1].numbers[Figure.LOOP_LAG] = 1_500_000_000

    samples = render_boards(boards)
    assert samples["djserve_loop_lag_seconds", ("1",)] == 0
    assert samples["djserve_loop_lag_seconds", ("2",)] == 1.5


def test_messages_have_their_direction(boards: list[Board]) -> None:
    boards[0].numbers[Figure.MESSAGES_RECEIVED] = 3
    boards[2].numbers[Figure.MESSAGES_SENT] = 4

    samples = render_boards(boards)
    assert samples["djserve_websocket_messages_total", ("received",)] == 3
    assert samples["djserve_websocket_messages_total", ("sent",)] == 4


def test_restarts_are_told(boards: list[Board]) -> None:
    samples = render_boards(boards, restarts=7)

    assert samples["djserve_worker_restarts_total", ()] == 7


def test_metrics_go_on_without_a_worker(boards: list[Board]) -> None:
    boards[0].numbers[Figure.CONNECTIONS_TOTAL] = 2
    samples = parse_samples(render(read_figures([], boards[0])))

    assert samples["djserve_workers", ()] == 0
    assert samples["djserve_connections_total", ()] == 2


def test_metrics_can_be_read_before_there_is_any_board() -> None:
    samples = parse_samples(render(read_figures([])))

    assert samples["djserve_workers", ()] == 0
    assert samples["djserve_request_duration_seconds_count", ()] == 0


def test_content_type_is_that_of_the_text_format() -> None:
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = [parse({"METRICS_BIND": "127.0.0.1:0"}), parse({"METRICS_PATH": "/m"})]
    for config in needed:
        require_client(config.metrics)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    require_client(parse({"HEALTH": True}).metrics)

    for config, setting in zip(needed, ["METRICS_BIND", "METRICS_PATH"], strict=True):
        with pytest.raises(ConfigError, match=f"^{setting} needs .* prometheus-client"):
            require_client(config.metrics)


def test_threads_of_views_are_summed_over_the_workers(boards: list[Board]) -> None:
    boards[0].set_views({"slow": (4, 2), "other": (1, 0)})
    boards[1].set_views({"slow": (3, 0)})
    boards[1].numbers[Figure.THREAD_WAIT] = 1_500_000_000
    samples = render_boards(boards)

    assert samples["djserve_view_threads", ("slow",)] == 7
    assert samples["djserve_view_thread_queue", ("slow",)] == 2
    assert samples["djserve_view_threads", ("other",)] == 1
    assert samples["djserve_thread_wait_seconds", ()] == 1.5


def test_times_of_views_are_histograms_over_all_workers(boards: list[Board]) -> None:
    for board, seconds in zip(boards, (0.0005, 0.3, 60.0), strict=True):
        board.view_times.add("index", find_bucket(seconds), int(seconds * 1e9))
    boards[1].view_times.add("slow", find_bucket(2.0), 2_000_000_000)

    samples = render_boards(boards)
    name = "djserve_view_duration_seconds"
    assert samples[f"{name}_bucket", ("0.25", "index")] == 1
    assert samples[f"{name}_bucket", ("30.0", "index")] == 2
    assert samples[f"{name}_bucket", ("+Inf", "index")] == 3
    assert samples[f"{name}_count", ("index",)] == 3
    assert samples[f"{name}_sum", ("index",)] == pytest.approx(60.3005)
    assert samples[f"{name}_count", ("slow",)] == 1
