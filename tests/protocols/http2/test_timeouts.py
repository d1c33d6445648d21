"""Streams that wait too long: slow content and windows that are never opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

if TYPE_CHECKING:
    from tests.protocols.http2.conftest import Wire


def test_stalled_window_resets_its_stream_alone(open_wire: type[Wire]) -> None:
    wire = open_wire(
        client_settings=open_wire.setting(4, 100),
        write_timeout=5,
        http2_ping_interval=0,
    )
    wire.feed(wire.headers(1), wire.headers(3))
    wire.requests[0].answer(b"x" * 1000)
    wire.turn().tick(0.0, 4.9)
    assert not wire.resets

    wire.tick(5.0)
    assert wire.resets == {1: ErrorCodes.ENHANCE_YOUR_CALM}
    wire.requests[1].answer()
    wire.turn()
    assert wire.responses[3].is_complete


def test_stalled_connection_window_resets_what_waits(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**20), write_timeout=5)
    wire.feed(wire.headers(1), wire.headers(3))
    for request in wire.requests:
        request.answer(b"x" * 100_000)
    wire.turn().tick(0.0, 5.0)

    assert wire.resets == {1: 11, 3: 11}


def test_window_that_opens_gives_time(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 100), write_timeout=5)
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * 1000)
    wire.turn().tick(0.0, 4.0)
    wire.feed(wire.window(1, 1)).tick(5.0, 9.9)
    assert not wire.resets

    wire.tick(10.0)
    assert wire.resets == {1: 11}


def test_slow_content_gets_408(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=10, body_min_rate=100)
    wire.feed(wire.headers(1, end=False)).tick(0.0)
    wire.feed(wire.data(1, b"x" * 999))
    wire.requests[0].stream.request_content()
    wire.tick(10.0)

    assert wire.responses[1].status == 408
    assert wire.requests[0].is_lost


def test_content_that_is_quick_enough_is_taken(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=10, body_min_rate=100)
    wire.feed(wire.headers(1, end=False)).tick(0.0)
    for second in range(1, 60):
        wire.feed(wire.data(1, b"x" * 101))
        wire.requests[0].stream.request_content()
        wire.tick(float(second))

    assert not wire.responses


def test_application_that_does_not_read_is_not_the_peers_fault(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(body_timeout=10, body_min_rate=100, http2_ping_interval=0)
    wire.feed(wire.headers(1, end=False), wire.data(1, b"x"))
    wire.tick(0.0, 10.0, 20.0, 30.0)

    assert not wire.responses


def test_client_that_awaits_continue_is_not_slow(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=10, body_min_rate=100, http2_ping_interval=0)
    wire.feed(wire.headers(1, (b"expect", b"100-continue"), end=False))
    wire.tick(0.0, 10.0, 20.0)

    assert not wire.responses


def test_exchange_gets_the_time(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1)).tick(7.0)

    assert wire.requests[0].events == [("tick", 7.0)]


def idle_since(wire: Wire) -> tuple[bool, float] | None:
    """Ask anew: the type checker takes the property for unchanged."""
    return wire.connection.idle_since


def test_connection_without_streams_makes_room_for_others(
    open_wire: type[Wire],
) -> None:
    wire = open_wire().tick(5.0)
    assert idle_since(wire) == (False, 5.0)

    wire.feed(wire.headers(1))
    assert idle_since(wire) is None
    assert not wire.connection.give_way()
    wire.requests[0].answer()
    wire.turn().tick(9.0)

    assert idle_since(wire) == (True, 9.0)
    assert wire.connection.give_way()
    assert idle_since(wire) is None
