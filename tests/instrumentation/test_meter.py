from __future__ import annotations

from djserve.instrumentation.board import Board, Field
from djserve.instrumentation.events import RequestRecord
from djserve.instrumentation.meter import Meter
from djserve.interfaces import RequestHead


def make_record(status: int, *, size: int = 0, duration: float = 0.0) -> RequestRecord:
    head = RequestHead("GET", b"/", b"", [], "1.1")
    return RequestRecord(head, None, "http", status, size, duration)


def test_requests_are_counted_with_size_and_duration(board: Board) -> None:
    meter = Meter(board)
    meter.request_finished(make_record(200, size=10, duration=0.25))
    meter.request_finished(make_record(404, size=5, duration=0.5))

    assert board.numbers[Field.REQUESTS] == 2
    assert board.numbers[Field.BYTES_SENT] == 15
    assert board.numbers[Field.DURATION_SUM] == 750_000_000
    assert board.requests() == {
        ("GET", 200, "HTTP/1.1"): 1,
        ("GET", 404, "HTTP/1.1"): 1,
    }


def test_each_request_is_in_one_bucket(board: Board) -> None:
    meter = Meter(board)
    for duration in (0.0001, 0.3, 0.4, 99.0):
        meter.request_finished(make_record(200, duration=duration))

    assert sorted(board.durations())[-3:] == [1, 1, 2]
    assert sum(board.durations()) == 4


def test_connecting_websocket_is_not_counted_yet(board: Board) -> None:
    before = board.numbers.tolist()
    Meter(board).websocket_connecting(make_record(0))

    assert board.numbers.tolist() == before


def test_open_websocket_is_counted_until_it_is_closed(board: Board) -> None:
    meter = Meter(board)
    meter.websocket_accepted(make_record(101))
    assert board.numbers[Field.WEBSOCKETS] == 1

    meter.websocket_closed(make_record(1000, duration=60.0))
    assert board.numbers[Field.WEBSOCKETS] == 0
    assert board.numbers[Field.WEBSOCKETS_TOTAL] == 1
    assert board.requests() == {("GET", 101, "HTTP/1.1"): 1}


def test_rejected_websocket_is_a_request(board: Board) -> None:
    Meter(board).websocket_rejected(make_record(403))

    assert board.requests() == {("GET", 403, "HTTP/1.1"): 1}
    assert board.numbers[Field.WEBSOCKETS_TOTAL] == 0
