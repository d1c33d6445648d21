"""One stream: content upward, and its ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from h2.errors import ErrorCodes

if TYPE_CHECKING:
    from tests.protocols.http2.conftest import Wire


@pytest.fixture
def wire(open_wire: type[Wire]) -> Wire:
    wire = open_wire()
    return wire.feed(wire.headers(1, (b"te", b"trailers")))


def test_paused_content_waits(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1, end=False))
    request = wire.requests[0]
    request.stream.pause_reading()
    wire.feed(wire.data(1, b"a"), wire.data(1, b"b", end=True))
    assert (request.content, request.is_complete) == (b"", False)

    request.stream.resume_reading()
    assert (request.content, request.is_complete) == (b"ab", True)


def test_continue_is_sent_once_the_application_reads(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1, (b"expect", b"100-continue"), end=False))
    assert not wire.log

    wire.requests[0].stream.request_content()
    wire.requests[0].stream.request_content()
    wire.turn()
    assert wire.responses[1].interim == [100]


def test_continue_is_not_sent_after_the_response(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1, (b"expect", b"100-continue"), end=False))
    wire.requests[0].stream.send_response(200, [], b"x", more=True)
    wire.requests[0].stream.request_content()
    wire.turn()

    assert not wire.responses[1].interim


def test_unknown_expectation_gets_417(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1, (b"expect", b"x")))

    assert wire.responses[1].status == 417


def test_content_after_an_aborted_response_is_dropped(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1, end=False))
    wire.requests[0].stream.abort()
    wire.turn()
    wire.feed(wire.data(1, b"late"))

    assert wire.resets == {1: ErrorCodes.INTERNAL_ERROR}
    assert wire.requests[0].content == b""


def test_completed_exchange_is_not_told_of_the_end(wire: Wire) -> None:
    wire.requests[0].answer()
    wire.turn()
    wire.transport.lose()

    assert not wire.requests[0].is_lost


def test_extensions_say_what_works(wire: Wire) -> None:
    assert {"http.response.trailers", "http.response.early_hint"} < set(
        wire.requests[0].stream.extensions
    )


def test_too_much_content_breaks_a_response_off(open_wire: type[Wire]) -> None:
    wire = open_wire(body_size_limit=10)
    wire.feed(wire.headers(1, end=False))
    wire.requests[0].stream.send_response(200, [], b"begun", more=True)
    wire.feed(wire.data(1, b"x" * 11))

    assert wire.resets == {1: ErrorCodes.CANCEL}
    assert wire.requests[0].is_lost
