"""An upgraded stream as a transport (RFC 8441)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from h2.errors import ErrorCodes

from djserve.protocols.http2 import frames
from tests.support.recorders import RecordingReceiver

if TYPE_CHECKING:
    from djserve.interfaces import Transport
    from tests.protocols.http2.conftest import Wire

CONNECT = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"https"),
    (b":authority", b"a"),
    (b":path", b"/chat"),
    (b"sec-websocket-version", b"13"),
]


def void(value: object) -> None:
    """Take a value that nobody wants."""


def upgrade(wire: Wire, receiver: RecordingReceiver, early: bytes = b"") -> Transport:
    wire.feed(wire.headers(1, end=False, base=CONNECT))
    if early:
        wire.feed(wire.data(1, early))
    transport = wire.requests[0].stream.upgrade([(b"x", b"y")], receiver)
    assert not receiver.data
    wire.turn()
    return transport


def test_upgrade_is_a_response_without_an_end(open_wire: type[Wire]) -> None:
    wire = open_wire()
    upgrade(wire, RecordingReceiver())

    assert wire.requests[0].head.upgrade == b"websocket"
    assert wire.requests[0].head.method == "CONNECT"
    assert wire.responses[1].head == {b":status": b"200", b"x": b"y"}
    assert not wire.responses[1].is_complete


def test_bytes_go_both_ways(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(), RecordingReceiver()
    transport = upgrade(wire, receiver)
    wire.feed(wire.data(1, b"ping"))
    transport.write(b"po")
    transport.write(b"ng")
    wire.turn()

    assert receiver.data == b"ping"
    assert wire.responses[1].content == b"pong"


def test_what_came_before_the_upgrade_is_delivered_later(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(), RecordingReceiver()
    upgrade(wire, receiver, early=b"hasty")

    assert receiver.data == b"hasty"


def test_many_tunnels_and_requests_share_a_connection(open_wire: type[Wire]) -> None:
    wire = open_wire()
    receivers = [RecordingReceiver() for _ in range(10)]
    for number, receiver in enumerate(receivers):
        stream_id = 2 * number + 1
        wire.feed(wire.headers(stream_id, end=False, base=CONNECT))
        wire.requests[-1].stream.upgrade([], receiver).write(b"%d" % number)
    wire.feed(wire.headers(101))
    wire.requests[-1].answer()
    wire.turn()

    assert wire.responses[101].content == b"ok"
    assert [wire.responses[2 * n + 1].content for n in range(10)] == [
        b"%d" % n for n in range(10)
    ]


def test_window_is_given_back_as_bytes_are_delivered(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(http2_stream_window_size=1024), RecordingReceiver()
    upgrade(wire, receiver)
    for _ in range(10):
        wire.feed(wire.data(1, b"x" * 1000))

    assert len(receiver.data) == 10000
    assert not wire.resets


def test_paused_tunnel_gets_nothing_and_gives_no_window(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(http2_stream_window_size=1024), RecordingReceiver()
    transport = upgrade(wire, receiver)
    transport.pause_reading()
    wire.feed(wire.data(1, b"x" * 1024))
    assert (receiver.data, frames.WINDOW_UPDATE in wire.kinds()) == (b"", False)

    transport.resume_reading()
    wire.turn()
    assert (len(receiver.data), frames.WINDOW_UPDATE in wire.kinds()) == (1024, True)


def test_tunnel_feels_the_peers_window(open_wire: type[Wire]) -> None:
    wire, receiver = (
        open_wire(client_settings=open_wire.setting(4, 10)),
        RecordingReceiver(),
    )
    transport = upgrade(wire, receiver)
    transport.write(b"x" * 20000)
    wire.turn()
    assert receiver.events == ["pause"]
    assert transport.get_write_buffer_size() == 19990

    wire.feed(wire.window(1, 10000))
    assert receiver.events == ["pause", "resume"]


def test_closing_tunnel_ends_after_what_waits(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(), RecordingReceiver()
    transport = upgrade(wire, receiver)
    transport.write(b"bye")
    transport.close()
    assert not receiver.events
    wire.turn()
    assert wire.responses[1].content == b"bye"
    assert wire.responses[1].is_complete
    wire.feed(wire.data(1, b"late", end=True))

    assert (receiver.data, receiver.events) == (b"", ["lost"])
    assert not wire.resets


def test_peer_that_does_not_end_its_side_is_reset(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(), RecordingReceiver()
    upgrade(wire, receiver).close()
    wire.turn().tick(0.0, 1.9)
    assert not wire.resets

    wire.tick(2.0)
    assert wire.resets == {1: ErrorCodes.CANCEL}
    assert receiver.events == ["lost"]


def test_end_by_the_peer_reaches_the_receiver(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(), RecordingReceiver()
    transport = upgrade(wire, receiver)
    wire.feed(wire.data(1, b"bye", end=True))
    assert (receiver.data, receiver.events) == (b"bye", ["eof"])

    transport.close()
    assert receiver.events == ["eof"]
    wire.turn()
    assert receiver.events == ["eof", "lost"]


@pytest.mark.parametrize("is_ours", [True, False], ids=["abort", "reset by peer"])
def test_broken_tunnel_is_told_later(open_wire: type[Wire], is_ours: bool) -> None:
    wire, receiver = open_wire(), RecordingReceiver()
    transport = upgrade(wire, receiver)
    if is_ours:
        transport.abort()
        assert not receiver.events
    else:
        wire.feed(wire.reset(1))
    wire.turn()

    assert receiver.events == ["lost"]
    assert wire.resets == ({1: ErrorCodes.CANCEL} if is_ours else {})


def test_last_words_on_a_reset_tunnel_are_dropped(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(), RecordingReceiver()
    transport = upgrade(wire, receiver)
    wire.transport.feed(wire.reset(1))
    transport.write(b"bye")
    transport.close()
    wire.turn().feed(wire.headers(3))
    wire.requests[1].answer()
    wire.turn()

    assert receiver.events == ["lost"]
    assert (wire.responses[1].content, wire.responses[3].content) == (b"", b"ok")


def test_time_and_drain_reach_the_receiver(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(), RecordingReceiver()
    upgrade(wire, receiver)
    wire.tick(1.0)
    wire.connection.drain()

    assert receiver.events == [("tick", 1.0), "drain"]
    assert not wire.requests[0].events


def test_deferred_drain_is_left_to_whoever_asked(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(), RecordingReceiver()
    upgrade(wire, receiver)
    (drain,) = wire.connection.defer_drains()
    wire.connection.drain()
    wire.turn()
    assert (wire.goaways, receiver.events) == ([(2**31 - 1, 0)], [])

    drain()
    assert receiver.events == ["drain"]


def test_deferred_drain_of_an_ended_stream_does_nothing(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(), RecordingReceiver()
    upgrade(wire, receiver)
    (drain,) = wire.connection.defer_drains()
    wire.feed(wire.reset(1))
    drain()

    assert receiver.events == ["lost"]


def test_tunnel_that_comes_while_draining_is_drained(open_wire: type[Wire]) -> None:
    receiver = RecordingReceiver()
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.connection.drain()
    wire.on_start = lambda request: void(request.stream.upgrade([], receiver))
    wire.feed(wire.headers(3, end=False, base=CONNECT))

    assert receiver.events == ["drain"]


def test_end_of_the_connection_is_told_once(open_wire: type[Wire]) -> None:
    wire, receiver = open_wire(), RecordingReceiver()
    upgrade(wire, receiver)
    wire.transport.lose()
    wire.turn()

    assert receiver.events == ["lost"]


def test_refused_upgrade_is_a_plain_response(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1, end=False, base=CONNECT))
    wire.requests[0].answer(b"no", status=403)
    wire.turn()

    assert wire.responses[1].status == 403
    wire.tick(0.0, 2.0)
    assert wire.resets == {1: ErrorCodes.NO_ERROR}
