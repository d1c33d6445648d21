"""Request heads: what is taken, and what is refused with which status."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from djserve.conf.schema import HTTPConfig
from djserve.errors import ProtocolError
from djserve.interfaces import RequestHead
from djserve.protocols.http1 import request
from djserve.protocols.http1.request import (
    HeadLimits,
    HeadParser,
    HeadReader,
    skip_empty_lines,
)


def parse(
    *fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"a"
) -> RequestHead:
    return HeadParser(HTTPConfig(), HeadReader()).parse(
        build(*fields, line=line, host=host)
    )


def build(
    *fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"a"
) -> bytes:
    lines = [line, *([] if host is None else [b"Host: " + host]), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def status_of(block: bytes) -> int:
    with pytest.raises(ProtocolError) as caught:
        HeadParser(HTTPConfig(), HeadReader()).parse(block)
    return caught.value.status


def keeps_alive(*fields: bytes, version: bytes = b"1.1") -> bool:
    parser = HeadParser(HTTPConfig(), HeadReader())
    parser.parse(build(*fields, line=b"GET / HTTP/" + version))
    return parser.keep_alive


def test_head_is_split_into_its_parts() -> None:
    head = parse(b"X-One: 1", line=b"GET /a%20b?c=d?e HTTP/1.1")

    assert (head.method, head.raw_path, head.query) == ("GET", b"/a%20b", b"c=d?e")
    assert head.http_version == "1.1"
    assert head.headers == [(b"host", b"a"), (b"x-one", b"1")]
    assert not head.has_body
    assert head.upgrade is None


def test_names_are_lowered_and_values_trimmed() -> None:
    head = parse(b"X-One: \t1 \t2\t ", b"X-ONE:", b"x-one: \xe9")

    assert head.headers[1:] == [
        (b"x-one", b"1 \t2"),
        (b"x-one", b""),
        (b"x-one", b"\xe9"),
    ]


def test_names_with_underscore_are_dropped() -> None:
    head = parse(b"X_Forwarded_For: 1", b"Content_Length: 5", b"Host_: b")

    assert head.headers == [(b"host", b"a")]
    assert not head.has_body


@pytest.mark.parametrize(
    ("fields", "version", "expected"),
    [
        ((), b"1.1", True),
        ((b"Connection: keep-alive",), b"1.1", True),
        ((b"Connection: close",), b"1.1", False),
        ((b"Connection: x, CLOSE",), b"1.1", False),
        ((b"Connection: keep-alive", b"Connection: close"), b"1.1", False),
        ((b"Connection: closed",), b"1.1", True),
        ((b"Connection: close", b"Content-Length: 5"), b"1.1", False),
        ((b"Connection: close", b"Transfer-Encoding: chunked"), b"1.1", False),
        ((), b"1.0", False),
        ((b"Connection: Keep-Alive",), b"1.0", True),
        ((b"Connection: keep-alive, close",), b"1.0", False),
    ],
)
def test_connection_field_decides_about_persistence(
    fields: tuple[bytes, ...], version: bytes, expected: bool
) -> None:
    assert keeps_alive(*fields, version=version) is expected


def test_connection_close_after_a_kept_request_is_seen() -> None:
    parser = HeadParser(HTTPConfig(), HeadReader())
    parser.parse(build())
    parser.parse(build(b"Connection: close"))

    assert parser.keep_alive is False


@pytest.mark.parametrize(
    ("field", "length", "has_body"),
    [
        (b"Content-Length: 0", 0, False),
        (b"Content-Length: 5", 5, True),
        (b"Content-Length: \t5\t ", 5, True),
        (b"Content-Length: 005", 5, True),
        (b"Transfer-Encoding: chunked", None, True),
        (b"Transfer-Encoding: \tChunked ", None, True),
        (b"Transfer-Encoding:\tchunked\t", None, True),
        (b"Transfer-Encoding:\t CHUNKED \t", None, True),
    ],
)
def test_framing_is_read(field: bytes, length: int | None, has_body: bool) -> None:
    head = parse(field, line=b"POST / HTTP/1.1")

    assert (head.content_length, head.has_body) == (length, has_body)


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Length:",
        b"Content-Length: +5",
        b"Content-Length: -5",
        b"Content-Length: 5_0",
        b"Content-Length: 0x5",
        b"Content-Length: 5.0",
        b"Content-Length: 5 5",
        b"Content-Length: 5, 5",
        b"Content-Length: \x0b5",
        b"Content-Length: \xb2",
        b"Content-Length: " + b"9" * 30,
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 0\r\nContent-Length: 5",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: ,chunked",
        b"Transfer-Encoding: chunked,",
        b"Transfer-Encoding: chunked;a=b",
        b'Transfer-Encoding: "chunked"',
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding: chun\x00ked",
        b"Transfer-Encoding: chunked\x00",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"Content-Length:\r\n 5",
        b"Content-Length : 5",
        b"Content-Length\x00: 5",
        b"\x00Content-Length: 5",
    ],
)
def test_doubtful_framing_is_refused(field: bytes) -> None:
    assert status_of(build(field, line=b"POST / HTTP/1.1")) == 400


@pytest.mark.parametrize(
    "field",
    [
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunkedx",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:\tfoo\t",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: foo, chunked",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    ],
)
def test_unknown_coding_is_not_implemented(field: bytes) -> None:
    # RFC 9112 section 6.1.
    assert status_of(build(field, line=b"POST / HTTP/1.1")) == 501


@pytest.mark.parametrize(
    "field",
    [
        b"X : 1",
        b"X\t: 1",
        b": 1",
        b"X",
        b"X(: 1",
        b"X\xe9: 1",
        b"X Y: 1",
        b"X: a\x00b",
        b"X: a\x01b",
        b"X: a\x0bb",
        b"X: a\x1bb",
        b"X: a\x7fb",
        b"X: a\rb",
        b"X: a\nY: b",
        b"X: a\r\r\nY: b",
        b"X: a\n\r\nY: b",
        b"X: a\r\n b",
        b"X: a\r\n\tb",
        b"X: a\r\n \r\nY: b",
    ],
)
def test_malformed_field_line_is_refused(field: bytes) -> None:
    assert status_of(build(field)) == 400


@pytest.mark.parametrize("field", [b" X: 1", b"\tX: 1"])
def test_white_space_before_the_first_field_is_refused(field: bytes) -> None:
    assert status_of(b"GET / HTTP/1.1\r\n" + field + b"\r\nHost: a\r\n\r\n") == 400


@pytest.mark.parametrize(
    "line",
    [
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET /\x0b HTTP/1.1",
        b"GET /a\x0cb HTTP/1.1",
        b"GET /a\tb HTTP/1.1",
        b"GET /a\x00b HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\xe9 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET / HTTP/1.1\r",
        b"GET /\r HTTP/1.1",
        b"GET / HTTP/1.1\nX: y",
        b"GET /",
        b"GET HTTP/1.1",
        b"GET / HTTP/0.9",
        b"GET / HTTP/1.2",
        b"GET / HTTP/1.10",
        b"GET / HTTP/01.1",
        b"GET / HTTP/2.0",
        b"GET / http/1.1",
        b"GET / HTTPS/1.1",
        b"GET / ICE/1.0",
        b"DESCRIBE / RTSP/1.0",
        b"FOO / HTTP/2.0",
        b"FOO  / HTTP/1.1",
        b"FOO /\tHTTP/1.1",
        b"FOO / HTTP/1.1 ",
        b"/ HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_malformed_request_line_is_refused(line: bytes) -> None:
    assert status_of(build(line=line)) == 400


def test_request_line_beyond_llhttps_leaves_the_rest_of_the_head_as_it_is() -> None:
    parser = HeadParser(HTTPConfig(), HeadReader())
    line = b"LABEL /\xc3\xa9?\xc3\xa9 HTTP/1.1"
    head = parser.parse(build(b"Content-Length: 3", b"Connection: close", line=line))

    assert (head.method, head.raw_path, head.query) == (
        "LABEL",
        b"/\xc3\xa9",
        b"\xc3\xa9",
    )
    assert (head.content_length, head.has_body) == (3, True)
    assert not parser.keep_alive
    assert parser.parse(build(line=line)).headers == [(b"host", b"a")]
    assert parser.parse(build()).method == "GET"


def test_request_line_beyond_llhttps_keeps_the_connection() -> None:
    parser = HeadParser(HTTPConfig(), HeadReader())
    parser.parse(build(line=b"LABEL / HTTP/1.1"))

    assert parser.keep_alive


def test_request_line_beyond_llhttps_forgives_nothing_else() -> None:
    line = b"LABEL /\xc3\xa9 HTTP/1.1"

    assert status_of(build(b"X : 1", line=line)) == 400
    assert status_of(build(b"X", line=line)) == 400
    assert status_of(build(b"Transfer-Encoding: x", line=line)) == 501
    assert status_of(build(host=None, line=line)) == 400
    assert status_of(build(line=b"LABEL x HTTP/1.1")) == 400
    assert not parse(line=b"LABEL / HTTP/1.0", host=None).headers


def test_websocket_needs_no_plain_target() -> None:
    head = parse(
        b"Connection: Upgrade", b"Upgrade: websocket", line=b"GET /\xc3\xa9 HTTP/1.1"
    )

    assert head.upgrade == b"websocket"


@pytest.mark.parametrize(
    "host",
    [b"a", b"a:80", b"a:", b"127.0.0.1:8000", b"[::1]", b"[::1]:80", b"a_b"],
)
def test_valid_host_is_taken(host: bytes) -> None:
    assert parse(host=host).headers == [(b"host", host)]


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b":80",
        b"a b",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a@b",
        b"a,b:1,",
        b"a:80:80",
        b"a:x",
        b"a:999999",
        b"[::1",
        b"::1",
        b"[::g]",
        b"a\\b",
        b"\xe9",
        b"<script>",
    ],
)
def test_invalid_host_is_refused(host: bytes) -> None:
    assert status_of(build(host=host)) == 400


def test_host_is_required_once() -> None:
    assert status_of(build(host=None)) == 400
    assert status_of(build(b"Host: a")) == 400
    assert status_of(build(b"Host: b")) == 400
    assert status_of(build(b"Host: a", line=b"GET / HTTP/1.0")) == 400


def test_http_1_0_needs_no_host() -> None:
    assert parse(line=b"GET / HTTP/1.0", host=None).headers == []


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://b/p?q", b"/p", b"q"),
        (b"http://b", b"/", b""),
        (b"HTTP://b?q", b"/", b"q"),
        (b"https://b/p??", b"/p", b"?"),
        (b"http://b/\xc3\xa9?\xc3\xa9", b"/\xc3\xa9", b"\xc3\xa9"),
    ],
)
def test_absolute_form_replaces_host(target: bytes, path: bytes, query: bytes) -> None:
    head = parse(line=b"GET %b HTTP/1.1" % target)

    assert (head.raw_path, head.query) == (path, query)
    assert head.headers == [(b"host", b"b")]


@pytest.mark.parametrize(
    "target",
    [b"http://u@b/", b"http:///p", b"ftp://b/", b"http://b/#f", b"/a#f", b"*", b"b:80"],
)
def test_other_targets_are_refused(target: bytes) -> None:
    assert status_of(build(line=b"GET %b HTTP/1.1" % target)) == 400


def test_asterisk_form_is_for_options() -> None:
    assert parse(line=b"OPTIONS * HTTP/1.1").raw_path == b"*"


@pytest.mark.parametrize("target", [b"b:80", b"/x", b"/", b"http://b/", b"*", b"/\xe9"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_connect_is_not_implemented(target: bytes, version: bytes) -> None:
    assert status_of(build(line=b"CONNECT %b HTTP/%b" % (target, version))) in (
        400,
        501,
    )


def test_connect_with_a_path_is_not_implemented() -> None:
    assert status_of(build(line=b"CONNECT /x HTTP/1.1")) == 501


def test_expectation_is_noted() -> None:
    head = parse(b"Expect: 100-Continue", b"Content-Length: 1")

    assert head.expects_continue


def test_unknown_expectation_fails() -> None:
    assert status_of(build(b"Expect: 200-ok")) == 417


def test_http_1_0_has_no_expectation_and_no_chunks() -> None:
    line = b"POST / HTTP/1.0"

    assert not parse(b"Expect: 100-continue", line=line).expects_continue
    assert status_of(build(b"Transfer-Encoding: chunked", line=line)) == 400


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((b"Connection: Upgrade", b"Upgrade: WebSocket"), b"websocket"),
        (
            (b"Connection: keep-alive, upgrade", b"Upgrade: h2c, websocket"),
            b"websocket",
        ),
        ((b"Connection: upgrade", b"Upgrade: h2c"), None),
        ((b"Upgrade: websocket",), None),
        ((b"Connection: close", b"Upgrade: websocket"), None),
    ],
)
def test_upgrade_needs_both_fields(
    fields: tuple[bytes, ...], expected: bytes | None
) -> None:
    assert parse(*fields).upgrade == expected


def test_http_1_0_has_no_upgrade() -> None:
    fields = (b"Connection: Upgrade", b"Upgrade: websocket")

    assert parse(*fields, line=b"GET / HTTP/1.0").upgrade is None


def test_websocket_handshake_with_content_is_refused() -> None:
    fields = (b"Connection: Upgrade", b"Upgrade: websocket")

    assert status_of(build(*fields, b"Content-Length: 1")) == 400


def test_too_many_fields_are_refused() -> None:
    fields = [b"X-%d: 1" % number for number in range(200)]

    assert len(parse(*fields[1:]).headers) == 200
    assert status_of(build(*fields)) == 431


def test_dropped_fields_count_as_well() -> None:
    assert status_of(build(*[b"X_%d: 1" % number for number in range(200)])) == 431


def test_parser_goes_on_after_content_and_upgrade() -> None:
    parser = HeadParser(HTTPConfig(), HeadReader())
    parser.parse(build(b"Content-Length: 5"))
    parser.parse(build(b"Connection: Upgrade", b"Upgrade: h2c"))

    assert parser.parse(build(line=b"GET /next HTTP/1.1")).raw_path == b"/next"


# The paths for plain and for repeated heads must give what the whole parser gives.

LINES = [
    b"GET / HTTP/1.1",
    b"HEAD /a/b%20c?d=e&f HTTP/1.1",
    b"GET /? HTTP/1.1",
    b"GET //a HTTP/1.1",
    b"GET /a?b?c HTTP/1.1",
    b"GET http://b/ HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"POST / HTTP/1.1",
    b"GET / HTTP/1.0",
    b"GET /a#b HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"GET /\xe9 HTTP/1.1",
    b"GET /\t HTTP/1.1",
    b"GET / HTTP/1.2",
    b"get / HTTP/1.1",
    b"GET / HTTP/1.1\r\nX: y",
    b"GET / HTTP/1.1\r\nContent-Length: 5",
]


def result_of(parser: HeadParser, block: bytes) -> object:
    try:
        head = parser.parse(block)
    except ProtocolError as error:
        return error.status
    names = [name for name in RequestHead.__slots__ if name != "repetition"]
    values = [getattr(head, name) for name in names]
    return [*values, parser.keep_alive]


class WholeParser(HeadParser):
    """A parser that has llhttp read every head, plain ones too."""

    def _parse_plain(self, block: bytes) -> None:
        return None


def judge(parser: HeadParser, block: bytes) -> object:
    """Return what comes of a head, except for what only a plain one has."""
    result = result_of(parser, block)
    if isinstance(result, list):
        result[RequestHead.__slots__.index("field_lines")] = None
    return result


FIELDS = [
    b"Host: a",
    b"hOST: \tb:80 ",
    b"Host: a b",
    b"Host:",
    b"Host : a",
    b"Accept: */*",
    b"ACCEPT:text/html,  a;q=0.5\t ",
    b"Accept:",
    b"Accept",
    b"Cookie: a=b; c=d:e",
    b"Cookie: \xe9\xff",
    b"Cookie: a\tb",
    b"Cookie: a\x00",
    b"Cookie: a\x7f",
    b"Cookie: a\rb",
    b"Cookie: a\nAccept: b",
    b"Cookie: a\r\n b",
    b"Cookie: a\r\n\tb: c",
    b" Cookie: a",
    b"X_Y: 1",
    b": 1",
    b"Connection: keep-alive",
    b"Connection: Keep-Alive",
    b"connection: CLOSE ",
    b"Connection: close, keep-alive",
    b"Connection: upgrade",
    b"Connection:",
    b"Proxy-Connection: close",
    b"Proxy-Connection: keep-alive",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"content-length: x",
    b"Transfer-Encoding: chunked",
    b"Accept: " + b"," * 1001,
]


@pytest.fixture(scope="module", autouse=True)
def _known_names() -> Iterator[None]:
    """Have the names of the fields passed by llhttp before; what is plain has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request, "_known_names", {})
        patch.setattr(request, "_known_lines", {})
        for field in [*FIELDS, b"ACCEPT:", b"X:", b"X_Y:"]:
            name = field.partition(b":")[0].strip()
            result_of(WholeParser(HTTPConfig(), HeadReader()), build(name + b": 1"))
        yield


@pytest.mark.parametrize("field", FIELDS)
def test_plain_head_gives_what_llhttp_gives(field: bytes) -> None:
    for line in LINES * 2:
        block = build(b"Accept: b", field, line=line)
        plain = judge(HeadParser(HTTPConfig(), HeadReader()), block)
        assert plain == judge(WholeParser(HTTPConfig(), HeadReader()), block)


@given(
    st.sampled_from(LINES),
    st.lists(st.sampled_from(FIELDS), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=2),
    st.booleans(),
)
def test_mutated_plain_head_gives_what_llhttp_gives(
    line: bytes,
    fields: list[bytes],
    mutations: list[tuple[int, int]],
    adds: bool,
) -> None:
    block = bytearray(b"\r\n".join([line, b"Host: a", *fields]))
    for place, byte in mutations:
        index = place % len(block)
        block[index : index + (not adds)] = bytes([byte])
    head = bytes(block) + b"\r\n\r\n"
    if head.index(b"\r\n\r\n") + 4 < len(head):
        # Two heads: a connection would have divided them.
        return
    plain = judge(HeadParser(HTTPConfig(), HeadReader()), head)
    assert plain == judge(WholeParser(HTTPConfig(), HeadReader()), head)


def test_plain_heads_are_not_read_by_llhttp(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = HeadParser(HTTPConfig(), HeadReader())
    monkeypatch.setattr(HeadReader, "read", None)
    block = build(b"Accept: a", b"X_Y: 1", b"Connection: keep-alive", line=LINES[1])
    head = parser.parse(block)

    assert head.headers == [
        (b"host", b"a"),
        (b"accept", b"a"),
        (b"connection", b"keep-alive"),
    ]
    assert head.field_lines == block.partition(b"\r\n")[2]


def test_limit_of_the_fields_holds_for_plain_heads() -> None:
    config = HTTPConfig(header_count_limit=3)
    fields = (b"Accept: a", b"X_Y: 1", b"Accept: a")
    HeadParser(config, HeadReader()).parse(build(*fields[1:]))

    with pytest.raises(ProtocolError) as caught:
        HeadParser(config, HeadReader()).parse(build(*fields))
    assert caught.value.status == 431


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(
    "fields",
    [
        (),
        (b"X: 1", b"X_Y: 2"),
        (b"Connection: keep-alive",),
        (b"Connection: close",),
        (b"Connection: Keep-Alive, Close", b"X: 1"),
    ],
)
def test_repeated_head_gives_what_a_first_one_gives(
    line: bytes, fields: tuple[bytes, ...]
) -> None:
    seasoned = HeadParser(HTTPConfig(), HeadReader())
    seasoned.parse(build(*fields))
    block = build(*fields, line=line)

    assert result_of(seasoned, block) == result_of(
        HeadParser(HTTPConfig(), HeadReader()), block
    )


def test_same_bytes_give_the_same_head_from_the_third_time_on() -> None:
    parser = HeadParser(HTTPConfig(), HeadReader())
    heads = [parser.parse(build(line=line)) for line in (*LINES[:1] * 4, *LINES[1:2])]

    assert [head.repetition is None for head in heads] == [1, 1, 0, 0, 1]
    assert heads[2] is heads[3]


def test_headers_that_an_application_may_change_are_not_those_of_the_next_head() -> (
    None
):
    parser = HeadParser(HTTPConfig(), HeadReader())
    for _ in range(4):
        head = parser.parse(build(b"X: 1"))
        assert head.headers == [(b"host", b"a"), (b"x", b"1")]
        if head.repetition is None:
            head.headers.clear()


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(
    "fields", [(b"X: 1",), (b"X: 1", b"X_Y: 2"), (b"X: 12",), (b"Connection: close",)]
)
@pytest.mark.parametrize("last", [b"X: 1", b"Connection: close"])
def test_first_head_of_a_connection_is_what_it_is_after_any_other(
    line: bytes, fields: tuple[bytes, ...], last: bytes
) -> None:
    shared, block = HeadReader(), build(*fields, line=line)
    HeadParser(HTTPConfig(), shared).parse(build(last))
    given = HeadParser(HTTPConfig(), shared)
    alone = HeadParser(HTTPConfig(), HeadReader())

    assert result_of(given, block) == result_of(alone, block)


def test_connections_share_the_lines_of_the_same_head() -> None:
    shared = HeadReader()
    first, second = (
        HeadParser(HTTPConfig(), shared).parse(build(b"X: 1")) for _ in range(2)
    )

    assert first.field_lines
    assert second.field_lines is first.field_lines


def test_connections_share_no_headers_that_an_application_may_change() -> None:
    shared = HeadReader()
    for _ in range(4):
        head = HeadParser(HTTPConfig(), shared).parse(build(b"X: 1"))
        assert head.headers == [(b"host", b"a"), (b"x", b"1")]
        assert head.repetition is None
        head.headers.clear()


def test_copy_of_a_head_differs_in_its_headers_alone() -> None:
    parser = HeadParser(HTTPConfig(), HeadReader())
    for _ in range(3):
        head = parser.parse(build(line=b"GET /a?b HTTP/1.1"))
    headers = [(b"x", b"1")]
    copied = head.copy(headers)

    assert copied.headers is headers
    for name in RequestHead.__slots__:
        if name != "headers":
            assert getattr(copied, name) == getattr(head, name)


HEADS = st.tuples(
    st.sampled_from(LINES),
    st.sampled_from([(), (b"X: 1",), (b"X: 2",), (b"Connection: close",)]),
)


@given(st.lists(HEADS, max_size=3), st.lists(st.integers(0, 2), max_size=9))
@example([(LINES[0], (b"X: 1",)), (LINES[0], (b"X: 2",))], [0, 0, 1, 0])
@example([(LINES[0], ()), (LINES[1], ())], [0, 0, 0, 1, 1, 1, 0])
def test_heads_in_any_order_give_what_each_gives_alone(
    heads: list[tuple[bytes, tuple[bytes, ...]]], order: list[int]
) -> None:
    blocks = [build(*fields, line=line) for line, fields in heads]
    seasoned = HeadParser(HTTPConfig(), HeadReader())
    for index in order:
        if index < len(blocks):
            alone = HeadParser(HTTPConfig(), HeadReader())
            expected = result_of(alone, blocks[index])
            assert result_of(seasoned, blocks[index]) == expected
            if isinstance(expected, int) or not alone.keep_alive:
                # Refused, or the last one: the connection goes no further.
                break


FAULTS = [
    b"GET / HTTP/1.1\r\nContent-Length: x",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked",
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade",
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 2",
    b"CONNECT a:80 HTTP/1.1",
    b"PROPFIND / HTTP/1.1",
    b"UNKNOWN / HTTP/1.1\r\nContent-Length: 3",
]


ENDS = [b"X: 1", b"Connection: close", b"Connection: keep-alive", b"Content-Length: 1"]


@given(
    st.lists(
        st.tuples(st.sampled_from([*LINES, *FAULTS]), st.sampled_from(ENDS)),
        min_size=2,
        max_size=6,
    )
)
def test_shared_reader_mixes_nothing_of_two_connections(
    heads: list[tuple[bytes, bytes]],
) -> None:
    shared = HeadReader()
    for line, field in heads:
        block = build(field, line=line)
        alone = HeadParser(HTTPConfig(), HeadReader())
        assert result_of(HeadParser(HTTPConfig(), shared), block) == result_of(
            alone, block
        )


def test_reader_keeps_its_parser_for_the_next_head() -> None:
    shared = HeadReader()
    WholeParser(HTTPConfig(), shared).parse(build())
    kept = shared._kept
    WholeParser(HTTPConfig(), shared).parse(build(b"X: 1"))

    assert kept is not None
    assert shared._kept is kept


def test_repeated_heads_share_no_list() -> None:
    parser = HeadParser(HTTPConfig(), HeadReader())
    heads = [parser.parse(build()) for _ in range(3)]
    heads[0].headers.clear()
    heads[1].headers.append((b"x", b"y"))

    assert heads[2].headers == [(b"host", b"a")]


# Names that are remembered must give what each name by itself gives.

NAMES = st.text("aA-_zZ0!", min_size=1, max_size=70).map(str.encode)


@given(st.lists(NAMES, max_size=8))
def test_remembered_names_give_what_new_ones_give(names: list[bytes]) -> None:
    block = build(*(name + b": 1" for name in names))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request, "_known_names", {})
        first, second = (
            judge(HeadParser(HTTPConfig(), HeadReader()), block) for _ in range(2)
        )
        patch.setattr(request, "_KNOWN_NAMES_LIMIT", 0)
        patch.setattr(request, "_known_names", {})
        plain = judge(HeadParser(HTTPConfig(), HeadReader()), block)

    assert first == second == plain


def test_remembered_names_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[bytes, bytes] = {}
    monkeypatch.setattr(request, "_known_names", known)
    monkeypatch.setattr(request, "_KNOWN_NAMES_LIMIT", 10)
    for number in range(30):
        parse(b"X-%d: 1" % number, b"Y" * 65 + b": 1")

        assert len(known) <= 10

    assert b"X-29" in known
    assert max(map(len, known)) < 65


def test_remembered_lines_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[bytes, tuple[bytes, bytes]] = {}
    monkeypatch.setattr(request, "_known_lines", known)
    monkeypatch.setattr(request, "_KNOWN_LINES_LIMIT", 10)
    for number in range(30):
        parse(b"ACCEPT: %d" % number, b"Accept: " + b"a" * 249)
        assert len(known) <= 10

    assert known[b"ACCEPT: 29"] == (b"accept", b"29")
    assert max(map(len, known)) <= 256


def test_lines_that_tell_of_a_user_are_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known: dict[bytes, tuple[bytes, bytes]] = {}
    monkeypatch.setattr(request, "_known_lines", known)
    names = (b"Cookie", b"Authorization", b"X-Forwarded-For", b"Referer", b"X")
    for name in names:
        parse(name + b": 1")
        parse(name + b": 1", b"Accept: a")

    assert {*known} == {b"Host: a", b"Accept: a"}


LIMITS = HeadLimits(HTTPConfig(request_line_limit=64, header_size_limit=256))


def partial_status_of(data: bytes) -> int:
    with pytest.raises(ProtocolError) as caught:
        LIMITS.check_partial(data)
    return caught.value.status


def test_head_within_the_limits_is_fine() -> None:
    LIMITS.check_partial(b"GET / HTTP/1.1\r\nHost: a\r\n")
    LIMITS.check(b"G" * 64 + b"\r\n" + b"h" * 256 + b"\r\n")


def test_line_one_byte_over_the_limit_is_refused_with_414() -> None:
    assert partial_status_of(b"G" * 65) == 414
    assert partial_status_of(b"G" * 65 + b"\r\n") == 414


def test_cr_at_the_end_of_a_full_line_is_not_counted() -> None:
    LIMITS.check_partial(b"G" * 64 + b"\r")


def test_fields_over_the_limit_are_refused_with_431() -> None:
    assert partial_status_of(b"GET / HTTP/1.1\r\n" + b"h" * 259) == 431


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00", b" GET / HTTP/1.1", b"GET / HTTP/1.1\n", b"\x00\x00"],
    ids=["tls", "leading blank", "bare LF", "NUL"],
)
def test_what_cannot_become_a_request_is_refused_at_once(data: bytes) -> None:
    assert partial_status_of(data) == 400


@pytest.mark.parametrize(
    ("data", "rest"),
    [
        (b"\r\nGET", b"GET"),
        (b"\r\n\r\n\r\nGET", b"GET"),
        (b"\r\n\r", b"\r"),
        (b"\r\n", b""),
        (b"\r", b"\r"),
    ],
)
def test_empty_lines_before_a_request_are_skipped(data: bytes, rest: bytes) -> None:
    assert skip_empty_lines(data) == rest


@pytest.mark.parametrize("data", [b"\rGET", b"\r\rGET", b"\r\n\nGET", b"\r\n\rGET"])
def test_half_an_empty_line_before_a_request_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        skip_empty_lines(data)


LISTS = [
    b"Accept: " + b"a," * 1001,
    b"Connection: " + b"," * 1001,
    b"Content-Type: a/b" + b";" * 1001,
    b"Cookie: " + b"a=b;" * 1001,
    b"Forwarded: " + b"for=a;" * 1001,
    b"If-None-Match: " + b'"a",' * 1001,
    b"Range: bytes=" + b"0-0," * 1001,
    b"Sec-WebSocket-Protocol: " + b"a," * 1001,
    b"Transfer-Encoding: " + b"a," * 1001,
    b"X-Forwarded-For: " + b"a," * 1001,
]


@pytest.mark.parametrize(
    "field", LISTS, ids=lambda field: field.split(b":")[0].decode()
)
def test_lists_of_very_many_members_are_refused(field: bytes) -> None:
    assert status_of(build(field)) == 431


def test_members_of_all_lists_count_together() -> None:
    half = b"a," * 500
    parse(b"Accept: " + half, b"Cookie: " + half)

    assert status_of(build(b"Accept: " + half, b"Via: " + half, b"Via: ,")) == 431


def test_commas_in_a_field_that_is_no_list_do_not_count() -> None:
    head = parse(b"X-Data: " + b"," * 5000)

    assert head.headers[-1] == (b"x-data", b"," * 5000)


def test_more_members_are_taken_where_more_fields_are() -> None:
    block = build(b"Cookie: " + b"a=b;" * 1500)

    HeadParser(HTTPConfig(header_count_limit=300), HeadReader()).parse(block)
    # Less than a thousand is no attack, however few fields are allowed.
    block = build(b"Cookie: " + b"a=b;" * 900)
    HeadParser(HTTPConfig(header_count_limit=3), HeadReader()).parse(block)
