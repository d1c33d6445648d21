"""The table of streams: calls beyond the limit, resets, late heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from djserve.protocols.http3 import frames
from djserve.protocols.http3.errors import ErrorCode

if TYPE_CHECKING:
    from tests.protocols.http3.conftest import Wire


def test_calls_that_outlive_their_stream_count(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_call_limit=2)
    for stream_id in (0, 4):
        wire.feed(stream_id, wire.headers(), end=True)
        wire.connection.stream_reset(stream_id, 0)
        wire.requests[-1].is_running = True
    wire.feed(8, wire.headers(), end=True)

    assert wire.transport.resets[8] == ErrorCode.REQUEST_REJECTED
    assert len(wire.requests) == 2
    wire.requests[0].is_running = False
    wire.feed(12, wire.headers(), end=True)
    assert len(wire.requests) == 3


def test_many_resets_end_the_connection(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_reset_limit=3)
    for stream_id in range(0, 16, 4):
        assert wire.transport.closed is None
        wire.feed(stream_id, wire.headers(), end=True)
        wire.connection.stream_reset(stream_id, 0)

    assert wire.transport.closed == ErrorCode.EXCESSIVE_LOAD


def test_frames_without_effect_are_counted(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_control_frame_limit=20)
    wire.feed(0, wire.headers())
    wire.feed(0, frames.encode_frame(frames.DATA, b"") * 30)

    assert wire.transport.closed == ErrorCode.EXCESSIVE_LOAD


@pytest.mark.parametrize("has_sessions", [True, False])
def test_stream_that_is_reset_before_it_begins_is_over(
    open_wire: type[Wire], has_sessions: bool
) -> None:
    wire = open_wire(has_sessions=has_sessions)
    wire.connection.stream_reset(0, 0)
    wire.feed(4, wire.headers()[:1])
    wire.connection.stream_reset(4, 0)

    code = ErrorCode.REQUEST_CANCELLED
    assert wire.transport.resets == {0: code, 4: code}
    assert {0, 4} <= set(wire.transport.forgotten)


def test_many_resets_of_nothing_end_the_connection(open_wire: type[Wire]) -> None:
    # One is for SETTINGS.
    wire = open_wire(http2_control_frame_limit=4)
    for stream_id in range(0, 16, 4):
        assert wire.transport.closed is None
        wire.connection.stream_reset(stream_id, 0)

    assert wire.transport.closed == ErrorCode.EXCESSIVE_LOAD


def test_late_head_is_reset(open_wire: type[Wire]) -> None:
    wire = open_wire(header_timeout=5.0)
    wire.feed(0, wire.headers()[:-1])
    for now in (0.0, 4.0):
        wire.connection.tick(now)
    assert not wire.transport.resets
    wire.connection.tick(5.0)

    assert wire.transport.resets == {0: ErrorCode.EXCESSIVE_LOAD}
    assert wire.transport.closed is None


def test_those_that_wait_are_told_of_room(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers(), end=True)
    request = wire.requests[0]
    wire.transport.waiting[0] = 1 << 20
    request.stream.send_response(200, [], b"x", more=True)
    wire.connection.bytes_sent()
    assert (request.stream.is_writable, request.resumed) == (False, 0)
    wire.transport.waiting[0] = 0
    wire.connection.bytes_sent()

    assert (request.stream.is_writable, request.resumed) == (True, 1)


def update(stream_id: int, value: bytes) -> bytes:
    payload = frames.encode_integer(stream_id) + value
    return frames.encode_frame(frames.PRIORITY_UPDATE, payload)


def test_priorities_come_by_field_and_by_frame(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers((b"priority", b"u=1, i")), end=True)
    wire.feed(4, wire.headers(), end=True)
    assert wire.transport.priorities == {0: (1, True)}
    wire.feed(2, update(4, b"u=0") + update(0, b"u=7"))

    assert wire.transport.priorities == {0: (7, False), 4: (0, False)}


def test_frame_ahead_of_its_request_counts_more_than_the_field(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.feed(2, update(0, b"u=5") + update(8, b"u=6"))
    data = wire.headers((b"priority", b"u=1"))
    wire.feed(0, data[:-1])
    wire.feed(0, data[-1:], end=True)
    assert wire.transport.priorities == {0: (5, False)}
    wire.requests[0].answer()
    wire.feed(2, update(0, b"u=2"))

    assert wire.transport.priorities == {0: (5, False)}


def test_frames_ahead_of_requests_are_bounded(open_wire: type[Wire]) -> None:
    wire = open_wire()
    for number in range(40):
        wire.feed(2, update(4 * number, b"u=1"))
    for number in range(40):
        wire.feed(4 * number, wire.headers(), end=True)

    assert len(wire.transport.priorities) == 32
