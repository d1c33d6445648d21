"""Response heads and the framing that they promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.errors import ApplicationError
from djserve.interfaces import Headers, RequestHead, Stream
from djserve.protocols.http1 import response
from djserve.protocols.http1.response import (
    Framing,
    ResponseDefaults,
    ResponseHead,
    build_informational,
    build_response_head,
    build_trailers,
    encode_head,
)

if TYPE_CHECKING:
    from tests.protocols.http1.conftest import Wire


def build(
    headers: Any = (),
    *,
    status: int = 200,
    length: int | None = None,
    method: str = "GET",
    version: str = "1.1",
    defaults: ResponseDefaults | None = None,
) -> ResponseHead:
    return build_response_head(
        RequestHead(method, b"/", b"", [], version),
        status,
        encode_head(status, headers),
        length,
        defaults or ResponseDefaults(""),
    )


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (404, b"HTTP/1.1 404 Not Found\r\n"),
        (299, b"HTTP/1.1 299 \r\n"),
        (999, b"HTTP/1.1 999 \r\n"),
    ],
)
def test_status_line(status: int, line: bytes) -> None:
    assert build(status=status, length=0).data.startswith(line)


@pytest.mark.parametrize("status", [99, 1000, "200", 200.5, None, b"200"])
def test_status_that_is_none_is_refused(status: Any) -> None:
    with pytest.raises(ApplicationError, match="Status must be"):
        build(status=status)


def test_fields_keep_order_and_case() -> None:
    head = build([(b"X-B", b"1"), (b"x-a", b"2"), (b"X-B", b"3")], length=0)

    assert b"\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\n" in head.data


@pytest.mark.parametrize(
    ("options", "framing", "field"),
    [
        ({"length": 5}, Framing.LENGTH, b"content-length: 5"),
        ({"length": 0}, Framing.LENGTH, b"content-length: 0"),
        ({}, Framing.CHUNKED, b"transfer-encoding: chunked"),
        ({"length": 5, "version": "1.0"}, Framing.LENGTH, b"content-length: 5"),
        ({"version": "1.0"}, Framing.CLOSE, None),
        ({"method": "HEAD"}, Framing.NONE, None),
        ({"method": "HEAD", "length": 5}, Framing.NONE, None),
        ({"status": 204}, Framing.NONE, None),
        ({"status": 205}, Framing.NONE, b"content-length: 0"),
        ({"status": 205, "length": 5}, Framing.NONE, b"content-length: 0"),
        ({"status": 304}, Framing.NONE, None),
        ({"status": 304, "version": "1.0"}, Framing.NONE, None),
    ],
)
def test_framing_fits_request_and_status(
    options: dict[str, Any], framing: Framing, field: bytes | None
) -> None:
    head = build(**options)

    assert head.framing is framing
    assert head.data.split(b"\r\n")[1:-1] == ([] if field is None else [field])
    assert head.close is (framing is Framing.CLOSE)


@pytest.mark.parametrize(
    "options", [{}, {"method": "HEAD"}, {"status": 304}, {"version": "1.0"}]
)
def test_given_length_is_kept(options: dict[str, Any]) -> None:
    head = build([(b"Content-Length", b"7")], **options)

    assert head.data.count(b"ontent-") == 1
    assert b"\r\nContent-Length: 7\r\n" in head.data
    assert b"transfer-encoding" not in head.data
    assert not head.close


def test_no_content_has_no_length() -> None:
    assert b"ength" not in build([(b"Content-Length", b"0")], status=204).data


def test_reset_content_has_the_length_of_nothing() -> None:
    # RFC 9110 section 15.3.6.
    data = build([(b"Content-Length", b"7")], status=205).data

    assert data.lower().count(b"content-length") == 1
    assert b"\r\ncontent-length: 0\r\n" in data


def test_upgrade_is_offered_as_the_application_does() -> None:
    assert b"\r\nUpgrade: TLS/1.3\r\n" in build([(b"Upgrade", b"TLS/1.3")]).data


def test_length_that_contradicts_the_content_is_refused() -> None:
    with pytest.raises(
        ApplicationError, match="Content-Length is 7, the content has 5"
    ):
        build([(b"content-length", b"7")], length=5)


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"+1", b"1_0", b"0x1", b"1.0", b"1, 1", b"x"]
)
def test_malformed_length_is_refused(value: bytes) -> None:
    with pytest.raises(ApplicationError, match="Content-Length must be"):
        build([(b"content-length", value)])


def test_repeated_length_is_refused() -> None:
    with pytest.raises(ApplicationError, match="given once"):
        build([(b"content-length", b"5"), (b"Content-Length", b"5")], length=5)


@pytest.mark.parametrize(
    "name",
    [b"Transfer-Encoding", b"Connection", b"Keep-Alive", b"Proxy-Connection"],
)
def test_fields_of_the_connection_are_the_servers(name: bytes) -> None:
    assert build([(name, b"x")], length=0).data == build(length=0).data


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"close", True), (b"x, Close", True), (b"keep-alive", False), (b"closed", False)],
)
def test_application_may_ask_for_the_end(value: bytes, expected: bool) -> None:
    assert build([(b"Connection", value)]).close is expected


def test_date_and_server_are_added() -> None:
    defaults = ResponseDefaults("name")
    defaults.set_date(b"today")

    assert build(defaults=defaults).end == b"date: today\r\nserver: name\r\n\r\n"


@pytest.mark.parametrize(
    ("names", "end"),
    [
        ([b"Date"], b"server: name\r\n\r\n"),
        ([b"Server"], b"date: today\r\n\r\n"),
        ([b"Date", b"Server"], b"\r\n"),
        ([b"Server", b"Date"], b"\r\n"),
    ],
)
def test_the_applications_date_and_server_win(names: list[bytes], end: bytes) -> None:
    defaults = ResponseDefaults("name")
    defaults.set_date(b"today")
    head = build([(name, b"mine") for name in names], length=0, defaults=defaults)

    assert head.end == end
    assert head.data.count(b": mine\r\n") == len(names)


def test_server_may_be_left_out() -> None:
    defaults = ResponseDefaults("")
    defaults.set_date(b"today")

    assert build(defaults=defaults).end == b"date: today\r\n\r\n"
    assert build([(b"server", b"x")], defaults=defaults).end == b"date: today\r\n\r\n"


def test_any_iterable_of_pairs_is_taken() -> None:
    expected = build([(b"a", b"b")], length=0).data

    assert build([[b"a", b"b"]], length=0).data == expected
    assert build(iter([(b"a", b"b")]), length=0).data == expected
    assert build(((b"a", memoryview(b"b")),), length=0).data == expected


@given(
    headers=st.lists(
        st.tuples(
            st.one_of(st.binary(max_size=9), st.just(b"x-any"), st.just(b"Vary")),
            st.binary(max_size=20),
        )
    )
)
def test_head_has_just_its_own_line_ends(headers: Headers) -> None:
    try:
        data = build(headers).data
    except ApplicationError:
        return
    lines = data.split(b"\r\n")

    assert data.count(b"\r") == data.count(b"\n") == len(lines) - 1
    assert b"\0" not in data
    assert lines.index(b"") == len(lines) - 1


@given(
    headers=st.lists(st.tuples(st.sampled_from([b"a", b"te"]), st.binary(max_size=9)))
)
def test_interim_heads_and_trailers_are_as_safe(headers: Headers) -> None:
    for write in (build_trailers, lambda fields: build_informational(103, fields)):
        try:
            data = write(headers)
        except ApplicationError:
            continue
        assert data.count(b"\r") == data.count(b"\n") == len(headers) + 2
        assert data.endswith(b"\r\n\r\n")
        assert b"\0" not in data


def test_interim_response() -> None:
    assert build_informational(103, [(b"link", b"<a>")]) == (
        b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n"
    )


def test_trailer_section() -> None:
    assert build_trailers([(b"X-Sum", b"1")]) == b"0\r\nX-Sum: 1\r\n\r\n"
    assert build_trailers([]) == b"0\r\n\r\n"


@pytest.mark.parametrize(
    "name", [b"Content-Length", b"transfer-encoding", b"Connection"]
)
def test_framing_in_trailers_is_refused(name: bytes) -> None:
    with pytest.raises(ApplicationError, match="not allowed in a trailer"):
        build_trailers([(name, b"1")])


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
TE_TRAILERS = GET.replace(b"\r\n\r\n", b"\r\nTE: gzip, Trailers\r\n\r\n")


def stream_of(wire: Wire, data: bytes = GET) -> Stream:
    wire.feed(data)
    return wire.requests[-1].stream


def length(size: int) -> Headers:
    return [(b"content-length", b"%d" % size)]


KINDS = [
    (status, headers, content, line, version)
    for status in (200, 204, 304, 404)
    for headers in (
        [],
        [*length(3), (b"Vary", b"Cookie")],
        [(b"connection", b"close")],
        [(b"date", b"mine"), *length(3)],
    )
    for content in (b"", b"abc")
    for line in (b"GET", b"HEAD")
    for version in (b"1.1", b"1.0")
]


@pytest.mark.parametrize(("status", "headers", "content", "line", "version"), KINDS)
def test_response_is_the_same_however_often_its_head_was_sent(
    open_wire: type[Wire],
    status: int,
    headers: Headers,
    content: bytes,
    line: bytes,
    version: bytes,
) -> None:
    def answer() -> object:
        wire = open_wire(server_name="s")
        wire.defaults.set_date(b"today")
        stream = stream_of(wire, GET.replace(b"GET", line).replace(b"1.1", version))
        try:
            stream.send_response(status, list(headers), content, more=False)
        except ApplicationError as error:
            return str(error)
        return wire.take(), wire.is_closed()

    response._known_heads.clear()

    assert len({answer() for _ in range(3)}) == 1


def test_fields_of_one_response_are_not_those_of_the_next(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    headers: list[Any] = [(b"vary", b"a"), *length(0)]
    for value in (b"a", b"a", b"b", b"a"):
        headers[0] = (b"vary", value)
        stream_of(wire).send_response(200, headers, b"", more=False)

        assert b"\r\nvary: " + value + b"\r\n" in wire.take()


def test_heads_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "_KNOWN_HEADS_LIMIT", 3)
    response._known_heads.clear()
    for size in range(9):
        for _ in range(2):
            encode_head(200, length(size))

        assert 0 < len(response._known_heads) <= 3


@pytest.mark.parametrize(
    "field",
    [(b"set-cookie", b"a=b"), (b"etag", b'"a"'), [b"vary", b"a"], (b"date", b"a")],
)
def test_head_with_what_does_not_repeat_is_not_kept(field: Any) -> None:
    response._known_heads.clear()
    for _ in range(3):
        encode_head(200, [(b"vary", b"a"), field])

    assert not response._known_heads


def test_whole_response_is_one_write(open_wire: type[Wire]) -> None:
    wire = open_wire(server_name="s")
    stream_of(wire).send_response(200, [(b"x", b"y")], b"abc", more=False)

    assert wire.transport.writes == [
        b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 3\r\nserver: s\r\n\r\nabc"
    ]


@pytest.mark.parametrize("headers", [[], length(3)])
def test_last_response_of_a_connection_says_so_in_the_same_write(
    open_wire: type[Wire], headers: Headers
) -> None:
    wire = open_wire(server_name="s")
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    stream_of(wire, last).send_response(200, headers, b"abc", more=False)

    assert wire.transport.writes == [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n"
        b"server: s\r\n\r\nabc"
    ]
    assert wire.is_closed()


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


def parts_of(wire: Wire) -> tuple[Stream, list[bytes]]:
    """Begin a response of unknown length; return what is written after its head."""
    wire.now = 1000.0
    stream = stream_of(wire)
    stream.send_response(200, [], b"", more=True)
    wire.now += 1
    wire.transport.writes.clear()
    return stream, wire.transport.writes


A, B, C = b"1\r\na\r\n", b"1\r\nb\r\n", b"1\r\nc\r\n"


def send_parts(wire: Wire, stream: Stream, *parts: bytes, later: float = 1.0) -> None:
    """Send parts within a turn, and let it end; ``later`` begins the next one."""
    for data in parts:
        stream.send_data(data, more=True)
    wire.turn()
    assert wire.now is not None
    wire.now += later


def test_parts_of_one_turn_leave_in_one_write(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream, writes = parts_of(wire)
    for _ in range(3):
        send_parts(wire, stream, b"a", b"b", b"c")

    # The first is sent before anything tells that others come.
    assert writes == [A, B + C, A + B + C, A + B + C]


def test_parts_that_come_one_by_one_are_written_at_once(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream, writes = parts_of(wire)
    for _ in range(3):
        stream.send_data(b"a", more=True)
        assert not wire.soon
        assert wire.now is not None
        wire.now += 0.01

    assert writes == [A, A, A]


def test_parts_with_the_head_leave_in_two_writes(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.now = 1000.0
    stream = stream_of(wire)
    stream.send_response(200, [], b"", more=True)
    send_parts(wire, stream, b"a", b"b", b"c")

    assert wire.transport.writes[1:] == [A + B + C]


def test_flood_of_one_part_in_each_turn_is_seldom_held_up(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    stream, writes = parts_of(wire)
    held = 0
    for _ in range(1000):
        stream.send_data(b"a", more=True)
        held += bool(wire.soon)
        wire.turn()
        assert wire.now is not None
        wire.now += 0.0001

    assert writes == [A] * 1000
    # Two of 130, however fast they come.
    assert 1 <= held <= 16


def test_part_that_comes_alone_after_several_ends_the_waiting(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    stream, writes = parts_of(wire)
    for parts in ((b"a", b"b"), (b"a", b"b"), (b"a",), (b"a",)):
        send_parts(wire, stream, *parts)
    stream.send_data(b"c", more=True)

    assert writes == [A, B, A + B, A, A, C]
    assert not wire.soon


def test_parts_wait_for_no_turn_before_turns_are_known_to_be_short(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.timing.are_short = False
    stream, writes = parts_of(wire)
    for _ in range(2):
        send_parts(wire, stream, b"a", b"b", b"c")

    assert writes == [A, B, C, A + B + C]


def test_application_that_blocks_the_loop_between_events_has_none_held_back(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.timing.are_short = False
    stream, writes = parts_of(wire)
    for _ in range(3):
        stream.send_data(b"a", more=True)
        stream.send_data(b"b", more=True)
        assert writes == [A, B]
        writes.clear()
        # It computes, in the same turn.
        assert wire.now is not None
        wire.now += 0.5
    wire.turn()
    send_parts(wire, stream, b"a", b"b")

    assert writes == [A, B]


@pytest.mark.parametrize("ends_turn", [True, False])
def test_long_turn_lets_no_part_of_any_response_wait_for_a_while(
    open_wire: type[Wire], ends_turn: bool
) -> None:
    wire = open_wire()
    stream, writes = parts_of(wire)
    stream.send_data(b"a", more=True)
    stream.send_data(b"b", more=True)
    assert writes == [A]
    wire.now = 1001.5
    if ends_turn:
        wire.turn()
    stream.send_data(b"c", more=True)
    stream.send_data(b"", more=False)
    wire.turn()
    assert b"".join(writes) == A + B + C + b"0\r\n\r\n"

    stream, writes = parts_of(wire)
    send_parts(wire, stream, b"a", b"b")
    send_parts(wire, stream, b"a", b"b", later=20)
    assert writes == [A, B, A, B]
    for _ in range(2):
        send_parts(wire, stream, b"a", b"b")
    assert writes[4:] == [A, B, A + B]


def test_long_parts_ask_for_no_end_of_a_turn(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream, writes = parts_of(wire)
    for _ in range(3):
        stream.send_data(bytes(20_000), more=True)

    assert len(writes) == 3
    assert not wire.soon


def test_waiting_parts_leave_with_the_end(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream, writes = parts_of(wire)
    for data in (b"a", b"b", b"c"):
        stream.send_data(data, more=True)
    stream.send_data(b"", more=False)
    wire.turn()

    assert writes == [A, B + C + b"0\r\n\r\n"]


def test_waiting_parts_leave_with_the_trailers(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.now = 1000.0
    stream = stream_of(wire, TE_TRAILERS)
    stream.send_response(200, [], b"", more=True)
    stream.send_data(b"a", more=True)
    stream.send_trailers([(b"x-sum", b"1")])
    wire.turn()

    assert wire.transport.writes[1:] == [A + b"0\r\nx-sum: 1\r\n\r\n"]


def test_waiting_parts_leave_before_a_response_is_broken_off(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    stream, writes = parts_of(wire)
    stream.send_data(b"a", more=True)
    stream.send_data(b"b", more=True)
    stream.abort()
    wire.turn()

    assert writes == [A, B]
    assert wire.transport.is_closing


def test_waiting_parts_leave_before_a_request_is_refused(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    wire.now = 1000.0
    stream = wire.requests[0].stream
    stream.send_response(200, [], b"", more=True)
    stream.send_data(b"a", more=True)
    wire.transport.feed(b"xyz\r\n")
    wire.turn()

    assert wire.transport.writes[1:] == [A]
    assert wire.transport.is_closing


def test_waiting_parts_are_dropped_with_the_connection(open_wire: type[Wire]) -> None:
    wire = open_wire()
    stream, writes = parts_of(wire)
    stream.send_data(b"a", more=True)
    stream.send_data(b"b", more=True)
    wire.transport.lose()
    wire.transport.is_closing = False
    wire.turn()

    assert writes == [A]


@given(
    parts=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 5000, 16_000, 40_000, 70_000]),
            st.sampled_from([None, 0.0001, 0.01, 1.0]),
        )
    ),
    last=st.sampled_from([0, 1, 20_000]),
    is_counted=st.booleans(),
)
def test_parts_arrive_in_order_and_none_waits_longer_than_its_turn(
    open_wire: type[Wire],
    parts: list[tuple[int, float | None]],
    last: int,
    is_counted: bool,
) -> None:
    wire = open_wire()
    wire.now = 1000.0
    stream = stream_of(wire)
    headers = length(sum(size for size, _ in parts) + last) if is_counted else []
    stream.send_response(200, headers, b"", more=True)
    wire.take()
    content = b""
    for number, (size, later) in enumerate(parts):
        data = bytes([number % 256]) * size
        content += data if is_counted else b"%x\r\n%b\r\n" % (size, data) * (size > 0)
        stream.send_data(data, more=True)
        assert len(content) - len(wire.transport.data) <= 64 * 1024
        if later is not None:
            wire.turn()
            wire.now += later
            assert wire.transport.data == content
    data = b"z" * last
    stream.send_data(data, more=False)
    wire.turn()

    if not is_counted:
        data = b"%x\r\n%b\r\n" % (last, data) * (last > 0) + b"0\r\n\r\n"
    assert wire.take() == content + data


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
