"""Turns by urgency, shared among incremental streams; nobody waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from djserve.protocols.http2 import frames
from djserve.protocols.http2.scheduler import LONG_TURN

if TYPE_CHECKING:
    from tests.protocols.http2.conftest import Wire

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


def test_long_responses_share_frame_by_frame(wire: Wire) -> None:
    respond(wire, 3, b"", 4 * LONG_TURN)
    respond(wire, 5, b"", 4 * LONG_TURN)
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
