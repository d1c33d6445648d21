"""One stream: content upward, and its ends."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    SettingsAcknowledged,
    StreamEnded,
    TrailersReceived,
)
from h2.settings import SettingCodes

from djserve.errors import ApplicationError
from djserve.protocols.http2 import frames
from djserve.testing.live import LiveServer
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from djserve.interfaces import Stream
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


@pytest.fixture
def stream(wire: Wire) -> Stream:
    return wire.requests[0].stream


def test_response_in_parts(wire: Wire, stream: Stream) -> None:
    stream.send_response(200, [(b"content-type", b"text/plain")], b"a", more=True)
    stream.send_data(b"b", more=True)
    stream.send_data(b"", more=True)
    stream.send_data(b"c", more=False)
    wire.turn()

    response = wire.responses[1]
    assert (response.content, response.is_complete) == (b"abc", True)
    assert response.head[b"content-type"] == b"text/plain"
    assert b"content-length" not in response.head


def test_response_without_content_ends_with_its_head(
    wire: Wire, stream: Stream
) -> None:
    stream.send_response(200, [], b"", more=False)
    wire.turn()

    assert wire.kinds() == [frames.HEADERS]
    assert wire.responses[1].is_complete


@pytest.mark.parametrize("status", [204, 205, 304])
def test_status_without_content_has_none(
    wire: Wire, stream: Stream, status: int
) -> None:
    stream.send_response(status, [], b"dropped", more=True)
    stream.send_data(b"dropped", more=False)
    wire.turn()

    assert (wire.responses[1].content, wire.responses[1].is_complete) == (b"", True)


def test_head_gets_the_fields_alone(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1, method=b"HEAD"))
    wire.requests[0].answer(b"dropped", headers=[(b"content-length", b"7")])
    wire.turn()

    assert wire.responses[1].head[b"content-length"] == b"7"
    assert wire.kinds() == [frames.HEADERS]


def test_early_hints_come_before_the_response(wire: Wire, stream: Stream) -> None:
    stream.send_informational(103, [(b"link", b"</a>")])
    stream.send_response(200, [], b"", more=False)
    wire.turn()

    assert (wire.responses[1].interim, wire.responses[1].status) == ([103], 200)


def test_pushed_response_has_no_early_hints(wire: Wire, stream: Stream) -> None:
    stream.push("/a", [(b"expect", b"100-continue")])
    pushed = wire.requests[1].stream
    pushed.request_content()
    pushed.send_informational(103, [(b"link", b"</a>")])
    pushed.send_response(200, [], b"ok", more=False)
    wire.turn()

    assert "http.response.early_hint" not in pushed.extensions
    assert (wire.responses[2].interim, wire.responses[2].content) == ([], b"ok")


def test_trailers_end_the_response(wire: Wire, stream: Stream) -> None:
    stream.send_response(200, [], b"content", more=True)
    stream.send_trailers([(b"X-Sum", b"1")])
    wire.turn()

    assert wire.responses[1].content == b"content"
    assert wire.responses[1].trailers == [(b"x-sum", b"1")]
    assert wire.responses[1].is_complete


def test_trailers_wait_for_content_that_waits(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 3))
    wire.feed(wire.headers(1, (b"te", b"trailers")))
    wire.requests[0].stream.send_response(200, [], b"content", more=True)
    wire.requests[0].stream.send_trailers([(b"x", b"y")])
    wire.turn().feed(wire.window(1, 100))

    assert wire.responses[1].content == b"content"
    assert wire.responses[1].trailers == [(b"x", b"y")]


@pytest.mark.parametrize("size", [0, 100])
def test_trailers_follow_a_change_of_the_tables_size(
    wire: Wire, stream: Stream, size: int
) -> None:
    stream.send_response(200, [], b"content", more=True)
    wire.turn().feed(wire.settings(1, size))
    wire.decoder.max_allowed_table_size = size
    stream.send_trailers([(b"x", b"y")])
    wire.turn()

    assert wire.responses[1].trailers == [(b"x", b"y")]


def test_client_that_takes_no_trailers_gets_none(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.requests[0].stream.send_response(200, [], b"content", more=True)
    wire.requests[0].stream.send_trailers([(b"x", b"y")])
    wire.turn()

    assert wire.responses[1].is_complete
    assert not wire.responses[1].trailers


def test_too_much_content_is_the_applications_fault(wire: Wire, stream: Stream) -> None:
    stream.send_response(200, [(b"content-length", b"3")], b"ab", more=True)

    with pytest.raises(ApplicationError, match="has room for 1"):
        stream.send_data(b"cd", more=True)


def test_too_little_content_is_the_applications_fault(
    wire: Wire, stream: Stream
) -> None:
    stream.send_response(200, [(b"content-length", b"3")], b"ab", more=True)

    with pytest.raises(ApplicationError, match="1 bytes short"):
        stream.send_data(b"", more=False)


def test_whole_response_of_another_length_is_never_begun(
    wire: Wire, stream: Stream
) -> None:
    with pytest.raises(ApplicationError):
        stream.send_response(200, [(b"content-length", b"3")], b"ab", more=False)
    wire.turn()

    assert not wire.log


def test_trailers_do_not_hide_missing_content(wire: Wire, stream: Stream) -> None:
    stream.send_response(200, [(b"content-length", b"3")], b"ab", more=True)

    with pytest.raises(ApplicationError, match="short"):
        stream.send_trailers([])


# The same through sockets.


async def trail(scope: Any, receive: Any, send: Any) -> None:
    """Send the head, and the rest once the request's content has come."""
    await send({"type": "http.response.start", "status": 200, "trailers": True})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await receive()
    await send({"type": "http.response.body", "body": b"b"})
    trailers = [(b"x-sum", b"2")]
    await send({"type": "http.response.trailers", "headers": trailers})


@pytest.mark.e2e
@pytest.mark.parametrize("size", [0, 100])
def test_client_may_change_the_tables_size_within_a_response(size: int) -> None:
    table_size = SettingCodes.HEADER_TABLE_SIZE
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    fields = [(":method", "POST"), (":scheme", "http"), (":path", "/")]
    client.send_headers(1, [*fields, (":authority", "a"), ("te", "trailers")])
    settings = {"HTTP2_CLEARTEXT": "on", "LIFESPAN": "off"}
    with LiveServer(trail, settings=settings) as server:
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address, PATIENCE) as sock:
            read_until(sock, client, DataReceived)
            client.update_settings({table_size: size})
            read_until(sock, client, SettingsAcknowledged)
            client.end_stream(1)
            events = read_until(sock, client, StreamEnded)

    (trailers,) = [each for each in events if isinstance(each, TrailersReceived)]
    assert list(trailers.headers) == [(b"x-sum", b"2")]


def read_until(sock: socket.socket, client: H2Connection, kind: type) -> list[Event]:
    """Return what has come up to an event of this kind."""
    events: list[Event] = []
    while not any(isinstance(event, kind) for event in events):
        sock.sendall(client.data_to_send())
        data = sock.recv(65536)
        assert data, "The server has closed the connection"
        events += client.receive_data(data)
    return events
