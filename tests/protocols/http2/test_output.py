"""What is written, and in how many pieces."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.protocols.http2 import frames
from djserve.protocols.http2.output import LONG_TURN, ContentQueue

if TYPE_CHECKING:
    from tests.protocols.http2.conftest import Wire


def test_responses_of_one_turn_share_a_write(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(*[wire.headers(stream_id) for stream_id in range(1, 41, 2)])
    wire.transport.writes.clear()
    for request in wire.requests[:-1]:
        request.answer()
    assert not wire.transport.writes

    wire.turn()
    assert len(wire.transport.writes) == 1
    assert sum(response.is_complete for response in wire.responses.values()) == 19


def test_last_response_under_way_takes_all_others_along_at_once(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.feed(*[wire.headers(stream_id) for stream_id in range(1, 41, 2)])
    wire.transport.writes.clear()
    for request in wire.requests:
        request.answer()

    assert len(wire.transport.writes) == 1
    wire.turn()
    assert len(wire.transport.writes) == 1
    assert sum(response.is_complete for response in wire.responses.values()) == 20


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
    wire.requests[0].answer(b"x" * 65536 * 5)
    wire.turn()
    sizes = [len(frame.payload) for frame in wire.log if frame.kind == frames.DATA]

    # The first turn, and two longer ones.
    assert len(wire.transport.writes) == 3
    assert sizes == [16384] * 20


def test_one_write_is_bounded(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**30))
    wire.feed(wire.headers(1), wire.window(0, 2**30))
    wire.transport.writes.clear()
    wire.requests[0].answer(b"x" * 1_000_000)
    wire.turn()

    assert max(map(len, wire.transport.writes)) < 140_000
    assert len(wire.responses[1].content) == 1_000_000


def test_client_that_takes_all_gets_longer_turns(
    open_wire: type[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    for waiting, turns in ((0, [1, 2, 1]), (1, [1, 1, 1, 1, 0])):
        wire = open_wire(client_settings=open_wire.setting(4, 2**30))
        wire.feed(wire.headers(1), wire.window(0, 2**30))
        wire.transport.writes.clear()
        monkeypatch.setattr(
            wire.transport, "get_write_buffer_size", lambda size=waiting: size
        )
        wire.requests[0].answer(b"x" * 320_000)
        wire.turn()

        assert [len(data) // 65536 for data in wire.transport.writes] == turns


def test_head_goes_out_with_the_turn_that_is_due(open_wire: type[Wire]) -> None:
    # Requests are answered as soon as they are read, as files are.
    wire = open_wire(
        client_settings=open_wire.setting(4, 2**30),
        on_start=lambda request: request.answer(b"x" * 100_000),
    )
    wire.feed(wire.window(0, 2**30))
    wire.transport.feed(wire.headers(1))
    wire.transport.writes.clear()
    # The rest of the first response is due in the next turn.
    wire.transport.feed(wire.headers(3), wire.headers(5))
    assert not wire.transport.writes

    wire.turn()
    sizes = [len(response.content) for response in wire.responses.values()]
    assert sizes == [100_000] * 3
    kinds = wire.kinds()
    assert kinds.count(frames.HEADERS) == 3
    # The heads stand before the content that they went out with.
    assert kinds[5:7] == [frames.HEADERS, frames.HEADERS]


def test_what_is_due_is_written_to_a_full_transport_as_well(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**30))
    wire.feed(wire.headers(1), wire.window(0, 2**30))
    wire.requests[0].answer(b"x" * 200_000)
    wire.transport.fill()
    wire.transport.writes.clear()
    wire.transport.feed(wire.frame(frames.PING, 0, 0, b"12345678"))

    assert len(wire.transport.writes) == 1


def test_responses_of_one_level_go_out_in_runs_of_frames(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**30))
    wire.feed(*[wire.headers(number) for number in (1, 3, 5)], wire.window(0, 2**30))
    wire.log.clear()
    for request in wire.requests:
        request.answer(b"x" * 40_000)
    wire.turn()
    content = [frame for frame in wire.log if frame.kind == frames.DATA]

    assert [frame.stream_id for frame in content] == [1] * 3 + [3] * 3 + [5] * 3
    assert [len(frame.payload) for frame in content] == [16384, 16384, 7232] * 3


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


@given(
    st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=10),
    st.lists(st.integers(1, 30), min_size=1),
)
def test_content_comes_out_whole_and_in_order(
    chunks: list[bytes], limits: list[int]
) -> None:
    queue = ContentQueue()
    for chunk in chunks:
        queue.append(chunk)
    taken: list[bytes | memoryview] = []
    while queue.size:
        limit = limits[len(taken) % len(limits)]
        taken.append(queue.take(limit))
        assert 0 < len(taken[-1]) <= limit

    assert b"".join(taken) == b"".join(chunks)


def test_small_chunks_share_a_piece() -> None:
    queue = ContentQueue()
    for chunk in (b"ab", b"cd", b"ef"):
        queue.append(chunk)

    assert [queue.take(5), queue.take(5), queue.size] == [b"abcde", b"f", 0]


def test_whole_chunk_is_not_copied() -> None:
    queue = ContentQueue()
    chunk = bytes(100)
    queue.append(chunk)

    assert queue.take(100) is chunk


def test_parts_of_a_chunk_are_not_copied() -> None:
    queue = ContentQueue()
    chunk = bytes(100)
    queue.append(chunk)
    parts = [queue.take(60), queue.take(60)]

    assert [len(part) for part in parts] == [60, 40]
    assert all(isinstance(part, memoryview) and part.obj is chunk for part in parts)


def test_cleared_queue_is_empty() -> None:
    queue = ContentQueue()
    queue.append(b"abc")
    queue.take(1)
    queue.clear()
    queue.append(b"d")

    assert (queue.size, queue.take(9)) == (1, b"d")


FRAME_SIZE = 16384


@pytest.fixture
def wire(open_wire: type[Wire]) -> Wire:
    """A connection whose client has a great stream window and none of its own yet."""
    wire = open_wire(client_settings=open_wire.setting(4, 2**30), http2_stream_limit=9)
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * 65535)
    wire.turn().log.clear()
    return wire


def respond(wire: Wire, stream_id: int, priority: bytes, size: int) -> None:
    fields = [(b"priority", priority)] if priority else []
    wire.feed(wire.headers(stream_id, *fields))
    wire.requests[-1].answer(b"x" * size)
    wire.turn()


def order(wire: Wire) -> list[int]:
    """The stream of each DATA frame."""
    return [frame.stream_id for frame in wire.log if frame.kind == frames.DATA]


def test_urgent_response_goes_first(wire: Wire) -> None:
    respond(wire, 3, b"u=5", FRAME_SIZE)
    respond(wire, 5, b"u=0", FRAME_SIZE)
    respond(wire, 7, b"", FRAME_SIZE)
    wire.feed(wire.window(0, 2**20))

    assert order(wire) == [5, 7, 3]


def test_responses_of_one_urgency_go_one_after_the_other(wire: Wire) -> None:
    respond(wire, 3, b"", 2 * FRAME_SIZE)
    respond(wire, 5, b"", 2 * FRAME_SIZE)
    wire.feed(wire.window(0, 2**20))

    assert order(wire) == [3, 3, 5, 5]


def test_incremental_responses_take_turns(wire: Wire) -> None:
    for stream_id in (3, 5, 7):
        respond(wire, stream_id, b"i", 2 * FRAME_SIZE)
    wire.feed(wire.window(0, 2**20))

    assert order(wire) == [3, 5, 7, 3, 5, 7]


def test_long_response_lets_others_of_its_urgency_by(wire: Wire) -> None:
    respond(wire, 3, b"", 2 * LONG_TURN)
    respond(wire, 5, b"", FRAME_SIZE)
    wire.feed(wire.window(0, 2**20))

    frames_in_turn = LONG_TURN // FRAME_SIZE
    assert order(wire) == [3] * frames_in_turn + [5] + [3] * frames_in_turn


def test_short_response_passes_all_long_ones(wire: Wire) -> None:
    respond(wire, 3, b"", 4 * LONG_TURN)
    respond(wire, 5, b"", 4 * LONG_TURN)
    wire.feed(wire.window(0, 3 * LONG_TURN)).log.clear()
    respond(wire, 7, b"", FRAME_SIZE)
    wire.feed(wire.window(0, 2**20))

    # One turn may be a courtesy.
    assert order(wire).index(7) <= 1


def test_long_responses_share_turn_by_turn(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**30))
    for stream_id in (1, 3):
        wire.feed(wire.headers(stream_id))
        wire.requests[-1].answer(b"x" * (4 * LONG_TURN))
    wire.feed(wire.window(0, 2**20))
    wire.turn()
    runs = [len(list(run)) for _, run in groupby(order(wire))]

    # The peer takes all that is sent: nothing else waits for its end.
    assert wire.responses[1].content == wire.responses[3].content
    assert max(runs) <= LONG_TURN // FRAME_SIZE + 1
    assert len(runs) < sum(runs) // 3


def test_incremental_downloads_share_frame_by_frame(wire: Wire) -> None:
    respond(wire, 3, b"i", 4 * LONG_TURN)
    respond(wire, 5, b"i", 4 * LONG_TURN)
    wire.feed(wire.window(0, 3 * LONG_TURN)).log.clear()
    wire.feed(wire.window(0, 6 * FRAME_SIZE))

    assert sorted(order(wire)) == [3, 3, 3, 5, 5, 5]


def test_long_response_is_not_starved_by_short_ones(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**30))
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * (2 * LONG_TURN))
    wire.feed(wire.window(0, LONG_TURN)).log.clear()
    for stream_id in range(3, 43, 2):
        respond(wire, stream_id, b"", FRAME_SIZE)
    wire.feed(wire.window(0, 10 * FRAME_SIZE))

    assert 1 in order(wire)


def test_lower_urgency_is_not_starved(wire: Wire) -> None:
    respond(wire, 3, b"u=0", 40 * FRAME_SIZE)
    respond(wire, 5, b"u=7", FRAME_SIZE)
    respond(wire, 7, b"u=6", FRAME_SIZE)
    wire.feed(wire.window(0, 2**20))

    assert order(wire).index(5) < 20
    assert order(wire).index(7) < 20


def test_priority_may_change_while_content_waits(wire: Wire) -> None:
    respond(wire, 3, b"", FRAME_SIZE)
    respond(wire, 5, b"", FRAME_SIZE)
    update = (5).to_bytes(4, "big") + b"u=0"
    wire.feed(wire.frame(frames.PRIORITY_UPDATE, 0, 0, update))
    wire.feed(wire.window(0, 2**20))

    assert order(wire) == [5, 3]


def test_priority_may_come_before_the_request(wire: Wire) -> None:
    update = (5).to_bytes(4, "big") + b"u=0"
    wire.feed(wire.frame(frames.PRIORITY_UPDATE, 0, 0, update))
    respond(wire, 3, b"", FRAME_SIZE)
    respond(wire, 5, b"u=7", FRAME_SIZE)
    wire.feed(wire.window(0, 2**20))

    assert order(wire) == [5, 3]


def test_old_priorities_mean_nothing(wire: Wire) -> None:
    respond(wire, 3, b"", FRAME_SIZE)
    respond(wire, 5, b"", FRAME_SIZE)
    wire.feed(wire.frame(frames.PRIORITY, 0, 3, b"\0\0\0\x05\0"))
    wire.feed(wire.window(0, 2**20))

    assert order(wire) == [3, 5]


def test_stream_without_a_window_does_not_hold_others_up(wire: Wire) -> None:
    wire.feed(wire.settings(4, 100))
    respond(wire, 3, b"u=0", FRAME_SIZE)
    respond(wire, 5, b"u=7", 100)
    wire.feed(wire.window(0, 2**20))

    assert wire.responses[5].is_complete
    assert len(wire.responses[3].content) == 100


def test_stream_that_ends_leaves_the_queue(wire: Wire) -> None:
    respond(wire, 3, b"", FRAME_SIZE)
    respond(wire, 5, b"", FRAME_SIZE)
    wire.feed(wire.reset(3), wire.window(0, 2**20))

    assert order(wire) == [5]
