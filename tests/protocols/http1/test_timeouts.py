"""Timeouts of a connection, on a clock that the test turns."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.protocols.http1.conftest import Request, Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"


def answer(request: Request) -> None:
    request.answer()


def test_silent_connection_is_closed_without_a_response(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(header_timeout=10.0).tick(100.0, 109.9)
    assert not wire.is_closed()

    wire.tick(110.0)
    assert wire.transport.is_eof_written
    assert wire.take() == b""

    wire.tick(111.0, 112.9)
    assert not wire.transport.is_closing
    wire.tick(113.0)
    assert wire.transport.is_closing


def test_idle_connection_is_kept_for_the_keep_alive_timeout(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(header_timeout=1.0, keep_alive_timeout=5.0, on_start=answer)
    wire.feed(GET).tick(10.0, 14.9)
    assert not wire.is_closed()

    wire.tick(15.0)
    assert wire.statuses == [200]
    assert wire.transport.is_eof_written


def test_request_that_meets_the_keep_alive_timeout_is_answered(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(keep_alive_timeout=5.0, on_start=answer).feed(GET)
    wire.tick(10.0)
    wire.is_unread = True
    wire.tick(15.0)
    assert not wire.is_closed()

    wire.feed(GET)
    assert wire.statuses == [200, 200]
    assert wire.transport.data.count(b"connection: close\r\n") == 1
    assert wire.transport.is_eof_written


def test_what_is_no_request_puts_off_the_end_only_once(open_wire: type[Wire]) -> None:
    wire = open_wire(keep_alive_timeout=5.0, on_start=answer).feed(GET)
    wire.tick(10.0)
    wire.is_unread = True
    wire.tick(15.0)
    wire.feed(b"\r\n").tick(16.0)

    assert wire.is_closed()


def test_request_starts_the_keep_alive_timeout_again(open_wire: type[Wire]) -> None:
    wire = open_wire(keep_alive_timeout=5.0, on_start=answer)
    wire.feed(GET).tick(10.0, 14.0)
    wire.feed(GET).tick(14.5, 19.0)

    assert not wire.is_closed()


def test_late_head_is_refused(open_wire: type[Wire]) -> None:
    wire = open_wire(header_timeout=10.0).feed(GET[:-1]).tick(0.0, 9.9)
    assert not wire.is_closed()

    wire.tick(10.0)
    assert wire.statuses == [408]
    assert wire.is_closed()


def test_trickled_head_gets_no_more_time(open_wire: type[Wire]) -> None:
    wire = open_wire(header_timeout=10.0)
    for second in range(11):
        wire.feed(GET[2 * second : 2 * second + 2]).tick(float(second))

    assert wire.statuses == [408]
    assert wire.requests == []


def test_trickled_empty_lines_get_no_more_time(open_wire: type[Wire]) -> None:
    wire = open_wire(header_timeout=10.0)
    for second in range(11):
        wire.feed(b"\n\r" if second else b"\r").tick(float(second))

    assert wire.is_closed()


def test_head_has_its_own_time_after_an_idle_one(open_wire: type[Wire]) -> None:
    wire = open_wire(header_timeout=10.0, keep_alive_timeout=60.0, on_start=answer)
    wire.feed(GET).tick(0.0, 50.0)
    wire.feed(GET[:9]).tick(51.0, 60.9)
    assert not wire.is_closed()

    wire.tick(61.0)
    assert wire.statuses == [200, 408]


def test_head_behind_a_response_has_its_time_from_then_on(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(header_timeout=10.0).feed(GET + GET[:9]).tick(0.0, 100.0)
    wire.requests[0].answer()
    wire.tick(100.0, 109.9)
    assert wire.statuses == [200]

    wire.tick(110.0)
    assert wire.statuses == [200, 408]


def test_running_request_has_no_timeout(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(GET).tick(0.0, 1e6, 2e6)

    assert not wire.is_closed()
    assert wire.requests[0].events == [("tick", 0.0), ("tick", 1e6), ("tick", 2e6)]


def test_slow_content_is_refused(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=20.0, body_min_rate=100).feed(POST)
    for second in range(20):
        wire.feed(b"x" * 99).tick(float(second))
    assert wire.statuses == []

    wire.tick(20.0)
    assert wire.statuses == [408]
    assert wire.requests[0].is_lost


def test_content_at_the_least_rate_is_taken(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=20.0, body_min_rate=100).feed(POST).tick(0.0)
    for second in range(1, 100):
        wire.feed(b"x" * 100).tick(float(second))

    assert not wire.is_closed()


def test_fast_start_buys_no_time_for_later(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=20.0, body_min_rate=100).feed(POST).tick(0.0)
    wire.feed(b"x" * 50000).tick(20.0)
    assert not wire.is_closed()

    wire.tick(40.0)
    assert wire.statuses == [408]


def test_rate_of_nought_turns_the_check_off(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=20.0, body_min_rate=0).feed(POST).tick(0.0, 1e6)

    assert not wire.is_closed()


def test_slow_application_is_not_the_peers_fault(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=20.0, body_min_rate=100).feed(POST)
    wire.requests[0].stream.pause_reading()
    wire.tick(0.0, 100.0, 200.0)
    assert not wire.is_closed()

    wire.requests[0].stream.resume_reading()
    wire.tick(201.0, 219.0)
    assert not wire.is_closed()
    wire.tick(220.0)
    assert wire.statuses == [408]


def test_peer_that_awaits_continue_is_not_slow(open_wire: type[Wire]) -> None:
    head = POST.replace(b"Host", b"Expect: 100-continue\r\nHost")
    wire = open_wire(body_timeout=20.0, body_min_rate=100).feed(head)
    wire.tick(0.0, 100.0)
    assert not wire.is_closed()

    wire.requests[0].stream.request_content()
    wire.tick(101.0, 121.0)
    assert wire.statuses == [100, 408]


def test_slow_content_after_the_response_has_begun_closes(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(body_timeout=20.0, body_min_rate=100).feed(POST)
    wire.requests[0].stream.send_response(200, [], b"x", more=True)
    wire.tick(0.0, 20.0)

    assert wire.statuses == [200]
    assert wire.transport.is_closing


def test_slow_content_after_the_response_closes(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=20.0, body_min_rate=100, on_start=answer).feed(POST)
    wire.tick(0.0, 20.0)

    assert wire.statuses == [200]
    assert wire.transport.is_closing
    assert wire.refused == []


def test_stalled_peer_is_dropped(open_wire: type[Wire]) -> None:
    wire = open_wire(write_timeout=30.0).feed(GET)
    wire.requests[0].stream.send_response(200, [], b"x" * 1000, more=True)
    wire.transport.fill()
    wire.tick(0.0, 29.9)
    assert not wire.transport.is_aborted

    wire.tick(30.0)
    assert wire.is_reset
    assert wire.transport.is_aborted


def test_peer_that_reads_a_little_is_not_stalled(open_wire: type[Wire]) -> None:
    wire = open_wire(write_timeout=30.0).feed(GET)
    wire.requests[0].stream.send_response(200, [], b"x" * 1000, more=True)
    wire.transport.fill()
    for second in range(0, 200, 20):
        wire.transport.data = wire.transport.data[1:]
        wire.tick(float(second))

    assert not wire.transport.is_aborted


def test_pauses_with_the_same_buffer_are_told_apart(open_wire: type[Wire]) -> None:
    wire = open_wire(write_timeout=30.0).feed(GET)
    wire.requests[0].stream.send_response(200, [], b"x" * 1000, more=True)
    for second in range(0, 200, 20):
        wire.transport.fill()
        wire.tick(float(second))
        wire.transport.drain()

    assert not wire.transport.is_aborted


@pytest.mark.parametrize("ahead", [b"", GET, GET[:9]])
def test_slow_reader_of_the_last_response_is_left_to_the_write_timeout(
    open_wire: type[Wire], ahead: bytes
) -> None:
    wire = open_wire(header_timeout=1.0, keep_alive_timeout=1.0, write_timeout=30.0)
    wire.feed(GET + ahead)
    wire.transport.fill()
    wire.requests[0].answer()
    wire.tick(0.0, 29.0)
    assert not wire.is_closed()

    wire.tick(30.0)
    assert wire.transport.is_aborted
    assert wire.statuses == [200]


def test_lingering_ends(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(b"oops\r\n\r\n")
    assert wire.transport.is_eof_written

    for tenth in range(30):
        wire.feed(b"x" * 1000).tick(tenth / 10)
    assert wire.transport.is_closing


def test_stalled_peer_of_a_closing_connection_is_dropped(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(write_timeout=30.0, on_start=answer)
    wire.feed(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    wire.transport.fill()
    wire.tick(0.0, 30.0)

    assert wire.transport.is_aborted


def test_connection_that_has_ended_is_in_no_cycle(open_wire: type[Wire]) -> None:
    connection = open_wire(on_start=answer).feed(GET).tick(0.0).connection
    connection.connection_lost(None)
    own = "djserve.protocols.http1."
    parts = [
        part
        for part in gc.get_referents(connection)
        if type(part).__module__.startswith(own)
    ]

    assert len(parts) > 2
    assert not any(connection in gc.get_referents(part) for part in parts)


def idle_since(wire: Wire) -> tuple[bool, float] | None:
    """Ask anew: the type checker takes the property for unchanged."""
    return wire.connection.idle_since


def test_idle_connection_makes_room_for_others(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=answer)
    assert idle_since(wire) is None
    wire.tick(100.0)
    assert idle_since(wire) == (False, 100.0)
    wire.feed(GET)
    assert idle_since(wire) is None
    assert not wire.connection.give_way()

    wire.tick(107.0)
    assert idle_since(wire) == (True, 107.0)
    assert wire.connection.give_way()
    assert wire.is_closed()
    assert idle_since(wire) is None


@pytest.mark.parametrize("data", [GET, GET[:5], POST])
def test_connection_in_use_makes_no_room(open_wire: type[Wire], data: bytes) -> None:
    wire = open_wire().feed(data).tick(100.0, 101.0)

    assert idle_since(wire) is None
    assert not wire.connection.give_way()
    assert not wire.is_closed()
