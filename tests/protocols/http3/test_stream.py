"""One stream: credit, pauses, lengths, refusals, tunnels, slow peers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from djserve.errors import ApplicationError
from djserve.protocols.http3 import frames
from djserve.protocols.http3.errors import ErrorCode

if TYPE_CHECKING:
    from tests.protocols.http3.conftest import Wire


def data(content: bytes) -> bytes:
    return frames.encode_frame(frames.DATA, content)


def test_credit_follows_the_application(open_wire: type[Wire]) -> None:
    wire = open_wire()
    head = wire.headers()
    wire.feed(0, head + data(b"abc"))
    # The head and what frames the content are used at once.
    assert wire.transport.credit[0] == len(head) + 2
    wire.requests[0].stream.request_content()
    assert wire.transport.credit[0] == len(head) + 5


def test_content_waits_while_reading_is_paused(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers())
    request = wire.requests[0]
    request.stream.pause_reading()
    wire.feed(0, data(b"abc"))
    wire.feed(0, data(b"de"), end=True)
    assert (request.content, request.is_complete) == (b"", False)
    assert wire.connection.held_size == 5
    request.stream.resume_reading()

    assert (request.content, request.is_complete) == (b"abcde", True)


@pytest.mark.parametrize(
    ("content", "end"), [(b"abcd", False), (b"abcd", True), (b"ab", True)]
)
def test_length_has_to_be_kept(
    open_wire: type[Wire], content: bytes, end: bool
) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers((b"content-length", b"3")))
    wire.feed(0, data(content), end)

    assert wire.transport.resets == {0: ErrorCode.MESSAGE_ERROR}
    assert wire.requests[0].is_lost


def test_request_that_an_exchange_has_is_recorded_by_it_alone(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers((b"content-length", b"2")))
    wire.feed(0, data(b"abc"))
    wire.feed(4, wire.headers((b"content-length", b"2")) + data(b"abc"))

    assert list(wire.transport.resets) == [0, 4]
    # The second has never reached an exchange.
    assert len(wire.requests) == len(wire.refused) == 1


def test_content_beyond_the_limit_is_refused(open_wire: type[Wire]) -> None:
    wire = open_wire(body_size_limit=4)
    wire.feed(0, wire.headers())
    wire.feed(0, data(b"abcde"))

    assert wire.response(0)[0][b":status"] == b"413"
    assert wire.requests[0].is_lost


def test_client_that_sends_on_is_asked_to_stop(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers())
    wire.requests[0].answer()
    for now in (0.0, 1.0):
        wire.connection.tick(now)
    assert not wire.transport.stops
    wire.connection.tick(2.0)

    assert wire.transport.stops == {0: ErrorCode.NO_ERROR}
    assert wire.transport.forgotten == [0]


def test_response_keeps_its_length(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers(), end=True)
    stream = wire.requests[0].stream
    stream.send_response(200, [(b"content-length", b"3")], b"ab", more=True)

    with pytest.raises(ApplicationError):
        stream.send_data(b"cd", more=True)
    with pytest.raises(ApplicationError):
        stream.send_data(b"", more=False)


def test_continue_is_sent_when_content_is_wanted(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers((b"expect", b"100-continue")))
    assert 0 not in wire.transport.written
    wire.requests[0].stream.request_content()

    assert wire.response(0)[0] == {b":status": b"100"}


def test_window_that_never_opens_resets_the_stream(open_wire: type[Wire]) -> None:
    wire = open_wire(write_timeout=5.0)
    wire.feed(0, wire.headers(), end=True)
    wire.transport.waiting[0] = 100
    wire.requests[0].stream.send_response(200, [], b"x" * 200, more=True)
    for now in (0.0, 4.0):
        wire.connection.tick(now)
    assert not wire.transport.resets
    wire.connection.tick(5.0)

    assert wire.transport.resets == {0: ErrorCode.EXCESSIVE_LOAD}


class Echo:
    """A protocol on an upgraded stream."""

    transport: Any

    def __init__(self) -> None:
        self.is_ended = self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def eof_received(self) -> None:
        self.is_ended = True
        self.transport.close()

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    def tick(self, now: float) -> None: ...
    def drain(self) -> None: ...


def test_tunnel_carries_bytes(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(0, wire.headers(method=b"CONNECT", protocol=b"websocket") + data(b"ab"))
    echo = Echo()
    assert wire.requests[0].head.upgrade == b"websocket"
    echo.transport = wire.requests[0].stream.upgrade([], echo)
    wire.run_soon()
    wire.feed(0, data(b"cd"), end=True)
    wire.run_soon()

    assert wire.response(0)[0][b":status"] == b"200"
    assert wire.response(0)[1] == b"abcd"
    assert (echo.is_ended, echo.is_lost, 0 in wire.transport.ended) == (True,) * 3
