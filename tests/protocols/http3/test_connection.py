"""HTTP/3 connections: requests and responses, drain, idle end, critical streams."""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import pytest

from djserve.protocols.http3 import frames
from djserve.protocols.http3.errors import ErrorCode
from tests.protocols.http3.cases import CASES, GREETING, Case, Sent

if TYPE_CHECKING:
    from tests.protocols.http3.conftest import Wire

FIRST_GOAWAY = frames.encode_frame(frames.GOAWAY, frames.encode_integer((1 << 62) - 4))


def test_server_begins_with_settings(open_wire: type[Wire]) -> None:
    data = open_wire(greet=False).transport.written[3]
    kind, _ = frames.read_integer(data, 1) or (0, 0)

    assert (data[0], kind) == (frames.CONTROL_STREAM, frames.SETTINGS)
    assert frames.parse_settings(data[3:])[frames.ENABLE_CONNECT_PROTOCOL] == 1


def test_request_is_answered(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers((b"x", b"y"), path=b"/p?q=1"), end=True)
    request = wire.requests[0]
    request.answer()
    head, content = wire.response(0)

    assert (request.head.method, request.head.raw_path) == ("GET", b"/p")
    assert request.head.http_version == "3"
    assert request.head.headers == [(b"host", b"a"), (b"x", b"y")]
    assert (request.is_complete, request.head.has_body) == (True, False)
    assert (head[b":status"], head[b"content-length"], content) == (b"200", b"2", b"ok")
    assert 0 in wire.transport.ended
    assert wire.transport.forgotten == [0]


def test_drain_goes_in_two_steps(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers(), end=True)
    wire.connection.retire()
    wire.connection.drain()

    assert wire.transport.written[3].endswith(FIRST_GOAWAY)
    # What crosses with it is taken.
    wire.feed(4, wire.headers(), end=True)
    wire.connection.ping_acknowledged()
    last = frames.encode_frame(frames.GOAWAY, b"\x08")
    assert wire.transport.written[3].endswith(last)
    wire.feed(8, wire.headers(), end=True)
    assert wire.transport.resets == {8: ErrorCode.REQUEST_REJECTED}
    for request in wire.requests:
        assert request.is_draining
        request.answer()
    wire.transport.unacknowledged_size = 1
    wire.run_soon()
    assert wire.transport.closed is None
    wire.transport.unacknowledged_size = 0
    wire.connection.batch_received()
    assert wire.transport.closed == ErrorCode.NO_ERROR


def test_idle_connection_ends(open_wire: type[Wire]) -> None:
    wire = open_wire(keep_alive_timeout=5.0, header_timeout=60.0)
    wire.feed(0, wire.headers(), end=True)
    wire.requests[0].answer()
    for now in (0.0, 4.0):
        wire.connection.tick(now)
    assert wire.connection.idle_since == (True, 0.0)
    wire.connection.tick(5.0)
    wire.run_soon()

    assert wire.transport.closed == ErrorCode.NO_ERROR


@pytest.mark.parametrize("stream_id", [2, 3])
def test_critical_stream_may_not_end(open_wire: type[Wire], stream_id: int) -> None:
    wire = open_wire()
    if stream_id == 2:
        wire.connection.stream_reset(2, 0)
    else:
        wire.connection.stream_stopped(3, 0)

    assert wire.transport.closed == ErrorCode.CLOSED_CRITICAL_STREAM


def test_stream_without_meaning_gives_its_credit_back(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(6, b"\x21ignored")
    wire.connection.stream_reset(6, 0)

    assert wire.transport.forgotten == [6]
    assert wire.transport.closed is None


def test_loss_is_told_once(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers(), end=True)
    wire.connection.connection_lost(None)
    wire.connection.connection_lost(None)

    assert wire.is_lost
    assert wire.requests[0].is_lost


def test_idle_one_gives_way(open_wire: type[Wire]) -> None:
    wire = open_wire()
    assert not wire.connection.give_way()
    wire.connection.tick(0.0)
    assert wire.connection.give_way()
    wire.run_soon()
    assert wire.transport.closed == ErrorCode.NO_ERROR


def test_abort_drops_it(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.connection.abort_transport()

    assert wire.transport.is_aborted


def serve(wire: Wire) -> tuple[str, int]:
    """Answer what has come whole; return what has become of a case."""
    for each in wire.requests:
        if each.is_complete and not each.is_lost:
            each.answer()
    wire.run_soon()
    if wire.transport.closed is not None:
        return ("connection", wire.transport.closed)
    for code in wire.transport.resets.values():
        return ("stream", code)
    return ("status", int(wire.response(0)[0][b":status"]))


def send(wire: Wire, sent: Sent, size: int, *, in_turns: bool) -> None:
    """Send each stream in pieces: one after the other, or all of them by turns."""
    pieces = [
        [
            (stream_id, data[at : at + size], is_last and at + size >= len(data))
            for at in range(0, max(1, len(data)), size)
        ]
        for stream_id, data, is_last in sent
    ]
    if in_turns:
        turns = zip_longest(*reversed(pieces))
        pieces = [[piece for piece in turn if piece is not None] for turn in turns]
    for stream_id, data, is_last in chain(*pieces):
        if wire.transport.closed is None:
            wire.feed(stream_id, data, is_last)


@pytest.mark.parametrize("in_turns", [False, True], ids=["in order", "by turns"])
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_client(case: Case, size: int, in_turns: bool, open_wire: type[Wire]) -> None:
    wire = open_wire(greet=False, header_size_limit=600)
    sent = case.sent(wire)
    if not any(stream_id == 2 for stream_id, *_ in sent):
        sent = [(2, GREETING, False), *sent]
    send(wire, sent, size, in_turns=in_turns)

    assert serve(wire) == case.expected
