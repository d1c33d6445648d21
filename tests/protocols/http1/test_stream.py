"""The response's side: framing on the wire, and what contradicts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from djserve.errors import ApplicationError
from djserve.interfaces import Headers, Stream

if TYPE_CHECKING:
    from tests.protocols.http1.conftest import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
TE_TRAILERS = GET.replace(b"\r\n\r\n", b"\r\nTE: gzip, Trailers\r\n\r\n")


def stream_of(wire: Wire, data: bytes = GET) -> Stream:
    wire.feed(data)
    return wire.requests[-1].stream


def length(size: int) -> Headers:
    return [(b"content-length", b"%d" % size)]


def test_whole_response_is_one_write(open_wire: type[Wire]) -> None:
    wire = open_wire(server_name="s")
    stream_of(wire).send_response(200, [(b"x", b"y")], b"abc", more=False)

    assert wire.transport.writes == [
        b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 3\r\nserver: s\r\n\r\nabc"
    ]


def test_large_content_is_not_copied_behind_its_head(open_wire: type[Wire]) -> None:
    wire = open_wire()
    content = b"x" * 100_000
    stream_of(wire).send_response(200, [], content, more=False)

    assert len(wire.transport.writes) == 2
    assert wire.take().endswith(b"\r\n\r\n" + content)


def test_content_of_unknown_length_is_chunked(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream = stream_of(wire)
    stream.send_response(200, [], b"abc", more=True)
    stream.send_data(b"", more=True)
    stream.send_data(b"d" * 16, more=True)
    stream.send_data(b"", more=False)

    head, _, content = wire.take().partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert content == b"3\r\nabc\r\n10\r\n" + b"d" * 16 + b"\r\n0\r\n\r\n"
    assert not wire.is_closed()


def test_last_chunk_and_end_are_one_write(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream = stream_of(wire)
    stream.send_response(200, [], b"", more=True)
    wire.take()
    stream.send_data(b"abc", more=False)

    assert wire.transport.writes[1:] == [b"3\r\nabc\r\n0\r\n\r\n"]


def test_content_of_given_length_is_plain(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream = stream_of(wire)
    stream.send_response(200, length(6), b"ab", more=True)
    stream.send_data(b"cd", more=True)
    stream.send_data(b"ef", more=False)

    assert wire.take().endswith(b"content-length: 6\r\n\r\nabcdef")
    assert not wire.is_closed()


def test_http_1_0_content_of_unknown_length_ends_with_the_connection(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    request = GET.replace(b"1.1", b"1.0").replace(
        b"\n\r", b"\nConnection: keep-alive\r\n\r"
    )
    stream = stream_of(wire, request)
    stream.send_response(200, [], b"ab", more=True)
    stream.send_data(b"cd", more=False)

    assert wire.take() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcd"
    assert wire.transport.is_closing


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"HEAD", 200), (b"GET", 204), (b"GET", 304), (b"HEAD", 404)],
)
def test_response_without_content_has_none(
    open_wire: type[Wire], request_line: bytes, status: int
) -> None:
    wire = open_wire()
    stream = stream_of(wire, GET.replace(b"GET", request_line))
    stream.send_response(status, [], b"abc", more=True)
    stream.send_data(b"def", more=True)
    stream.send_data(b"", more=False)

    assert wire.take().endswith(b"\r\n\r\n")
    assert not wire.is_closed()
    assert stream_of(wire) is not None


def test_head_keeps_the_length_of_get(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream = stream_of(wire, GET.replace(b"GET", b"HEAD"))
    stream.send_response(200, length(5), b"", more=False)

    assert wire.take().endswith(b"\r\ncontent-length: 5\r\n\r\n")


@pytest.mark.parametrize("more", [False, True])
def test_too_much_content_at_once_is_refused(open_wire: type[Wire], more: bool) -> None:
    wire = open_wire()
    with pytest.raises(ApplicationError, match=r"[Cc]ontent"):
        stream_of(wire).send_response(200, length(2), b"abc", more=more)

    assert wire.take() == b""


def test_too_much_content_later_is_refused(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream = stream_of(wire)
    stream.send_response(200, length(5), b"abc", more=True)
    with pytest.raises(ApplicationError, match=r"3 bytes .* room for 2"):
        stream.send_data(b"def", more=True)

    assert wire.take().endswith(b"\r\n\r\nabc")


def test_too_little_content_is_refused(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream = stream_of(wire)
    stream.send_response(200, length(5), b"abc", more=True)
    with pytest.raises(ApplicationError, match="ends 1 bytes short"):
        stream.send_data(b"d", more=False)

    assert wire.take().endswith(b"\r\n\r\nabc")


def test_trailers_go_to_a_peer_that_takes_them(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream = stream_of(wire, TE_TRAILERS)
    stream.send_response(200, [], b"abc", more=True)
    stream.send_trailers([(b"x-sum", b"1")])

    assert wire.take().endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n")
    assert not wire.is_closed()


@pytest.mark.parametrize("te", [b"", b"TE: gzip\r\n", b"TE: xtrailers\r\n"])
def test_trailers_are_left_out_elsewhere(open_wire: type[Wire], te: bytes) -> None:
    wire = open_wire()
    stream = stream_of(wire, GET[:-2] + te + b"\r\n")
    stream.send_response(200, [], b"abc", more=True)
    stream.send_trailers([(b"x-sum", b"1")])

    assert wire.take().endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


def test_trailers_after_a_given_length_are_left_out(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream = stream_of(wire, TE_TRAILERS)
    stream.send_response(200, length(3), b"abc", more=True)
    stream.send_trailers([(b"x-sum", b"1")])

    assert wire.take().endswith(b"\r\n\r\nabc")
    assert not wire.is_closed()


def test_early_hints_come_before_the_response(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream = stream_of(wire)
    stream.send_informational(103, [(b"link", b"<a>")])
    stream.send_informational(103, [(b"link", b"<b>")])
    stream.send_response(200, [], b"", more=False)

    assert wire.statuses == [103, 103, 200]


def test_http_1_0_gets_no_interim_response(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream = stream_of(wire, GET.replace(b"1.1", b"1.0"))
    stream.send_informational(103, [(b"link", b"<a>")])

    assert wire.take() == b""


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        (b"1.1", set()),
        (b"1.0", {"http.response.early_hint", "http.response.trailers"}),
    ],
)
def test_extensions_are_what_works(
    open_wire: type[Wire], version: bytes, missing: set[str]
) -> None:
    stream = stream_of(open_wire(), GET.replace(b"1.1", version))

    assert (
        stream.extensions.keys()
        == {
            "http.response.early_hint",
            "http.response.pathsend",
            "http.response.trailers",
            "http.response.zerocopysend",
        }
        - missing
    )


@pytest.mark.parametrize(
    ("version", "headers", "is_aborted"),
    [(b"1.1", [], False), (b"1.1", length(9), False), (b"1.0", [], True)],
)
def test_broken_off_response_never_looks_complete(
    open_wire: type[Wire], version: bytes, headers: Headers, is_aborted: bool
) -> None:
    wire = open_wire()
    stream = stream_of(wire, GET.replace(b"1.1", version))
    stream.send_response(200, headers, b"abc", more=True)
    stream.abort()

    assert not wire.take().endswith(b"0\r\n\r\n")
    assert wire.transport.is_closing
    assert wire.transport.is_aborted is wire.is_reset is is_aborted


def test_response_head_that_cannot_be_sent_writes_nothing(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    stream = stream_of(wire)
    with pytest.raises(ApplicationError):
        stream.send_response(200, [(b"a", b"b\r\nc: d")], b"", more=False)
    assert wire.take() == b""

    stream.send_response(500, [], b"", more=False)
    assert wire.statuses == [500]
