"""HTTP/1.1 connections: keep-alive, pipelining, framing, upgrade, limits, end."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.errors import ApplicationError, ProtocolError
from djserve.interfaces import RequestHead
from djserve.protocols.http1.connection import (
    AT_ONCE_LIMIT,
    HTTP2_PREFACE,
    PIPELINE_LIMIT,
)
from djserve.protocols.limits import DISCARD_LIMIT
from djserve.testing.transport import MemoryTransport
from tests.support.recorders import RecordingReceiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.protocols.http1.conftest import Request, Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def get(target: bytes, *fields: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"GET %b HTTP/%b" % (target, version), b"Host: a", *fields, b"", b""]
    return b"\r\n".join(lines)


def post(content: bytes, *fields: bytes) -> bytes:
    lines = [b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(content)]
    return b"\r\n".join([*lines, *fields, b"", content])


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    content = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return CHUNKED_HEAD + content + b"0\r\n" + trailers + b"\r\n"


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


def echo(request: Request) -> None:
    request.answer(request.target + b":" + request.content)


# Content that is sent past the connection.


@pytest.mark.parametrize(
    ("sslcontext", "fields", "is_direct"),
    [
        (None, [(b"content-length", b"10")], True),
        (object(), [(b"content-length", b"10")], False),
        (None, [], False),
    ],
    ids=["cleartext", "tls", "chunked"],
)
def test_socket_is_given_for_content_that_stands_for_itself(
    open_wire: type[Wire], sslcontext: object, fields: Any, is_direct: bool
) -> None:
    wire = open_wire().feed(GET)
    stream: Any = wire.connection
    extra = {"socket": "the socket", "sslcontext": sslcontext}
    assert stream.find_direct_socket() is None

    wire.transport.get_extra_info = extra.get  # type: ignore[attr-defined]
    assert stream.find_direct_socket() is None
    stream.send_response(200, fields, b"abc", more=True)
    assert stream.find_direct_socket() == ("the socket" if is_direct else None)


def test_content_that_was_sent_directly_counts(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(GET)
    stream: Any = wire.connection
    stream.send_response(200, [(b"content-length", b"10")], b"abc", more=True)
    with pytest.raises(ApplicationError, match="leaves room for 7"):
        stream.skip_content(8)
    stream.skip_content(5)
    stream.send_data(b"xy", more=False)

    assert wire.take().endswith(b"\r\n\r\nabcxy")
    wire.feed(GET)
    assert len(wire.requests) == 2


# Keep-alive and pipelining.


def test_connection_is_kept_between_requests(open_wire: type[Wire]) -> None:
    wire = open_wire(on_complete=echo).feed(get(b"/1"))
    assert wire.take().endswith(b"\r\n\r\n/1:")

    wire.feed(get(b"/2"))
    assert wire.take().endswith(b"\r\n\r\n/2:")
    assert not wire.is_closed()


@pytest.mark.parametrize(
    ("fields", "version", "is_kept"),
    [
        ((b"Connection: close",), b"1.1", False),
        ((b"Connection: x, Close",), b"1.1", False),
        ((), b"1.0", False),
        ((b"Connection: keep-alive",), b"1.0", True),
    ],
)
def test_connection_field_is_obeyed(
    open_wire: type[Wire], fields: tuple[bytes, ...], version: bytes, is_kept: bool
) -> None:
    wire = open_wire(on_complete=echo).feed(get(b"/", *fields, version=version))

    assert wire.is_closed() is not is_kept
    expected = b"connection: keep-alive\r\n" if is_kept else b"connection: close\r\n"
    assert expected in wire.take()


@pytest.mark.parametrize("eagerly", [False, True])
def test_nothing_is_taken_after_connection_close(
    open_wire: type[Wire], eagerly: bool
) -> None:
    wire = open_wire(on_start=echo if eagerly else None)
    wire.feed(get(b"/1", b"Connection: close") + get(b"/2"))
    if not eagerly:
        wire.requests[0].answer()

    assert [request.target for request in wire.requests] == [b"/1"]
    assert wire.transport.is_closing


def test_application_may_ask_for_the_end(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(get(b"/1") + get(b"/2"))
    wire.requests[0].answer(headers=[(b"Connection", b"close")])

    assert wire.take().count(b"connection: close\r\n") == 1
    assert wire.is_closed()
    assert len(wire.requests) == 1


def test_pipelined_requests_are_answered_in_order(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(get(b"/1") + get(b"/2") + get(b"/3"))
    for index, body in enumerate([b"one", b"two", b"three"]):
        assert len(wire.requests) == index + 1
        wire.requests[index].answer(body)

    bodies = [part.rpartition(b"\r\n")[2] for part in wire.take().split(b"HTTP/1.1")]
    assert bodies[1:] == [b"one", b"two", b"three"]


def test_eager_answers_are_in_order_too(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=echo).feed(b"".join(get(b"/%d" % n) for n in range(50)))

    assert [request.target for request in wire.requests] == [
        b"/%d" % number for number in range(50)
    ]
    assert wire.statuses == [200] * 50


def test_pipelined_content_goes_to_its_own_request(open_wire: type[Wire]) -> None:
    wire = open_wire(on_complete=echo)
    wire.feed(post(b"one") + chunked(b"t", b"wo") + get(b"/3") + post(b"four"))

    contents = [request.content for request in wire.requests]
    assert contents == [b"one", b"two", b"", b"four"]


def test_reading_pauses_above_the_pipeline_limit(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(GET)
    wire.feed(b"x" * PIPELINE_LIMIT)
    assert not wire.is_paused()

    wire.feed(b"x")
    assert wire.is_paused()


def test_reading_resumes_after_the_response(open_wire: type[Wire]) -> None:
    ahead = get(b"/2") * (PIPELINE_LIMIT // 20)
    wire = open_wire().feed(get(b"/1") + ahead)
    assert wire.is_paused()

    wire.on_start = echo
    wire.requests[0].answer()
    wire.feed()
    assert not wire.is_paused()
    assert len(wire.requests) == 1 + PIPELINE_LIMIT // 20


def test_requests_that_are_answered_at_once_are_taken_in_several_turns(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(on_complete=echo)
    wire.transport.feed(b"".join(get(b"/%d" % n) for n in range(70)) + get(b"/70")[:9])
    counts = [len(wire.requests)]
    wire.transport.feed(get(b"/70")[9:] + post(b"71"))
    while wire.soon:
        assert wire.is_paused()
        wire.turn()
        counts.append(len(wire.requests))

    assert counts == [AT_ONCE_LIMIT, 2 * AT_ONCE_LIMIT, 72]
    assert [request.target for request in wire.requests[:71]] == [
        b"/%d" % number for number in range(71)
    ]
    assert wire.requests[71].content == b"71"
    assert wire.statuses == [200] * 72
    assert not wire.is_paused()


def test_request_that_waits_for_its_turn_keeps_the_connection(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(on_complete=echo, keep_alive_timeout=5)
    wire.transport.feed(GET * 2 * AT_ONCE_LIMIT)
    wire.tick(0, 10, 20)
    assert wire.connection.idle_since is None
    assert not wire.connection.give_way()
    wire.connection.drain()
    assert not wire.is_closed()

    wire.feed()
    assert wire.statuses == [200] * (AT_ONCE_LIMIT + 1)
    assert wire.take().count(b"connection: close\r\n") == 1
    assert wire.is_closed()


def test_drain_is_not_forgotten_while_requests_wait_for_their_turn(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(on_complete=echo)
    # A blank line may come before a request, and this one is cut.
    wire.transport.feed(GET * AT_ONCE_LIMIT + b"\r")
    wire.connection.drain()
    wire.feed()
    wire.tick(0, 1)

    assert wire.statuses == [200] * AT_ONCE_LIMIT
    assert wire.is_closed()


def test_requests_that_wait_for_their_turn_end_with_the_connection(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(on_complete=echo)
    wire.transport.feed(GET * 2 * AT_ONCE_LIMIT)
    wire.connection.connection_lost(None)
    wire.feed()

    assert len(wire.requests) == AT_ONCE_LIMIT


def test_room_in_the_transport_gives_no_turn(open_wire: type[Wire]) -> None:
    wire = open_wire(on_complete=echo)
    wire.transport.feed(GET * 2 * AT_ONCE_LIMIT)
    wire.transport.fill()
    wire.transport.drain()
    assert len(wire.requests) == AT_ONCE_LIMIT

    wire.feed()
    assert len(wire.requests) == 2 * AT_ONCE_LIMIT


def test_peer_that_reads_nothing_gets_no_further_responses(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(on_start=echo)
    wire.transport.fill()
    wire.feed(GET * 10)
    assert wire.requests == []

    wire.transport.drain()
    assert wire.statuses == [200] * 10


def test_response_that_fills_the_transport_stops_the_pipeline(
    open_wire: type[Wire],
) -> None:
    def answer(request: Request) -> None:
        request.wire.transport.fill()
        request.answer()

    wire = open_wire(on_start=answer).feed(GET * 3)
    assert wire.statuses == [200]

    wire.transport.drain()
    assert wire.statuses == [200, 200]


def test_peer_that_reads_nothing_cannot_send_without_bound(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(on_start=echo)
    wire.transport.fill()
    wire.feed(GET * (PIPELINE_LIMIT // len(GET) + 1))
    assert wire.is_paused()

    wire.transport.drain()
    wire.feed()
    assert not wire.is_paused()


@pytest.mark.parametrize("blank", [b"\r\n", b"\r\n\r\n", b"\r\n" * 1000])
def test_empty_lines_before_a_request_are_ignored(
    open_wire: type[Wire], blank: bytes
) -> None:
    wire = open_wire(on_complete=echo).feed(blank + get(b"/1") + blank + get(b"/2"))

    assert wire.statuses == [200, 200]


# Content.


def test_application_starts_before_the_content_is_complete(
    open_wire: type[Wire],
) -> None:
    data = post(b"abcdef")
    wire = open_wire().feed(data[:-4])
    [request] = wire.requests
    assert request.is_started
    assert (request.content, request.is_complete) == (b"ab", False)

    wire.feed(data[-4:-1], data[-1:])
    assert (request.content, request.is_complete) == (b"abcdef", True)


def test_chunked_content_is_joined(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(chunked(b"abc", b"d" * 1000, b"e"))

    assert wire.requests[0].content == b"abc" + b"d" * 1000 + b"e"
    assert wire.requests[0].is_complete


def test_request_trailers_are_skipped(open_wire: type[Wire]) -> None:
    trailers = b"X-Sum: 1\r\nContent-Length: 9\r\n"
    wire = open_wire(on_complete=echo)
    wire.feed(chunked(b"abc", trailers=trailers) + get(b"/2"))

    assert wire.requests[0].head.headers == [
        (b"host", b"a"),
        (b"transfer-encoding", b"chunked"),
    ]
    assert wire.statuses == [200, 200]


def test_reading_follows_the_exchange(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(post(b"abc")[:-2])
    stream = wire.requests[0].stream
    stream.pause_reading()
    assert wire.is_paused()

    stream.resume_reading()
    assert not wire.is_paused()


def test_unread_content_is_dropped_and_the_connection_kept(
    open_wire: type[Wire],
) -> None:
    data = post(b"x" * 1000)
    wire = open_wire().feed(data[:-500])
    wire.requests[0].stream.pause_reading()
    wire.requests[0].answer()
    assert not wire.is_paused()

    wire.feed(data[-500:] + get(b"/2"))
    assert wire.requests[0].content == b"x" * 500
    assert wire.requests[1].target == b"/2"


def test_too_much_unread_content_ends_the_connection(open_wire: type[Wire]) -> None:
    head = post(b"")[:-1].replace(b"Length: 0", b"Length: 9999999") + b"\n"
    wire = open_wire(on_start=echo).feed(head)
    wire.feed(b"x" * DISCARD_LIMIT)
    assert not wire.is_closed()

    wire.feed(b"x")
    assert wire.is_closed()
    assert wire.feed(GET).statuses == [200]


def test_early_response_with_close_lets_the_peer_read_it(
    open_wire: type[Wire],
) -> None:
    data = post(b"x" * 100, b"Connection: close")
    wire = open_wire(on_start=echo).feed(data[:-50])
    assert wire.transport.is_eof_written
    assert not wire.transport.is_closing

    wire.feed(b"x" * 50 + GET)
    assert wire.statuses == [200]


def test_early_response_without_half_close_lets_the_peer_read_it(
    open_wire: type[Wire],
) -> None:
    data = post(b"x" * 100, b"Connection: close")
    wire = open_wire(on_start=echo, can_write_eof=False).feed(data[:-50])
    assert not wire.transport.is_closing

    wire.feed(b"x" * 50 + GET)
    assert wire.statuses == [200]
    wire.tick(0.0, 2.0)
    assert wire.transport.is_closing


# Expect: 100-continue.


def test_continue_is_sent_when_the_application_reads(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(post(b"abc", b"Expect: 100-continue")[:-3])
    assert wire.take() == b""

    wire.requests[0].stream.request_content()
    wire.requests[0].stream.request_content()
    assert wire.take() == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_continue_is_left_out_after_content_has_come(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(post(b"abc", b"Expect: 100-continue")[:-1])
    wire.requests[0].stream.request_content()

    assert wire.take() == b""


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_continue_is_left_out_where_none_waits(
    open_wire: type[Wire], version: bytes
) -> None:
    fields = [] if version == b"1.1" else [b"Expect: 100-continue"]
    head = post(b"abc", *fields)[:-3].replace(b"HTTP/1.1", b"HTTP/" + version)
    wire = open_wire().feed(head)
    wire.requests[0].stream.request_content()

    assert wire.take() == b""


def test_final_response_instead_of_continue_closes(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(post(b"abc", b"Expect: 100-continue")[:-3])
    wire.requests[0].answer(status=403)

    assert b"connection: close\r\n" in wire.transport.data
    assert wire.feed(b"abc" + GET).statuses == [403]
    assert wire.is_closed()
    assert len(wire.requests) == 1


def test_no_continue_after_the_response_has_begun(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(post(b"abc", b"Expect: 100-continue")[:-3])
    stream = wire.requests[0].stream
    stream.send_response(200, [], b"x", more=True)
    stream.request_content()

    assert wire.statuses == [200]


# Refusals.

SMUGGLED = get(b"/smuggled")
LENGTH_5 = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


def chunks(content: bytes) -> bytes:
    return CHUNKED_HEAD + content + b"0\r\n\r\n" + SMUGGLED


def framed(*fields: bytes) -> bytes:
    lines = [b"POST / HTTP/1.1", b"Host: a", *fields, b"", b"0", b"", b""]
    return b"\r\n".join(lines) + SMUGGLED


# Each is the first request of a connection and hides a second one from some parser.
SMUGGLING = {
    "CL.TE": framed(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "TE.CL": framed(b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "CL 0 beside TE": framed(b"Content-Length: 0", b"Transfer-Encoding: chunked"),
    "TE.TE": framed(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"),
    "TE twice": framed(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "TE gzip": framed(b"Transfer-Encoding: gzip"),
    "TE not last": framed(b"Transfer-Encoding: chunked, gzip"),
    "TE quoted": framed(b'Transfer-Encoding: "chunked"'),
    "TE space colon": framed(b"Transfer-Encoding : chunked"),
    "TE vertical tab": framed(b"Transfer-Encoding: \x0bchunked"),
    "TE NUL": framed(b"Transfer-Encoding: chunked\x00"),
    "TE folded": framed(b"Transfer-Encoding:", b" chunked"),
    "TE after bare LF": framed(b"X: y\nTransfer-Encoding: chunked"),
    "TE after bare CR": framed(b"X: y\rTransfer-Encoding: chunked"),
    "TE in HTTP/1.0": framed(b"Transfer-Encoding: chunked").replace(b"/1.1", b"/1.0"),
    "CL twice": framed(b"Content-Length: 5", b"Content-Length: 5"),
    "CL conflict": framed(b"Content-Length: 5", b"Content-Length: 6"),
    "CL list": framed(b"Content-Length: 5, 5"),
    "CL plus": framed(b"Content-Length: +5"),
    "CL hex": framed(b"Content-Length: 0x5"),
    "CL underscore": framed(b"Content-Length: 5_0"),
    "CL empty": framed(b"Content-Length:"),
    "CL space colon": framed(b"Content-Length : 5"),
    "CL negative": framed(b"Content-Length: -1"),
    "head ends with bare LF": LENGTH_5.replace(b"\r\n\r\n", b"\n\n") + SMUGGLED,
    "chunk size 0x": chunks(b"0x5\r\nabcde\r\n"),
    "chunk size plus": chunks(b"+5\r\nabcde\r\n"),
    "chunk size minus": chunks(b"-5\r\nabcde\r\n"),
    "chunk size underscore": chunks(b"5_0\r\nabcde\r\n"),
    "chunk size empty": chunks(b"\r\nabcde\r\n"),
    "chunk size blank first": chunks(b" 5\r\nabcde\r\n"),
    "chunk size tab first": chunks(b"\t5\r\nabcde\r\n"),
    "chunk size not hex": chunks(b"g\r\nabcde\r\n"),
    "chunk size overlong": chunks(b"0" * 16 + b"5\r\nabcde\r\n"),
    "chunk size NUL": chunks(b"5\x00\r\nabcde\r\n"),
    "chunk size bare LF": chunks(b"5\nabcde\r\n"),
    "chunk size bare CR": chunks(b"5\rabcde\r\n"),
    "chunk size CR CR": chunks(b"5\r\r\nabcde\r\n"),
    "chunk extension bare LF": chunks(b"5;a\nabcde\r\n"),
    "chunk extension bare CR": chunks(b"5;a\rb\r\nabcde\r\n"),
    "chunk extension NUL": chunks(b"5;a=\x00\r\nabcde\r\n"),
    "chunk extension no semicolon": chunks(b"5 a\r\nabcde\r\n"),
    "chunk extension too long": chunks(b"5;" + b"a" * 300 + b"\r\nabcde\r\n"),
    "chunk data too long": chunks(b"5\r\nabcdefg\r\n"),
    "chunk data too short": chunks(b"5\r\nabc\r\n"),
    "chunk data ends with LF": chunks(b"5\r\nabcde\n"),
    "chunk data ends with CR": chunks(b"5\r\nabcde\rX"),
    "last chunk bare LF": CHUNKED_HEAD + b"0\n\n" + SMUGGLED,
    "trailer bare LF": CHUNKED_HEAD + b"0\r\nX: y\n\r\n" + SMUGGLED,
    "trailer bare CR": CHUNKED_HEAD + b"0\r\nX: y\rZ\r\n\r\n" + SMUGGLED,
    "trailer folded": CHUNKED_HEAD + b"0\r\nX: y\r\n z\r\n\r\n" + SMUGGLED,
    "trailer space colon": CHUNKED_HEAD + b"0\r\nX : y\r\n\r\n" + SMUGGLED,
    "trailer is a request": CHUNKED_HEAD + b"0\r\n" + SMUGGLED,
    "host missing": b"GET / HTTP/1.1\r\n\r\n" + SMUGGLED,
    "host twice": get(b"/", b"Host: b") + SMUGGLED,
    "host invalid": GET.replace(b": a", b": a b") + SMUGGLED,
    "space before first field": GET.replace(b"Host", b" Host") + SMUGGLED,
    "leading bare LF": b"\n" + GET + SMUGGLED,
    "leading bare CR": b"\r" + GET + SMUGGLED,
    "request line tab": GET.replace(b" ", b"\t", 1) + SMUGGLED,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SMUGGLED,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "HTTP/0.9": b"GET /\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("data", SMUGGLING.values(), ids=SMUGGLING)
@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
def test_doubtful_message_is_refused_and_hides_nothing(
    open_wire: type[Wire], data: bytes, size: int
) -> None:
    wire = open_wire(on_complete=echo)
    wire.feed(*(data[start : start + size] for start in range(0, len(data), size)))

    assert [request for request in wire.requests if request.is_complete] == []
    assert wire.statuses == [400]
    assert wire.is_closed()


@pytest.mark.parametrize("coding", [b"identity", b"xchunked", b"gzip, chunked"])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_unknown_coding_hides_nothing(
    open_wire: type[Wire], coding: bytes, size: int
) -> None:
    data = framed(b"Transfer-Encoding: " + coding)
    wire = open_wire(on_complete=echo)
    wire.feed(*(data[start : start + size] for start in range(0, len(data), size)))

    assert wire.requests == []
    assert wire.statuses == [501]
    assert wire.is_closed()


@pytest.mark.parametrize("data", SMUGGLING.values(), ids=SMUGGLING)
def test_doubtful_second_message_leaves_the_first_alone(
    open_wire: type[Wire], data: bytes
) -> None:
    wire = open_wire(on_complete=echo).feed(get(b"/first") + data)

    complete = [request.target for request in wire.requests if request.is_complete]
    assert complete == [b"/first"]
    assert wire.statuses == [200, 400]


def test_content_that_looks_like_a_request_stays_content(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(on_start=echo).feed(post(SMUGGLED)[: -len(SMUGGLED)])
    assert wire.statuses == [200]

    wire.feed(SMUGGLED, get(b"/next"))
    assert [request.target for request in wire.requests] == [b"/", b"/next"]


def test_malformed_chunk_after_the_response_has_begun_closes(
    open_wire: type[Wire],
) -> None:
    wire = open_wire().feed(CHUNKED_HEAD)
    wire.requests[0].stream.send_response(200, [], b"x", more=True)
    wire.feed(b"oops\r\n")

    assert wire.statuses == [200]
    assert wire.transport.is_closing
    assert wire.requests[0].is_lost


def test_malformed_chunk_after_the_response_closes(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=echo).feed(CHUNKED_HEAD)
    wire.feed(b"oops\r\n")

    assert wire.statuses == [200]
    assert wire.transport.is_closing


def test_refusal_says_why_and_goes_to_the_owner(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(b"GET / HTTP/1.1\r\n\r\n")
    head, _, body = wire.take().partition(b"\r\n\r\n")

    assert body == b"0 Host fields in the request, expected one\n"
    assert b"content-length: %d\r\n" % len(body) in head
    assert b"connection: close" in head
    assert wire.refused[0].reason.encode() + b"\n" == body


def test_refusal_of_head_has_no_content(open_wire: type[Wire]) -> None:
    def refuse(head: RequestHead) -> None:
        raise ProtocolError("No", 403, [(b"x-why", b"so")])

    wire = open_wire(refuse=refuse).feed(GET.replace(b"GET", b"HEAD"))

    assert wire.statuses == [403]
    assert b"\r\nx-why: so\r\n" in wire.transport.data
    assert wire.take().endswith(b"\r\n\r\n")


def test_refusal_by_the_owner_starts_nothing(open_wire: type[Wire]) -> None:
    def refuse(head: RequestHead) -> None:
        raise ProtocolError("No", 403)

    wire = open_wire(refuse=refuse).feed(post(b"abc") + GET)

    assert wire.requests == []
    assert wire.statuses == [403]
    assert wire.is_closed()


# Limits.


def test_request_line_limit(open_wire: type[Wire]) -> None:
    line = len(b"GET / HTTP/1.1")
    at_limit = get(b"/" + b"a" * (100 - line))

    assert open_wire(request_line_limit=100, on_start=echo).feed(at_limit).statuses == [
        200
    ]
    over = get(b"/" + b"a" * (101 - line))
    assert open_wire(request_line_limit=100).feed(over).statuses == [414]
    assert open_wire(request_line_limit=100).feed(over[:102]).statuses == [414]


@pytest.mark.parametrize("line_limit", [64, 8192])
def test_header_size_limit(open_wire: type[Wire], line_limit: int) -> None:
    limits: dict[str, Any] = {
        "header_size_limit": 300,
        "request_line_limit": line_limit,
    }
    room = 300 - len(b"Host: a\r\nX: \r\n")
    at_limit = get(b"/", b"X: " + b"y" * room)
    over = get(b"/", b"X: " + b"y" * (room + 1))

    assert open_wire(**limits, on_start=echo).feed(at_limit).statuses == [200]
    assert open_wire(**limits).feed(over).statuses == [431]
    assert open_wire(**limits).feed(over + b"y" * 1000).statuses == [431]


def test_endless_header_field_is_refused_at_the_limit(open_wire: type[Wire]) -> None:
    wire = open_wire(header_size_limit=300).feed(b"GET / HTTP/1.1\r\nX: ")
    wire.feed(*[b"y"] * 300)

    assert wire.statuses == [431]
    assert wire.is_closed()


def test_field_count_limit(open_wire: type[Wire]) -> None:
    wire = open_wire(header_count_limit=2).feed(get(b"/", b"X: 1", b"X: 2"))

    assert wire.statuses == [431]
    assert wire.requests == []


def test_declared_length_over_the_limit_never_reaches_the_application(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(body_size_limit=10, on_start=echo).feed(post(b"x" * 11))

    assert wire.statuses == [413]
    assert wire.requests == []
    assert wire.is_closed()


def test_declared_length_over_the_limit_gets_no_continue(
    open_wire: type[Wire],
) -> None:
    head = post(b"x" * 11, b"Expect: 100-continue")[:-11]

    assert open_wire(body_size_limit=10).feed(head).statuses == [413]


def test_counted_length_over_the_limit_is_refused(open_wire: type[Wire]) -> None:
    wire = open_wire(body_size_limit=10)
    wire.feed(CHUNKED_HEAD + b"a\r\n" + b"x" * 10 + b"\r\n")
    assert wire.requests[0].content == b"x" * 10

    wire.feed(b"1\r\nx\r\n")
    assert wire.statuses == [413]
    assert wire.requests[0].is_lost


def test_trailers_are_bounded(open_wire: type[Wire]) -> None:
    wire = open_wire(header_size_limit=300).feed(CHUNKED_HEAD + b"0\r\n")
    wire.feed(*[b"X: y\r\n"] * 60)

    assert wire.statuses == [431]


def test_content_at_the_limit_is_taken(open_wire: type[Wire]) -> None:
    wire = open_wire(body_size_limit=10, on_complete=echo)
    wire.feed(post(b"x" * 10) + chunked(b"x" * 5, b"x" * 5))

    assert wire.statuses == [200, 200]


# Upgrade.

UPGRADE = get(b"/ws", b"Connection: Upgrade", b"Upgrade: websocket")


@pytest.mark.parametrize("eagerly", [False, True])
def test_bytes_after_the_upgrade_go_to_the_receiver(
    open_wire: type[Wire], eagerly: bool
) -> None:
    receiver = RecordingReceiver()
    wire = open_wire()
    if eagerly:
        wire.on_start = lambda request: _upgrade(request, receiver)
    wire.feed(UPGRADE + b"\x81\x80early")
    if not eagerly:
        _upgrade(wire.requests[0], receiver)
    assert receiver.data == b""

    wire.feed(b"late")
    assert receiver.data == b"\x81\x80earlylate"
    assert len(wire.requests) == 1


def _upgrade(request: Request, receiver: RecordingReceiver) -> None:
    transport = request.stream.upgrade([(b"x", b"y")], receiver)
    assert isinstance(transport, MemoryTransport)


def test_upgrade_response_names_the_protocol(open_wire: type[Wire]) -> None:
    wire = open_wire(server_name="s").feed(UPGRADE)
    _upgrade(wire.requests[0], RecordingReceiver())

    assert wire.take() == (
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n"
        b"upgrade: websocket\r\nx: y\r\nserver: s\r\n\r\n"
    )


def test_end_that_crosses_the_upgrade_is_told_to_the_receiver_once(
    open_wire: type[Wire],
) -> None:
    receiver = RecordingReceiver()
    wire = open_wire().feed(UPGRADE)
    _upgrade(wire.requests[0], receiver)
    # A transport of TLS had named the connection for this before the upgrade.
    wire.connection.connection_lost(None)
    wire.transport.lose()

    assert receiver.events == ["lost"]
    assert wire.ended == [wire.connection]


def test_early_bytes_reach_the_receiver_with_the_next_tick(
    open_wire: type[Wire],
) -> None:
    receiver = RecordingReceiver()
    wire = open_wire().feed(UPGRADE + b"x" * (PIPELINE_LIMIT + 1))
    _upgrade(wire.requests[0], receiver)
    wire.tick(1.0)

    assert len(receiver.data) == PIPELINE_LIMIT + 1
    assert not wire.is_paused()
    assert receiver.events == [("tick", 1.0)]


def test_many_early_bytes_do_not_stop_an_eager_upgrade(open_wire: type[Wire]) -> None:
    receiver = RecordingReceiver()
    wire = open_wire(on_start=lambda request: _upgrade(request, receiver))
    wire.feed(UPGRADE + b"x" * (PIPELINE_LIMIT + 1))
    wire.tick(1.0)

    assert len(receiver.data) == PIPELINE_LIMIT + 1
    assert not wire.is_paused()


def test_upgraded_connection_passes_all_events(open_wire: type[Wire]) -> None:
    receiver = RecordingReceiver()
    wire = open_wire().feed(UPGRADE)
    _upgrade(wire.requests[0], receiver)
    wire.transport.fill()
    wire.transport.drain()
    wire.connection.drain()
    wire.transport.feed_eof()
    wire.transport.lose()

    assert receiver.events == ["pause", "resume", "drain", "eof", "lost"]
    assert wire.ended == [wire.connection]
    assert not wire.requests[0].is_lost


def test_no_timeout_of_http_touches_an_upgraded_connection(
    open_wire: type[Wire],
) -> None:
    receiver = RecordingReceiver()
    wire = open_wire().feed(UPGRADE)
    _upgrade(wire.requests[0], receiver)
    wire.tick(0.0, 1000.0, 2000.0)

    assert not wire.is_closed()


def test_refused_upgrade_keeps_the_connection(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(UPGRADE)
    wire.requests[0].answer(status=403)
    wire.feed(get(b"/2"))

    assert wire.statuses == [403]
    assert wire.requests[1].target == b"/2"


# The end.


def test_lost_connection_is_told_to_exchange_and_owner(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(GET)
    wire.transport.lose(ConnectionResetError())

    assert wire.requests[0].is_lost
    assert wire.ended == [wire.connection]


def test_lost_connection_between_requests_is_told_to_the_owner(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(on_start=echo).feed(GET)
    wire.transport.lose()

    assert not wire.requests[0].is_lost
    assert wire.ended == [wire.connection]


def test_end_of_the_peers_side_closes(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(GET)

    assert not wire.connection.eof_received()  # type: ignore[func-returns-value]


def test_drain_closes_an_idle_connection(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=echo).feed(GET)
    wire.connection.drain()

    assert wire.transport.is_eof_written
    assert wire.feed(GET).statuses == [200]


def test_drain_closes_an_idle_connection_below_tls(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=echo, can_write_eof=False).feed(GET)
    wire.connection.drain()

    assert wire.transport.is_closing


def test_drain_answers_a_request_that_is_not_read_yet(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=echo)
    wire.is_unread = True
    wire.connection.drain()
    assert not wire.is_closed()

    wire.feed(GET)
    assert wire.statuses == [200]
    assert b"connection: close\r\n" in wire.transport.data
    assert wire.is_closed()


@pytest.mark.parametrize("more", [False, True])
def test_drain_lets_a_request_finish(open_wire: type[Wire], more: bool) -> None:
    wire = open_wire().feed(get(b"/1") + get(b"/2"))
    stream = wire.requests[0].stream
    if more:
        stream.send_response(200, [], b"a", more=True)
    wire.connection.drain()
    assert wire.requests[0].events == ["drain"]
    assert not wire.is_closed()

    if more:
        stream.send_data(b"b", more=False)
    else:
        wire.requests[0].answer()
    assert wire.is_closed()
    assert len(wire.requests) == 1


def test_drain_answers_a_request_that_is_arriving(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=echo).feed(GET[:10])
    wire.connection.drain()
    wire.feed(GET[10:])

    assert wire.statuses == [200]
    assert b"connection: close\r\n" in wire.transport.data
    assert wire.is_closed()


def test_drain_ends_a_connection_that_drops_content(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=echo).feed(post(b"x" * 100)[:-50])
    wire.connection.drain()

    assert wire.transport.is_eof_written
    assert wire.feed(b"x" * 50 + GET).statuses == [200]


def test_writing_is_told_to_the_exchange(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(GET)
    wire.transport.fill()
    states = [wire.requests[0].stream.is_writable]
    wire.transport.drain()
    states.append(wire.requests[0].stream.is_writable)

    assert states == [False, True]
    assert wire.requests[0].events == ["pause", "resume"]


def test_abort_drops_the_connection(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.connection.abort_transport()

    assert wire.transport.is_aborted


# However the bytes are cut, the outcome is the same.

SEQUENCES = {
    "pipelined": get(b"/1") + post(b"two") + chunked(b"thr", b"ee") + get(b"/4"),
    "empty lines": b"\r\n\r\n" + get(b"/1") + b"\r\n" + post(b"x\r\n") + b"\r\n",
    "extensions": chunked().replace(
        b"0\r\n", b"3;a=b \r\nabc\r\n5\t;c\r\nabcde\r\n0\r\n"
    ),
    "trailers": chunked(b"x", trailers=b"A: b\r\nC:\r\n") + get(b"/2"),
    "close": get(b"/1", b"Connection: close") + get(b"/2"),
    "1.0": get(b"/1", version=b"1.0") + get(b"/2"),
    "expect": post(b"abc", b"Expect: 100-continue") + get(b"/2"),
    "incomplete": get(b"/1") + post(b"abc")[:-1],
    "long line": get(b"/" + b"a" * 9000) + get(b"/2"),
    "long field": get(b"/", b"X: " + b"y" * 70000) + get(b"/2"),
    "large": post(b"x" * 70) + get(b"/2"),
    "large chunks": chunked(b"x" * 40, b"x" * 40) + get(b"/2"),
}


@pytest.mark.parametrize(
    "data", [*SEQUENCES.values(), *SMUGGLING.values()], ids=[*SEQUENCES, *SMUGGLING]
)
@given(cuts=st.sets(st.integers(min_value=1), max_size=12))
def test_outcome_is_the_same_for_every_cut(
    open_wire: type[Wire], data: bytes, cuts: set[int]
) -> None:
    whole = open_wire(on_complete=echo, body_size_limit=60)
    parts = open_wire(on_complete=echo, body_size_limit=60)
    whole.feed(data)
    parts.feed(*split(data, cuts))

    if whole.refused:
        # How much of the request came through before its fault arrived may differ.
        assert [r.target for r in parts.requests if r.is_complete] == [
            r.target for r in whole.requests if r.is_complete
        ]
        assert parts.outcome[1:] == whole.outcome[1:]
    else:
        assert parts.outcome == whole.outcome


@given(data=st.binary(max_size=200), cuts=st.sets(st.integers(min_value=1)))
def test_garbage_never_raises(
    open_wire: type[Wire], data: bytes, cuts: set[int]
) -> None:
    wire = open_wire(on_complete=echo).feed(*split(data, cuts))

    assert set(wire.statuses) <= {200, 400, 414, 417, 431, 501}


@given(
    data=st.lists(
        st.sampled_from(
            [
                b"GET ",
                b"POST ",
                b"/",
                b"*",
                b" HTTP/1.1",
                b" HTTP/1.0",
                b"\r\n",
                b"\r",
                b"\n",
                b"Host: a",
                b"Content-Length: 3",
                b"Transfer-Encoding: chunked",
                b"Connection: close",
                b"3",
                b"abc",
                b"0",
                b" ",
                b":",
                b";",
                b"\x00",
                b"\r\n\r\n",
            ]
        ),
        max_size=40,
    )
)
def test_pieces_of_requests_never_raise(
    open_wire: type[Wire], data: list[bytes]
) -> None:
    wire = open_wire(on_complete=echo).feed(*data)

    assert len(wire.statuses) <= len(wire.requests) + 1
    assert len(wire.refused) <= 1


# The preface of HTTP/2 (RFC 9113 section 3.4).


class HTTP2:
    """What takes the connection over."""

    def __init__(self) -> None:
        self.data = b""
        self.losses: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def tick(self, now: float) -> None: ...
    def drain(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        self.losses.append(exc)


def open_both(open_wire: type[Wire]) -> tuple[Wire, HTTP2]:
    wire = open_wire()
    wire.http2 = http2 = HTTP2()
    return wire, http2


@given(cuts=st.lists(st.integers(1, len(HTTP2_PREFACE) + 3)))
def test_preface_in_any_pieces_hands_the_connection_over(
    open_wire: type[Wire], cuts: list[int]
) -> None:
    wire, http2 = open_both(open_wire)
    data = HTTP2_PREFACE + b"more"
    edges = [0, *sorted(set(cuts)), len(data)]
    wire.feed(*[data[a:b] for a, b in pairwise(edges) if a < b])

    assert http2.data == data
    assert wire.transport.receiver is http2
    assert wire.statuses == []
    assert wire.refused == []
    assert not wire.is_closed()


@pytest.mark.parametrize(
    "data",
    [
        b"PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\nHost: a\r\n\r\nSM\r\n\r\n",
        b"\r\n" + HTTP2_PREFACE,
        b"GET * HTTP/2.0\r\n\r\n",
    ],
)
def test_what_only_resembles_it_is_refused(open_wire: type[Wire], data: bytes) -> None:
    wire, http2 = open_both(open_wire)
    wire.feed(data)

    assert http2.data == b""
    assert len(wire.statuses) == 1
    assert wire.is_closed()


def test_preface_after_a_request_is_refused(open_wire: type[Wire]) -> None:
    wire, http2 = open_both(open_wire)
    wire.on_complete = lambda request: request.answer()
    wire.feed(GET + HTTP2_PREFACE)

    assert http2.data == b""
    assert wire.statuses[0] == 200
    assert len(wire.statuses) == 2


def silent(wire: Wire) -> None:
    """Say nothing: the peer has only connected."""


def begun(wire: Wire) -> None:
    wire.feed(HTTP2_PREFACE[:10])


@pytest.mark.parametrize("begin", [silent, begun])
def test_peer_that_never_ends_its_preface_is_closed(
    open_wire: type[Wire], begin: Callable[[Wire], None]
) -> None:
    wire, http2 = open_both(open_wire)
    begin(wire)
    wire.tick(0.0, 1.0, 100.0, 101.0, 200.0, 201.0)

    assert wire.is_closed()
    assert http2.data == b""


def test_preface_that_was_begun_is_taken_after_a_drain(
    open_wire: type[Wire],
) -> None:
    wire, http2 = open_both(open_wire)
    begun(wire)
    wire.connection.drain()
    wire.feed(HTTP2_PREFACE[10:])

    assert http2.data == HTTP2_PREFACE


def test_end_that_crosses_the_change_is_told_to_both(
    open_wire: type[Wire],
) -> None:
    wire, http2 = open_both(open_wire)
    wire.feed(HTTP2_PREFACE)
    # A transport may have named its receiver for this before.
    error = ConnectionResetError()
    wire.connection.connection_lost(error)

    assert http2.losses == [error]
    assert wire.ended == [wire.connection]


TINY = b"1\r\nx\r\n"
CHUNKED_HEAD = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_many_chunks_are_read_in_several_turns(open_wire: type[Wire]) -> None:
    wire = open_wire(on_complete=echo)
    wire.transport.feed(CHUNKED_HEAD + TINY * 5000 + b"0\r\n\r\n" + get(b"/b"))
    sizes = []
    while wire.soon:
        assert wire.is_paused()
        assert wire.connection.held_size > 0
        sizes.append(len(wire.requests[0].content))
        wire.turn()

    assert sizes == [1024, 2048, 3072, 4096]
    assert wire.requests[0].content == b"x" * 5000
    assert wire.statuses == [200, 200]
    assert not wire.is_paused()


def test_what_waits_for_its_turn_ends_with_the_connection(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.transport.feed(CHUNKED_HEAD + TINY * 5000)
    wire.connection.connection_lost(None)
    wire.turn()

    assert len(wire.requests[0].content) == 1024
    assert not wire.soon


def test_application_that_pauses_reading_is_heeded_after_the_turn(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.transport.feed(CHUNKED_HEAD + TINY * 1500)
    wire.connection.pause_reading()
    wire.turn()

    assert len(wire.requests[0].content) == 1500
    assert wire.is_paused()


def test_many_empty_lines_are_refused(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(b"\r\n" * 3000)

    assert wire.statuses == [400]
    assert not wire.requests
