"""Streams and datagrams to their session: whose they are, when, and until when."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from djserve.errors import ApplicationError
from djserve.protocols.http3 import frames
from djserve.protocols.http3.capsules import encode_close
from djserve.protocols.http3.errors import ErrorCode
from djserve.protocols.http3.sessions import (
    BUFFERED_STREAM_REJECTED,
    DATAGRAM_SIZE_LIMIT,
    EARLY_STREAM_LIMIT,
    SESSION_GONE,
    STOPPED_LIMIT,
    decode_code,
    encode_code,
)

if TYPE_CHECKING:
    from tests.protocols.http3.conftest import Wire

BOTH_WAYS = frames.encode_integer(frames.WEBTRANSPORT_BIDIRECTIONAL)
ONE_WAY = frames.encode_integer(frames.WEBTRANSPORT_STREAM)
SESSION = b"\0"


class Observer:
    """Who gets what comes (interfaces.WebTransportObserver)."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.ended: list[int] = []
        self.takes_streams = True

    def stream_received(self, *event: Any) -> None:
        self.events.append(event)

    def stream_reset(self, *event: Any) -> None:
        self.events.append(("reset", *event))

    def stream_stopped(self, *event: Any) -> None:
        self.events.append(("stopped", *event))

    def stream_writable(self, *event: Any) -> None:
        self.events.append(("writable", *event))

    def stream_ended(self, stream_id: int) -> None:
        self.ended.append(stream_id)

    def datagram_received(self, data: bytes) -> None:
        self.events.append((data,))

    def closed(self, *event: Any) -> None:
        self.events.append(("closed", *event))


def connect(wire: Wire) -> None:
    wire.feed(0, wire.headers(method=b"CONNECT", protocol=b"webtransport"))


def accept(wire: Wire) -> tuple[Any, Observer]:
    observer = Observer()
    stream: Any = wire.requests[0].stream
    session = stream.open_session([(b"x", b"y")], observer)
    wire.run_soon()
    return session, observer


@pytest.fixture
def wire(open_wire: type[Wire]) -> Wire:
    wire = open_wire(has_sessions=True)
    connect(wire)
    return wire


def test_session_needs_the_setting(open_wire: type[Wire]) -> None:
    wire = open_wire()
    connect(wire)

    assert wire.response(0)[0][b":status"] == b"501"


def test_acceptance_names_the_draft(wire: Wire) -> None:
    accept(wire)

    head, _ = wire.response(0)
    assert head[b":status"] == b"200"
    assert (head[b"x"], head[b"sec-webtransport-http3-draft"]) == (b"y", b"draft02")


@pytest.mark.parametrize("size", [1, 2, 100])
def test_streams_come_in_any_pieces(wire: Wire, size: int) -> None:
    _, observer = accept(wire)
    for stream_id, start in ((4, BOTH_WAYS), (6, ONE_WAY)):
        data = start + SESSION + b"content"
        for at in range(0, len(data), size):
            wire.feed(stream_id, data[at : at + size], at + size >= len(data))

    for stream_id in (4, 6):
        got = [event for event in observer.events if event[0] == stream_id]
        assert b"".join(data for _, data, _ in got) == b"content"
        assert [is_last for *_, is_last in got] == [False] * (len(got) - 1) + [True]


def test_requests_and_control_streams_are_told_apart(wire: Wire) -> None:
    accept(wire)
    head = wire.headers()
    for at in range(len(head)):
        wire.feed(4, head[at : at + 1], at + 1 == len(head))
    wire.feed(2, frames.encode_frame(frames.GOAWAY, b"\0"))

    assert [request.head.method for request in wire.requests] == ["CONNECT", "GET"]
    assert wire.transport.closed is None


def test_early_streams_wait_for_their_session(wire: Wire) -> None:
    wire.feed(4, BOTH_WAYS + SESSION + b"early ")
    wire.feed(4, b"bird", end=True)
    _, observer = accept(wire)

    assert observer.events == [(4, b"early bird", True)]
    # Only what says whose it is has been given credit for.
    assert wire.transport.credit[4] == len(BOTH_WAYS + SESSION)


def test_early_streams_are_few(wire: Wire) -> None:
    for number in range(EARLY_STREAM_LIMIT + 1):
        wire.feed(4 + 4 * number, BOTH_WAYS + SESSION)

    last = 4 + 4 * EARLY_STREAM_LIMIT
    code = BUFFERED_STREAM_REJECTED
    assert (wire.transport.resets, wire.transport.stops) == ({last: code}, {last: code})


def test_streams_that_nobody_would_see_are_refused(wire: Wire) -> None:
    _, observer = accept(wire)
    wire.feed(4, BOTH_WAYS + SESSION + b"x")
    observer.takes_streams = False
    wire.feed(4, b"y")
    wire.feed(8, BOTH_WAYS + SESSION + b"x")

    assert observer.events == [(4, b"x", False), (4, b"y", False)]
    code = BUFFERED_STREAM_REJECTED
    assert (wire.transport.resets, wire.transport.stops) == ({8: code}, {8: code})
    assert wire.transport.forgotten == [8]


def test_early_streams_of_a_refused_session_are_refused(wire: Wire) -> None:
    wire.feed(6, ONE_WAY + SESSION + b"x")
    wire.requests[0].stream.send_response(403, [], b"", more=False)
    wire.feed(0, b"", end=True)

    code = BUFFERED_STREAM_REJECTED
    assert wire.transport.stops == {6: code}


@pytest.mark.parametrize("has_ended", [True, False])
@pytest.mark.parametrize("owner", [0, 4, 8])
def test_streams_of_what_is_no_session_are_refused(
    wire: Wire, owner: int, has_ended: bool
) -> None:
    """A session that is over, a request that is, and the stream itself."""
    session, _ = accept(wire)
    session.close(0, "")
    if has_ended:
        wire.feed(0, b"", end=True)
    wire.feed(4, wire.headers(), end=True)
    wire.requests[1].answer()
    number = frames.encode_integer(owner)
    for stream_id in range(8, 8 + 8 * EARLY_STREAM_LIMIT, 4):
        wire.feed(stream_id, BOTH_WAYS + number + b"x", end=stream_id % 8 == 0)
        if owner == 8:
            break

    assert set(wire.transport.stops.values()) == {SESSION_GONE}
    assert set(wire.transport.resets.values()) == {SESSION_GONE}
    assert stream_id in wire.transport.forgotten
    assert wire.connection.held_size == 0


def test_streams_wait_for_a_request_that_has_not_come(wire: Wire) -> None:
    wire.feed(8, BOTH_WAYS + b"\x04early", end=True)
    assert not wire.transport.stops
    head = wire.headers(method=b"CONNECT", protocol=b"webtransport")
    wire.feed(4, head[:1])
    wire.feed(12, BOTH_WAYS + b"\x04bird", end=True)
    wire.feed(4, head[1:])
    observer = Observer()
    wire.requests[1].stream.open_session([], observer)  # type: ignore[attr-defined]
    wire.run_soon()

    assert observer.events == [(8, b"early", True), (12, b"bird", True)]


def test_many_small_early_parts_take_little(wire: Wire) -> None:
    wire.feed(4, BOTH_WAYS + SESSION)
    tracemalloc.start()
    for _ in range(10_000):
        wire.feed(4, b"x")
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert wire.connection.held_size == 10_000
    assert size < 100_000


@pytest.mark.parametrize("is_accepted", [True, False])
@pytest.mark.parametrize("part", [b"", BOTH_WAYS[:1], BOTH_WAYS + SESSION + b"x"])
def test_stop_that_comes_first_waits(
    wire: Wire, is_accepted: bool, part: bytes
) -> None:
    if is_accepted:
        session, observer = accept(wire)
    if part:
        wire.feed(4, part)
    wire.connection.stream_stopped(4, encode_code(7))
    wire.feed(4, (BOTH_WAYS + SESSION + b"xy")[len(part) :], end=True)
    if not is_accepted:
        session, observer = accept(wire)
    session.send(4, b"dropped", False)

    data = b"".join(data for *_, data, _ in observer.events if isinstance(data, bytes))
    assert data == b"xy"
    assert ("stopped", 4, 7) in observer.events
    assert 4 not in wire.transport.written


def test_request_that_is_stopped_first_is_not_made(wire: Wire) -> None:
    wire.connection.stream_stopped(4, 0)
    wire.feed(4, wire.headers(), end=True)

    assert len(wire.requests) == 1
    assert wire.transport.resets == {4: ErrorCode.REQUEST_CANCELLED}
    assert wire.transport.forgotten == [4]


def test_early_stream_that_is_reset_ends_on_both_sides(wire: Wire) -> None:
    wire.feed(4, BOTH_WAYS + SESSION + b"x")
    wire.connection.stream_stopped(4, 0)
    wire.connection.stream_reset(4, 9)
    _, observer = accept(wire)

    assert wire.transport.resets == {4: 9}
    assert wire.transport.forgotten == [4]
    assert not observer.events


def test_session_that_is_not_accepted_after_all_has_no_streams(wire: Wire) -> None:
    stream: Any = wire.requests[0].stream
    with pytest.raises(ApplicationError):
        stream.open_session([(b"x", b"a\r\nb")], Observer())
    stream.send_response(500, [], b"", more=False)
    wire.feed(4, BOTH_WAYS + SESSION + b"x")
    wire.feed(6, ONE_WAY + SESSION + b"x")

    assert wire.transport.stops == {4: SESSION_GONE, 6: SESSION_GONE}


def test_stream_of_no_possible_session_ends_the_connection(wire: Wire) -> None:
    wire.feed(4, BOTH_WAYS + b"\x02")

    assert wire.transport.closed == ErrorCode.ID_ERROR


def test_datagrams_reach_their_session_alone(wire: Wire) -> None:
    session, observer = accept(wire)
    wire.connection.datagram_received(b"\0hello")
    wire.connection.datagram_received(b"\x07another's")
    session.send_datagram(b"x" * DATAGRAM_SIZE_LIMIT)
    with pytest.raises(ApplicationError, match="at most 1100 bytes, not 1101"):
        session.send_datagram(b"x" * (DATAGRAM_SIZE_LIMIT + 1))

    assert observer.events == [(b"hello",)]
    assert wire.transport.datagrams == [b"\0" + b"x" * DATAGRAM_SIZE_LIMIT]


@pytest.mark.parametrize("data", [b"", b"\x40", b"\xd0" + b"\0" * 7])
def test_datagram_of_no_stream_ends_the_connection(wire: Wire, data: bytes) -> None:
    wire.connection.datagram_received(data)

    assert wire.transport.closed == ErrorCode.DATAGRAM_ERROR


def test_our_streams_begin_with_their_session(wire: Wire) -> None:
    session, observer = accept(wire)
    both, alone = session.open_stream(False), session.open_stream(True)
    session.send(both, b"a", False)
    session.send(alone, b"b", True)
    wire.feed(both, b"answer")
    with pytest.raises(ApplicationError, match="cannot be sent on"):
        session.send(alone, b"more", False)

    assert wire.transport.written[both] == BOTH_WAYS + SESSION + b"a"
    assert wire.transport.written[alone] == ONE_WAY + SESSION + b"b"
    assert alone in wire.transport.ended
    assert observer.events == [(both, b"answer", False)]


def test_full_stream_is_writable_again_once(wire: Wire) -> None:
    session, observer = accept(wire)
    stream_id = session.open_stream(True)
    wire.transport.waiting[stream_id] = 1 << 20
    session.send(stream_id, b"x", False)
    wire.connection.bytes_sent()
    assert not session.is_writable(stream_id)
    wire.transport.waiting.clear()
    wire.connection.bytes_sent()
    wire.connection.bytes_sent()

    assert observer.events == [("writable", stream_id)]


def test_stream_that_may_not_begin_is_waited_for(wire: Wire) -> None:
    session, observer = accept(wire)
    stream_id = session.open_stream(True)
    wire.transport.blocked.add(stream_id)
    session.send(stream_id, b"x", True)
    wire.connection.bytes_sent()
    assert not session.is_writable(stream_id)
    wire.transport.blocked.clear()
    wire.connection.bytes_sent()

    assert observer.events == [("writable", stream_id)]


def test_end_of_a_full_stream_is_waited_for_and_told(wire: Wire) -> None:
    session, observer = accept(wire)
    ended, broken = session.open_stream(True), session.open_stream(True)
    wire.transport.waiting |= {ended: 1 << 20, broken: 1 << 20}
    session.send(ended, b"x", True)
    session.send(broken, b"x", False)
    session.reset_stream(broken, 0)
    assert not observer.events
    wire.transport.waiting.clear()
    wire.connection.bytes_sent()

    assert sorted(observer.events) == [("writable", ended), ("writable", broken)]


def test_stream_is_over_when_all_of_it_is_taken(wire: Wire) -> None:
    session, observer = accept(wire)
    wire.feed(4, BOTH_WAYS + SESSION + b"abc", end=True)
    wire.feed(6, ONE_WAY + SESSION + b"de", end=True)
    session.send(4, b"answer", True)
    assert not observer.ended
    session.consumed(6, 2, True)
    session.consumed(4, 3, True)
    session.send(session.open_stream(True), b"x", True)
    broken = session.open_stream(False)
    session.reset_stream(broken, 0)
    wire.connection.stream_reset(broken, 0)
    assert observer.ended == [6, 4, 7]
    session.consumed(broken, 0, True)

    assert observer.ended == [6, 4, 7, broken]
    assert wire.transport.credit[4] == len(BOTH_WAYS + SESSION + b"abc")


def test_reset_gives_credit_for_what_is_never_taken(wire: Wire) -> None:
    _, observer = accept(wire)
    wire.feed(4, BOTH_WAYS + SESSION + b"unread")
    wire.connection.stream_reset(4, 0)

    assert wire.transport.forgotten == [4]
    assert observer.events[-1] == ("reset", 4, 0)


def test_what_is_sent_on_a_stopped_stream_is_dropped(wire: Wire) -> None:
    session, observer = accept(wire)
    for stream_id in (4, 8):
        wire.feed(stream_id, BOTH_WAYS + SESSION, end=True)
        session.consumed(stream_id, 0, True)
        for _ in range(3):
            wire.connection.stream_stopped(stream_id, encode_code(1))
    stops = [event for event in observer.events if event[0] == "stopped"]
    assert stops == [("stopped", 4, 1), ("stopped", 8, 1)]
    session.send(4, b"x", False)
    session.send(4, b"x", True)
    session.reset_stream(8, 0)

    assert 4 not in wire.transport.written
    assert observer.ended == [4, 8]
    with pytest.raises(ApplicationError, match="cannot be sent on"):
        session.send(4, b"x", False)


def test_few_stopped_streams_are_remembered(wire: Wire) -> None:
    session, observer = accept(wire)
    for number in range(STOPPED_LIMIT + 1):
        stream_id = session.open_stream(True)
        wire.connection.stream_stopped(stream_id, 0)
        assert len(observer.ended) == max(0, number + 1 - STOPPED_LIMIT)


def test_streams_of_others_are_left_alone(wire: Wire) -> None:
    session, _ = accept(wire)
    wire.feed(4, wire.headers(), end=True)
    for stream_id in (0, 3, 4, 100):
        session.reset_stream(stream_id, 0)
        session.stop_stream(stream_id, 0)
        with pytest.raises(ApplicationError, match="cannot be sent on"):
            session.send(stream_id, b"x", True)

    assert not wire.transport.resets
    assert not wire.transport.stops


def test_resets_and_stops_have_the_applications_codes(wire: Wire) -> None:
    session, observer = accept(wire)
    wire.feed(4, BOTH_WAYS + SESSION)
    session.reset_stream(4, 5)
    session.stop_stream(4, 6)
    wire.connection.stream_reset(4, encode_code(7))
    wire.feed(8, BOTH_WAYS + SESSION)
    wire.connection.stream_stopped(8, encode_code(8))

    assert wire.transport.resets == {4: encode_code(5)}
    assert wire.transport.stops == {4: encode_code(6)}
    assert ("reset", 4, 7) in observer.events
    assert ("stopped", 8, 8) in observer.events


@pytest.mark.parametrize("end", [b"capsule", b"", b"malformed", b"lost"])
def test_end_takes_all_streams_along(wire: Wire, end: bytes) -> None:
    session, observer = accept(wire)
    wire.feed(4, BOTH_WAYS + SESSION)
    ours = session.open_stream(True)
    if end == b"lost":
        wire.connection.connection_lost(None)
    elif end == b"malformed":
        wire.feed(0, frames.encode_frame(frames.DATA, b"\x68\x43\x01x"))
        wire.run_soon()
    else:
        capsule = encode_close(9, "bye") if end else b""
        data = frames.encode_frame(frames.DATA, capsule) if end else b""
        wire.feed(0, data, end=True)
    wire.connection.datagram_received(b"\0late")

    closed = {b"capsule": (9, "bye"), b"": (0, "")}.get(end, (None, ""))
    assert observer.events[-1] == ("closed", *closed)
    gone = SESSION_GONE
    assert {4, ours} <= {
        id for id, code in wire.transport.resets.items() if code == gone
    }
    assert wire.transport.stops[4] == gone


@pytest.mark.parametrize("has_session", [True, False])
def test_our_stream_may_be_stopped_after_its_end(wire: Wire, has_session: bool) -> None:
    session, _ = accept(wire)
    ours = session.open_stream(True)
    session.send(ours, b"x", True)
    if not has_session:
        session.close(0, "")
    # What was sent is on its way, and the peer has seen no end yet.
    wire.connection.stream_stopped(ours, 0)

    assert wire.transport.closed is None
    wire.connection.stream_stopped(3, 0)
    assert wire.transport.closed == ErrorCode.CLOSED_CRITICAL_STREAM


def test_our_end_is_said_and_told_once(wire: Wire) -> None:
    session, observer = accept(wire)
    session.close(7, "done")
    session.close(8, "again")
    wire.feed(0, b"", end=True)

    assert wire.response(0)[1] == encode_close(7, "done")
    assert 0 in wire.transport.ended
    assert observer.events == [("closed", 7, "done")]


def test_drain_ends_sessions(wire: Wire) -> None:
    _, observer = accept(wire)
    wire.connection.drain()

    assert observer.events == [("closed", 0, "The server is stopping")]


@pytest.mark.parametrize("code", [0, 1, 0x1D, 0x1E, 0x1F, 1 << 20, (1 << 32) - 1])
def test_codes_avoid_reserved_ones_and_come_back(code: int) -> None:
    # The draft's own formula.
    assert encode_code(code) == 0x52E4A40FA8DB + code + code // 0x1E
    assert (encode_code(code) - 0x21) % 0x1F != 0
    assert decode_code(encode_code(code)) == code


@pytest.mark.parametrize("code", [0, 0x10C, 0x52E4A40FA8F9, 0x52E5AC983163])
def test_other_codes_stand_for_none(code: int) -> None:
    assert decode_code(code) == 0
