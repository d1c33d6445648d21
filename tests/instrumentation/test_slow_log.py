from __future__ import annotations

import pytest

from djserve.instrumentation.events import RequestRecord
from djserve.instrumentation.slow_log import SlowLog
from djserve.interfaces import Headers, RequestHead
from tests.support.logs import own_records


def make_record(
    duration: float, *, status: int = 200, headers: Headers | None = None
) -> RequestRecord:
    head = RequestHead("GET", b"/report", b"year=1", headers or [], "1.1")
    return RequestRecord(head, None, "http", status=status, duration=duration)


def test_request_that_took_the_limit_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    SlowLog(1.5).request_finished(make_record(1.5))

    (record,) = own_records(caplog)
    assert (record.name, record.levelname) == ("djserve.slow", "WARNING")
    assert record.message == "GET /report?year=1 took 1.500 seconds (status 200)"


def test_fast_request_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    SlowLog(1.5).request_finished(make_record(1.499))

    assert own_records(caplog) == []


def test_request_without_a_response_has_no_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    SlowLog(1).request_finished(make_record(2, status=0))

    assert own_records(caplog)[0].message.endswith("(status -)")


def test_request_id_is_told(caplog: pytest.LogCaptureFixture) -> None:
    SlowLog(1).request_finished(make_record(2, headers=[(b"x-request-id", b"ab-1")]))

    assert own_records(caplog)[0].message.endswith("(status 200, request ab-1)")


def test_peer_cannot_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    record = make_record(2)
    record.head.raw_path = b"/\x1b[2J\nforged"
    SlowLog(1).request_finished(record)

    assert "/\\x1b[2J\\x0aforged" in own_records(caplog)[0].message


@pytest.mark.parametrize(
    "event",
    [
        "websocket_connecting",
        "websocket_accepted",
        "websocket_rejected",
        "websocket_closed",
    ],
)
def test_websocket_may_last(event: str, caplog: pytest.LogCaptureFixture) -> None:
    getattr(SlowLog(1), event)(make_record(3600, status=1000))

    assert own_records(caplog) == []


def test_trace_is_told(caplog: pytest.LogCaptureFixture) -> None:
    record = make_record(2)
    record.trace_id = "0af7"
    SlowLog(1).request_finished(record)

    assert own_records(caplog)[0].message.endswith("(status 200, trace 0af7)")
