"""The time of a connection: passed on to its exchanges, and spent without any."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.protocols.http2.conftest import Wire


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
