from __future__ import annotations

import re

import pytest

from djserve.instrumentation.board import BUCKETS
from djserve.instrumentation.figures import Family, FigureKind, Histogram
from djserve.instrumentation.statsd import (
    PAYLOAD,
    StatsD,
    find_timings,
    sample_rate,
)

Values = dict[tuple[str, ...], float]


def make_histogram(total: float, **buckets: int) -> Histogram:
    """Return one with counts by the index of their bucket, as ``b3=5``."""
    counts = [0] * (len(BUCKETS) + 1)
    for name, count in buckets.items():
        counts[int(name[1:])] = count
    return Histogram(tuple(counts), total)


def requests(**counts: float) -> Family:
    values: Values = {(method, "200"): count for method, count in counts.items()}
    return Family("requests", FigureKind.COUNTER, "", ("method", "status"), values)


def durations(histogram: Histogram, view: str = "shop:cart") -> Family:
    return Family(
        "view_duration_seconds",
        FigureKind.HISTOGRAM,
        "",
        ("view",),
        histograms={(view,): histogram},
    )


def lines(statsd: StatsD, *families: Family) -> list[str]:
    return b"\n".join(statsd.datagrams(families)).decode().splitlines()


def test_counters_are_told_by_their_growth() -> None:
    statsd = StatsD("djserve")

    assert lines(statsd, requests(GET=5)) == ["djserve.requests.GET.200:5|c"]
    assert lines(statsd, requests(GET=5)) == []
    assert lines(statsd, requests(GET=7, PUT=1)) == [
        "djserve.requests.GET.200:2|c",
        "djserve.requests.PUT.200:1|c",
    ]


def test_counter_that_has_shrunk_is_not_told() -> None:
    statsd = StatsD("djserve")
    lines(statsd, requests(GET=5))

    assert lines(statsd, requests(GET=3)) == []
    assert lines(statsd, requests(GET=4)) == ["djserve.requests.GET.200:1|c"]


def test_labels_are_tags_where_the_receiver_has_them() -> None:
    statsd = StatsD("web", ["env:prod"])
    cart = durations(make_histogram(0.2, b6=2), view="shop, the:cart")

    assert lines(statsd, requests(GET=5), cart) == [
        "web.requests:5|c|#env:prod,method:GET,status:200",
        "web.view_duration:100|ms|@0.5|#env:prod,view:shop__the:cart",
    ]
    workers = Family("workers", FigureKind.GAUGE, "", values={(): 2})
    assert lines(StatsD("", with_tags=True), workers) == ["workers:2|g"]


def test_gauges_are_told_each_time_and_end_at_zero() -> None:
    statsd = StatsD("djserve")
    lag = Family("loop_lag_seconds", FigureKind.GAUGE, "", ("worker",), {("7",): 0.25})
    gone = Family("loop_lag_seconds", FigureKind.GAUGE, "", ("worker",), {("8",): 0})

    expected = ["djserve.loop_lag_seconds.7:0.25|g"]
    assert lines(statsd, lag) == lines(statsd, lag) == expected
    assert lines(statsd, gone) == [
        "djserve.loop_lag_seconds.8:0|g",
        "djserve.loop_lag_seconds.7:0|g",
    ]
    assert lines(statsd, gone) == ["djserve.loop_lag_seconds.8:0|g"]


def test_histogram_is_told_as_timings_with_their_rate() -> None:
    statsd = StatsD("djserve")
    lines(statsd, durations(make_histogram(0.02, b4=1)))
    told = lines(statsd, durations(make_histogram(0.34, b4=1, b6=4)))

    assert told == ["djserve.view_duration.shop_cart:80|ms|@0.25"]


@pytest.mark.parametrize(
    "histogram",
    [
        make_histogram(0.0004, b0=1),
        make_histogram(0.0123, b0=3, b3=1),
        make_histogram(5.5, b4=10, b8=3, b11=1),
        make_histogram(100.5, b8=1, b14=2),
    ],
    ids=["fast", "two", "three", "beyond-the-last"],
)
def test_timings_lie_in_their_buckets_and_have_the_sum(histogram: Histogram) -> None:
    timings = list(find_timings(histogram))
    bounds = (0.0, *BUCKETS, 1e9)
    places = [index for index, count in enumerate(histogram.counts) if count]

    assert [count for _, count in timings] == [histogram.counts[n] for n in places]
    for (seconds, _), index in zip(timings, places, strict=True):
        assert bounds[index] <= seconds <= bounds[index + 1]
    total = sum(seconds * count for seconds, count in timings)
    assert total == pytest.approx(histogram.total)


def test_nothing_is_told_of_no_requests() -> None:
    assert list(find_timings(make_histogram(0.0))) == []


def test_rate_leads_to_the_count() -> None:
    assert all(int(1 / sample_rate(count)) == count for count in range(1, 5000))


def test_lines_are_joined_to_datagrams_of_bounded_size() -> None:
    views: Values = {(f"view{number}",): float(number) for number in range(500)}
    family = Family("view_threads", FigureKind.GAUGE, "", ("view",), views)
    datagrams = StatsD("djserve").datagrams([family])

    assert len(datagrams) > 5
    assert all(PAYLOAD * 0.9 < len(data) <= PAYLOAD for data in datagrams[:-1])
    told = b"\n".join(datagrams).decode().split("\n")
    assert len(told) == 500
    assert all(re.fullmatch(r"djserve\.view_threads\.view\d+:\d+\|g", x) for x in told)
