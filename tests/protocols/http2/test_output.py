"""What is written, and in how many pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.protocols.http2 import frames

if TYPE_CHECKING:
    from tests.protocols.http2.conftest import Wire


def test_responses_of_one_turn_share_a_write(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(*[wire.headers(stream_id) for stream_id in range(1, 41, 2)])
    wire.transport.writes.clear()
    for request in wire.requests:
        request.answer()
    assert not wire.transport.writes

    wire.turn()
    assert len(wire.transport.writes) == 1
    assert all(response.is_complete for response in wire.responses.values())


def test_long_response_is_written_before_the_turn_ends(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.transport.writes.clear()
    wire.requests[0].stream.send_response(200, [], b"x" * 40000, more=True)

    assert sum(map(len, wire.transport.writes)) > 40000
    assert wire.requests[0].stream.is_writable


def test_turn_of_a_single_response_is_one_write_of_whole_frames(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**30))
    wire.feed(wire.headers(1), wire.window(0, 2**30))
    wire.transport.writes.clear()
    wire.requests[0].answer(b"x" * 65536 * 3)
    wire.turn()
    sizes = [len(frame.payload) for frame in wire.log if frame.kind == frames.DATA]

    assert len(wire.transport.writes) == 3
    assert sizes == [16384] * 12


def test_one_write_is_bounded(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**30))
    wire.feed(wire.headers(1), wire.window(0, 2**30))
    wire.transport.writes.clear()
    wire.requests[0].answer(b"x" * 1_000_000)
    wire.turn()

    assert max(map(len, wire.transport.writes)) < 100_000
    assert len(wire.responses[1].content) == 1_000_000


def test_one_turn_is_bounded_and_lets_others_in(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**30))
    wire.feed(wire.headers(1), wire.headers(3), wire.window(0, 2**30))
    wire.transport.writes.clear()
    wire.log.clear()
    long, short = wire.requests
    long.stream.send_response(200, [], b"x" * 1_000_000, more=True)
    assert sum(map(len, wire.transport.writes)) < 100_000
    assert not long.stream.is_writable

    # A whole turn before the next part of the long one, the short one is answered.
    short.answer()
    wire.turn()
    order = [frame.stream_id for frame in wire.log if frame.kind == frames.DATA]
    assert order.index(3) <= 10
    assert len(wire.responses[1].content) == 1_000_000
    assert long.stream.is_writable


def test_parts_of_one_turn_are_bounded_together(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**30))
    wire.feed(wire.headers(1), wire.window(0, 2**30))
    wire.transport.writes.clear()
    stream = wire.requests[0].stream
    stream.send_response(200, [], b"", more=True)
    parts = 0
    while stream.is_writable and parts < 100:
        stream.send_data(b"x" * 20_000, more=True)
        parts += 1

    assert parts < 6
    wire.turn()
    assert stream.is_writable


def test_content_stops_within_one_write_of_a_full_transport(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**30))
    wire.feed(wire.headers(1), wire.window(0, 2**30))
    write = wire.transport.write

    def write_and_fill(data: bytes, /) -> None:
        write(data)
        wire.transport.fill()

    wire.transport.write = write_and_fill  # type: ignore[method-assign]
    wire.requests[0].answer(b"x" * 1_000_000)
    wire.turn()

    assert 0 < len(wire.responses[1].content) < 100_000


def test_nothing_is_written_to_a_lost_transport(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.requests[0].answer()
    wire.transport.lose()
    # The loop's transports raise at a write once they are lost.
    wire.transport.is_closing = False
    wire.transport.writes.clear()
    wire.turn()

    assert not wire.transport.writes


def test_peer_that_reads_nothing_is_not_read_either(open_wire: type[Wire]) -> None:
    # CVE-2019-9512's kind: answers that have no content are not held by any window.
    wire = open_wire(
        on_start=lambda request: request.answer(b"", 304, [(b"x", b"y" * 8000)])
    )
    wire.transport.fill()
    for stream_id in range(1, 81, 2):
        wire.connection.data_received(wire.headers(stream_id))
    assert wire.transport.reading_paused

    wire.transport.drain()
    assert not wire.transport.reading_paused


def test_short_response_does_not_overtake_what_is_queued(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1), wire.headers(3))
    wire.requests[0].answer(b"x" * 10000)
    wire.requests[0].wire.requests[1].answer(b"y")
    wire.turn()
    order = [frame.stream_id for frame in wire.log if frame.kind == frames.DATA]

    assert order == [1, 3]
