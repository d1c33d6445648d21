"""What the load tools print, and which of it must not count."""

from __future__ import annotations

import pytest

from benchmarks import postgresql
from benchmarks.loads import (
    parse_h2load,
    parse_percentile,
    parse_wrk,
    require_tool,
    require_tools,
)
from benchmarks.processes import BenchmarkError

WRK = """\
Running 1s test @ http://127.0.0.1:18999/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.06ms  596.63us   7.95ms   86.53%
    Req/Sec    31.28k     7.13k   47.83k    70.00%
  93362 requests in 3.01s, 11.75MB read
{}Requests/sec:  31062.34
Transfer/sec:      3.91MB
"""

H2LOAD = """\
spawning thread #0: 8 total client(s). Timing-based test with 1s of warm-up time
Application protocol: {protocol}
finished in 3.00s, 1600.00 req/s, 68.69KB/s
requests: 3200 total, 3200 started, 3200 done, 3200 succeeded, {failed} failed, \
0 errored, 0 timeout
status codes: 3194 2xx, 0 3xx, 0 4xx, {errors} 5xx
"""


def test_wrk_gives_requests_a_second() -> None:
    assert parse_wrk(WRK.format("")) == 31062.34


@pytest.mark.parametrize(
    "line",
    [
        "  Non-2xx or 3xx responses: 1\n",
        "  Socket errors: connect 0, read 90, write 0, timeout 9\n",
    ],
    ids=["status", "socket"],
)
def test_wrk_with_errors_is_no_figure(line: str) -> None:
    with pytest.raises(BenchmarkError):
        parse_wrk(WRK.format(line))


def test_single_socket_error_among_many_requests_is_let_pass() -> None:
    line = "  Socket errors: connect 0, read 3, write 0, timeout 0\n"

    assert parse_wrk(WRK.format(line)) == 31062.34


def test_wrk_without_requests_is_no_figure() -> None:
    with pytest.raises(BenchmarkError, match="no request"):
        parse_wrk("  0 requests in 1.00s, 0.00B read\nRequests/sec:      0.00\n")


def test_h2load_gives_requests_a_second() -> None:
    assert parse_h2load(H2LOAD.format(protocol="h2", failed=0, errors=0)) == 1600


@pytest.mark.parametrize(
    ("protocol", "failed", "errors"),
    [("http/1.1", 0, 0), ("h2", 128 + 61, 0), ("h2", 0, 61)],
    ids=["not HTTP/2", "failed", "status"],
)
def test_h2load_with_errors_is_no_figure(
    protocol: str, failed: int, errors: int
) -> None:
    with pytest.raises(BenchmarkError):
        parse_h2load(H2LOAD.format(protocol=protocol, failed=failed, errors=errors))


def test_requests_that_h2load_cuts_off_at_its_end_are_let_pass() -> None:
    assert parse_h2load(H2LOAD.format(protocol="h2", failed=128, errors=0)) == 1600


def test_h2load_without_an_answer_is_no_figure() -> None:
    output = H2LOAD.format(protocol="h2", failed=0, errors=0).replace("1600.00", "0.00")

    with pytest.raises(BenchmarkError, match="no request was answered"):
        parse_h2load(output)


def test_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(BenchmarkError, match="apt-get install nghttp2-client"):
        require_tool("h2load")


def test_missing_tools_are_named_with_those_that_want_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgresql, "find_program", lambda name: None)

    with pytest.raises(BenchmarkError) as caught:
        require_tools({"wrk": ["a"], "initdb": ["b", "c", "d"]})
    assert str(caught.value).splitlines() == [
        "wrk is missing: apt-get install wrk (wanted by a)",
        "initdb is missing: apt-get install postgresql (wanted by b and 2 more)",
    ]


def test_tools_that_are_there_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "find_program", lambda name: f"/bin/{name}")

    require_tools({"wrk": ["a"], "initdb": ["b"]})


@pytest.mark.parametrize(
    ("printed", "milliseconds"),
    [("793.00us", 0.793), ("12.34ms", 12.34), ("1.79s ", 1790)],
)
def test_percentile_of_wrk_is_in_milliseconds(
    printed: str, milliseconds: float
) -> None:
    output = f"  Latency Distribution\n     90%    1.00ms\n     99%   {printed}\n"

    assert parse_percentile(output) == pytest.approx(milliseconds)


def test_output_without_a_percentile_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="no percentile"):
        parse_percentile(WRK)
