"""What RFC 9113 demands of a server, as a table of raw frames.

Each case is the bytes of a client after the opening, and what must become of them: a
connection error with its code, a stream error with its code, a status, or nothing
unusual. Where the RFC lets a server choose, the case names our choice.

Every MUST of sections 4, 5, 6 and 8 that a client can break by its frames is here, and
what it may do that looks like that. What a single chunk of bytes cannot show is in
``test_reader`` (floods, deadlines, the opening) and in ``test_streams`` (pushes).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from h2.errors import ErrorCodes

from djserve.protocols.http2 import frames
from djserve.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PRIORITY_UPDATE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)

if TYPE_CHECKING:
    from tests.protocols.http2.conftest import Wire

    Bytes = Callable[[Wire], bytes]


WHOLE = END_HEADERS | END_STREAM
POST = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"a"),
    (b":path", b"/"),
]


class Case(NamedTuple):
    """``expected``: where the fault is ("connection", "stream", "status"), its code.

    ``is_closed``: stream 1 has had a request and its answer before.
    """

    name: str
    data: Bytes
    expected: tuple[str, int]
    is_closed: bool = False


def connection_error(code: ErrorCodes) -> tuple[str, int]:
    return ("connection", code)


def stream_error(code: ErrorCodes) -> tuple[str, int]:
    return ("stream", code)


SERVED = ("status", 200)
PROTOCOL = connection_error(ErrorCodes.PROTOCOL_ERROR)
FRAME_SIZE = connection_error(ErrorCodes.FRAME_SIZE_ERROR)
CLOSED = connection_error(ErrorCodes.STREAM_CLOSED)
COMPRESSION = connection_error(ErrorCodes.COMPRESSION_ERROR)
OVERFLOW = connection_error(ErrorCodes.FLOW_CONTROL_ERROR)
LATE = stream_error(ErrorCodes.STREAM_CLOSED)
MALFORMED = stream_error(ErrorCodes.PROTOCOL_ERROR)
# What HTTP refuses whatever carries it (protocols.grammar).
BAD = ("status", 400)


def fields(*extra: tuple[bytes, bytes], **pseudo: Any) -> Bytes:
    return lambda wire: wire.headers(1, *extra, **pseudo)


def raw_fields(*pairs: tuple[bytes, bytes]) -> Bytes:
    return lambda wire: wire.frame(HEADERS, WHOLE, 1, wire.block(pairs))


def raw(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> Bytes:
    return lambda wire: wire.frame(kind, flags, stream_id, payload)


def after_request(kind: int, flags: int, stream_id: int, payload: bytes) -> Bytes:
    return lambda wire: (
        wire.headers(1, end=False) + wire.frame(kind, flags, stream_id, payload)
    )


def upload(*parts: bytes, length: bytes | None = None) -> Bytes:
    def build(wire: Wire) -> bytes:
        extra = [] if length is None else [(b"content-length", length)]
        head = wire.headers(1, *extra, end=False, base=POST)
        data = [wire.data(1, part) for part in parts[:-1]]
        return head + b"".join(data) + wire.data(1, parts[-1], end=True)

    return build


def in_parts(*sizes: int, between: bytes = b"", last_flags: int = END_HEADERS) -> Bytes:
    """A request whose head is cut into HEADERS and CONTINUATION."""

    def build(wire: Wire) -> bytes:
        block = wire.headers(1)[9:]
        edges = [0, *sizes, len(block)]
        data = wire.frame(HEADERS, END_STREAM, 1, block[: edges[1]])
        for index, start in enumerate(edges[1:-1], 1):
            is_last = index == len(edges) - 2
            flags = last_flags if is_last else 0
            part = block[start : edges[index + 1]]
            data += between + wire.frame(CONTINUATION, flags, 1, part)
        return data

    return build


def with_trailers(*pairs: tuple[bytes, bytes], flags: int = WHOLE) -> Bytes:
    return lambda wire: (
        wire.headers(1, end=False, base=POST)
        + wire.data(1, b"x")
        + wire.frame(HEADERS, flags, 1, wire.block(pairs))
    )


def setting(code: int, value: int) -> Bytes:
    return raw(SETTINGS, 0, 0, struct.pack(">HL", code, value))


def together(*parts: Bytes) -> Bytes:
    return lambda wire: b"".join(part(wire) for part in parts)


def block(data: bytes, name: bytes = b"") -> Bytes:
    """HEADERS of a whole request, with more bytes of HPACK at the block's end."""
    return lambda wire: wire.frame(HEADERS, WHOLE, 1, wire.block(POST) + data)


def within_block(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> Bytes:
    return in_parts(
        2, between=frames.pack_header(len(payload), kind, flags, stream_id) + payload
    )


def open_request(
    stream_id: int = 1, *extra: tuple[bytes, bytes], path: bytes = b"/wait"
) -> Bytes:
    return lambda wire: wire.headers(stream_id, *extra, end=False, base=POST, path=path)


def complete_request(stream_id: int = 1) -> Bytes:
    return lambda wire: wire.headers(stream_id, path=b"/wait")


def trailers(name: bytes, value: bytes = b"") -> Bytes:
    return lambda wire: wire.frame(HEADERS, WHOLE, 1, wire.block([(name, value)]))


def twice(name: bytes) -> Bytes:
    return raw_fields(*[pair for pair in POST if pair[0] == name], *POST)


NUMBER = struct.Struct(">L").pack

CASES = [
    # Section 4: frames.
    Case("4.1 unknown frame types are ignored", raw(0x42, 0xFF, 7, b"x"), SERVED),
    Case("4.1 unknown flags are ignored", raw(PING, 0xFE, 0, b"12345678"), SERVED),
    Case(
        "4.1 reserved bit of the stream is ignored",
        lambda w: w.frame(HEADERS, WHOLE, 1 | 1 << 31, w.headers(1)[9:]),
        SERVED,
    ),
    Case("4.2 frame beyond the size", raw(DATA, 0, 1, b"x" * 16385), FRAME_SIZE),
    Case("4.2 frame of the greatest size", upload(b"x" * 16384), SERVED),
    Case(
        "4.3 block that cannot be decoded",
        raw(HEADERS, WHOLE, 1, b"\xff\xff\xff\xff\xff\xff"),
        connection_error(ErrorCodes.COMPRESSION_ERROR),
    ),
    Case(
        "4.3 table size beyond the setting",
        raw(HEADERS, WHOLE, 1, b"\x3f\xff\xff\x03\x82"),
        connection_error(ErrorCodes.COMPRESSION_ERROR),
    ),
    Case("4.3 block in parts", in_parts(1, 3), SERVED),
    Case(
        "4.3 frame of another type within a block",
        in_parts(2, between=frames.pack_header(8, PING, 0, 0) + b"12345678"),
        PROTOCOL,
    ),
    Case(
        "4.3 unknown frame within a block",
        in_parts(2, between=frames.pack_header(0, 0x42, 0, 0)),
        PROTOCOL,
    ),
    Case(
        "4.3 other stream's CONTINUATION within a block",
        in_parts(2, between=frames.pack_header(0, CONTINUATION, 0, 3)),
        PROTOCOL,
    ),
    # Section 5.1: states of a stream.
    Case("5.1 idle: DATA", raw(DATA, 0, 1, b"x"), PROTOCOL),
    Case("5.1 idle: RST_STREAM", raw(RST_STREAM, 0, 1, NUMBER(8)), PROTOCOL),
    Case("5.1 idle: WINDOW_UPDATE", raw(WINDOW_UPDATE, 0, 1, NUMBER(1)), PROTOCOL),
    Case("5.1 idle: CONTINUATION", raw(CONTINUATION, END_HEADERS, 1), PROTOCOL),
    Case("5.1 idle: PRIORITY", raw(PRIORITY, 0, 1, b"\0\0\0\0\x0f"), SERVED),
    Case("5.1 closed: DATA", raw(DATA, 0, 1, b"x"), CLOSED, True),
    Case("5.1 closed: HEADERS", lambda w: w.headers(1), CLOSED, True),
    Case(
        "5.1 closed: WINDOW_UPDATE", raw(WINDOW_UPDATE, 0, 1, NUMBER(1)), SERVED, True
    ),
    Case("5.1 closed: RST_STREAM", raw(RST_STREAM, 0, 1, NUMBER(8)), SERVED, True),
    Case("5.1 closed: PRIORITY", raw(PRIORITY, 0, 1, b"\0" * 5), SERVED, True),
    Case("5.1.1 even number", lambda w: w.headers(2), PROTOCOL),
    Case(
        "5.1.1 number below one that was used",
        lambda w: w.headers(5) + w.headers(3),
        CLOSED,
    ),
    Case("5.1.1 numbers may be skipped", lambda w: w.headers(1) + w.headers(9), SERVED),
    # Section 6.1: DATA.
    Case("6.1 without a stream", raw(DATA, 0, 0, b"x"), PROTOCOL),
    Case(
        "6.1 padding as long as the frame",
        after_request(DATA, PADDED | END_STREAM, 1, b"\x05abcd"),
        PROTOCOL,
    ),
    Case(
        "6.1 padding is taken off",
        after_request(DATA, PADDED | END_STREAM, 1, b"\x02ab\0\0"),
        SERVED,
    ),
    # Section 6.2: HEADERS.
    Case("6.2 without a stream", raw(HEADERS, WHOLE, 0, b"\x82"), PROTOCOL),
    Case(
        "6.2 padding beyond the frame",
        raw(HEADERS, WHOLE | PADDED, 1, b"\x09\x82"),
        PROTOCOL,
    ),
    Case(
        "6.2 padding and priority are taken off",
        lambda w: w.frame(
            HEADERS,
            WHOLE | PADDED | HAS_PRIORITY,
            1,
            b"\x02\0\0\0\0\x0f" + w.headers(1)[9:] + b"\0\0",
        ),
        SERVED,
    ),
    Case(
        "6.2 priority is taken off",
        lambda w: w.frame(
            HEADERS, WHOLE | HAS_PRIORITY, 1, b"\0\0\0\0\x0f" + w.headers(1)[9:]
        ),
        SERVED,
    ),
    Case(
        "6.2 shorter than its priority",
        raw(HEADERS, WHOLE | HAS_PRIORITY, 1, b"\0\0\0\0"),
        FRAME_SIZE,
    ),
    # Section 6.3: PRIORITY.
    Case("6.3 wrong length, idle", raw(PRIORITY, 0, 1, b"\0" * 4), FRAME_SIZE),
    Case("6.3 without a stream", raw(PRIORITY, 0, 0, b"\0" * 5), PROTOCOL),
    Case(
        "6.3 wrong length",
        after_request(PRIORITY, 0, 1, b"\0" * 4),
        stream_error(ErrorCodes.FRAME_SIZE_ERROR),
    ),
    # Section 6.4: RST_STREAM.
    Case("6.4 without a stream", raw(RST_STREAM, 0, 0, NUMBER(8)), PROTOCOL),
    Case("6.4 wrong length", after_request(RST_STREAM, 0, 1, b"\0\0\0"), FRAME_SIZE),
    # Section 6.5: SETTINGS.
    Case("6.5 on a stream", raw(SETTINGS, 0, 1), PROTOCOL),
    Case(
        "6.5 acknowledgement with content", raw(SETTINGS, ACK, 0, b"\0" * 6), FRAME_SIZE
    ),
    Case("6.5 wrong length", raw(SETTINGS, 0, 0, b"\0" * 5), FRAME_SIZE),
    Case("6.5.2 push neither 0 nor 1", setting(2, 2), PROTOCOL),
    Case(
        "6.5.2 window too large",
        setting(4, 2**31),
        connection_error(ErrorCodes.FLOW_CONTROL_ERROR),
    ),
    Case("6.5.2 frame size too small", setting(5, 16383), PROTOCOL),
    Case("6.5.2 frame size too large", setting(5, 2**24), PROTOCOL),
    Case("6.5.2 unknown settings are ignored", setting(0x4242, 7), SERVED),
    Case("8441 3 connect protocol neither 0 nor 1", setting(8, 2), PROTOCOL),
    # Section 6.6: PUSH_PROMISE.
    Case(
        "6.6 clients promise nothing",
        after_request(PUSH_PROMISE, END_HEADERS, 1, NUMBER(2) + b"\x82"),
        PROTOCOL,
    ),
    # Section 6.7: PING.
    Case("6.7 on a stream", raw(PING, 0, 1, b"12345678"), PROTOCOL),
    Case("6.7 wrong length", raw(PING, 0, 0, b"1234567"), FRAME_SIZE),
    Case("6.7 acknowledgement of nothing", raw(PING, ACK, 0, b"12345678"), SERVED),
    # Section 6.8: GOAWAY.
    Case("6.8 on a stream", raw(GOAWAY, 0, 1, b"\0" * 8), PROTOCOL),
    Case("6.8 wrong length", raw(GOAWAY, 0, 0, b"\0" * 7), FRAME_SIZE),
    # Section 6.9: WINDOW_UPDATE.
    Case("6.9 of nothing, connection", raw(WINDOW_UPDATE, 0, 0, NUMBER(0)), PROTOCOL),
    Case(
        "6.9 of nothing, stream",
        after_request(WINDOW_UPDATE, 0, 1, NUMBER(0)),
        MALFORMED,
    ),
    Case("6.9 wrong length", raw(WINDOW_UPDATE, 0, 0, b"\0\0\1"), FRAME_SIZE),
    Case(
        "6.9.1 window beyond its limit, connection",
        raw(WINDOW_UPDATE, 0, 0, NUMBER(2**31 - 1)),
        connection_error(ErrorCodes.FLOW_CONTROL_ERROR),
    ),
    Case(
        "6.9.1 window beyond its limit, stream",
        after_request(WINDOW_UPDATE, 0, 1, NUMBER(2**31 - 1)),
        stream_error(ErrorCodes.FLOW_CONTROL_ERROR),
    ),
    Case(
        "6.9.1 more content than the stream's window",
        lambda w: w.headers(1, end=False) + w.data(1, b"x" * 16384) * 2,
        stream_error(ErrorCodes.FLOW_CONTROL_ERROR),
    ),
    # Section 6.10: CONTINUATION.
    Case("6.10 without a block", raw(CONTINUATION, END_HEADERS, 0), PROTOCOL),
    # Section 8.1: messages.
    Case("8.1 trailers", with_trailers((b"x", b"y")), SERVED),
    Case(
        "8.1 trailers without an end",
        with_trailers((b"x", b"y"), flags=END_HEADERS),
        MALFORMED,
    ),
    Case("8.1 pseudo-header in trailers", with_trailers((b":path", b"/")), MALFORMED),
    Case(
        "8.1 HEADERS after the end",
        lambda w: w.headers(1, path=b"/wait") + w.headers(1, path=b"/wait"),
        stream_error(ErrorCodes.STREAM_CLOSED),
    ),
    Case(
        "8.1 DATA after the end",
        lambda w: w.headers(1, path=b"/wait") + w.data(1, b"x"),
        stream_error(ErrorCodes.STREAM_CLOSED),
    ),
    Case("8.1.1 length and content agree", upload(b"ab", b"c", length=b"3"), SERVED),
    Case("8.1.1 content too short", upload(b"ab", length=b"3"), MALFORMED),
    Case("8.1.1 content too long", upload(b"ab", b"cd", length=b"3"), MALFORMED),
    Case("8.1.1 length without content", fields((b"content-length", b"1")), MALFORMED),
    Case("8.1.1 length of nothing", fields((b"content-length", b"0")), SERVED),
    Case("8.1.1 length that is no number", fields((b"content-length", b"+1")), BAD),
    Case(
        "8.1.1 two lengths",
        fields((b"content-length", b"0"), (b"content-length", b"0")),
        BAD,
    ),
    Case(
        "8.1.1 length, and trailers too early",
        lambda w: (
            w.headers(1, (b"content-length", b"2"), end=False, base=POST)
            + w.data(1, b"x")
            + w.frame(HEADERS, WHOLE, 1, w.block([(b"x", b"y")]))
        ),
        MALFORMED,
    ),
    # Section 8.2: fields.
    Case("8.2.1 upper case in a name", fields((b"X-A", b"b")), MALFORMED),
    Case("8.2.1 blank in a name", fields((b"x a", b"b")), BAD),
    Case("8.2.1 colon in a name", fields((b"x:a", b"b")), BAD),
    Case("8.2.1 empty name", fields((b"", b"b")), BAD),
    Case("8.2.1 byte above ASCII in a name", fields((b"x\xe4", b"b")), BAD),
    Case("8.2.1 NUL in a value", fields((b"x", b"a\0b")), BAD),
    Case("8.2.1 CR in a value", fields((b"x", b"a\rb")), BAD),
    Case("8.2.1 LF in a value", fields((b"x", b"a\nb")), BAD),
    Case("8.2.1 LF at a value's end", fields((b"x", b"a\n")), BAD),
    Case("8.2.1 blank before a value", fields((b"x", b" a")), BAD),
    Case("8.2.1 tab after a value", fields((b"x", b"a\t")), BAD),
    Case("8.2.1 byte above ASCII in a value", fields((b"x", b"\xe4")), SERVED),
    Case("8.2.1 empty value", fields((b"x", b"")), SERVED),
    *(
        Case(f"8.2.2 {name.decode()}", fields((name, b"x")), MALFORMED)
        for name in (
            b"connection",
            b"keep-alive",
            b"proxy-connection",
            b"transfer-encoding",
            b"upgrade",
        )
    ),
    Case("8.2.2 TE beyond trailers", fields((b"te", b"trailers, gzip")), MALFORMED),
    Case("8.2.2 TE: trailers", fields((b"te", b"trailers")), SERVED),
    # Section 8.3: pseudo-header fields.
    Case("8.3 unknown", fields((b":x", b"y")), MALFORMED),
    Case("8.3 a response's", raw_fields((b":status", b"200"), *POST), MALFORMED),
    Case("8.3 after a regular one", raw_fields((b"x", b"y"), *POST), MALFORMED),
    Case("8.3 twice", raw_fields((b":path", b"/"), *POST), MALFORMED),
    *(
        Case(
            f"8.3.1 no {name.decode()}",
            raw_fields(*[pair for pair in POST if pair[0] != name]),
            MALFORMED,
        )
        for name in (b":method", b":scheme", b":path")
    ),
    Case("8.3.1 no :authority", raw_fields(*POST[:2], POST[3]), BAD),
    Case("8.3.1 empty :authority", fields(authority=b""), BAD),
    Case("8.3.1 port alone in the authority", fields(authority=b":80"), BAD),
    Case("8.3.1 scheme that is none", fields(scheme=b"http://evil/?"), BAD),
    Case("8.3.1 scheme of another service", fields(scheme=b"ftp"), BAD),
    Case("8.3.1 scheme in capitals", fields(scheme=b"HTTPS"), SERVED),
    Case("8.3.1 method in small letters", fields(method=b"get"), ("status", 501)),
    Case("8.3.1 method of the application's", fields(method=b"FOO"), SERVED),
    Case("8.3.1 UTF-8 in the path", fields(path=b"/\xc3\xa9?\xc3\xa9"), SERVED),
    Case("8.3.1 Latin-1 in the path", fields(path=b"/\xe9"), BAD),
    Case("8.2.1 control byte in a value", fields((b"x", b"a\x1bb")), BAD),
    Case("8.2.1 DEL in a value", fields((b"x", b"a\x7f")), BAD),
    Case("8.2.1 tab in a value", fields((b"x", b"a\tb")), SERVED),
    Case("8.3.1 empty path", fields(path=b""), MALFORMED),
    Case("8.3.1 path without a slash", fields(path=b"a"), BAD),
    Case("8.3.1 asterisk with GET", fields(path=b"*"), BAD),
    Case("8.3.1 asterisk with OPTIONS", fields(path=b"*", method=b"OPTIONS"), SERVED),
    Case("8.3.1 blank in the path", fields(path=b"/a b"), BAD),
    Case("8.3.1 fragment in the path", fields(path=b"/#a"), BAD),
    Case("8.3.1 method that is no token", fields(method=b"G ET"), BAD),
    Case("8.3.1 userinfo in the authority", fields(authority=b"u@a"), BAD),
    Case("8.3.1 Host like the authority", fields((b"host", b"a")), SERVED),
    Case("8.3.1 Host unlike the authority", fields((b"host", b"b")), BAD),
    Case("8.3.1 two Hosts", fields((b"host", b"a"), (b"host", b"a")), BAD),
    Case(
        "8.3.1 Host alone",
        raw_fields(
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":path", b"/"),
            (b"host", b"a"),
        ),
        SERVED,
    ),
    # Section 8.5: CONNECT.
    Case(
        "8.5 CONNECT is not served",
        raw_fields((b":method", b"CONNECT"), (b":authority", b"a:1")),
        ("status", 501),
    ),
    Case("8.5 CONNECT with a path", fields(method=b"CONNECT"), ("status", 501)),
    Case(
        "8441 4 protocol without CONNECT",
        raw_fields(*POST, (b":protocol", b"websocket")),
        MALFORMED,
    ),
    Case(
        "8441 4 unknown protocol",
        raw_fields((b":method", b"CONNECT"), *POST[1:], (b":protocol", b"x")),
        ("status", 501),
    ),
    # RFC 9218 section 7.1.
    Case("9218 7.1 on a stream", raw(PRIORITY_UPDATE, 0, 1, NUMBER(1)), PROTOCOL),
    Case("9218 7.1 for no stream", raw(PRIORITY_UPDATE, 0, 0, NUMBER(0)), PROTOCOL),
    Case("9218 7.1 for no push", raw(PRIORITY_UPDATE, 0, 0, NUMBER(2)), PROTOCOL),
    Case("9218 7.1 wrong length", raw(PRIORITY_UPDATE, 0, 0, b"\0\0\1"), FRAME_SIZE),
    Case(
        "9218 7.1 ahead of its stream",
        raw(PRIORITY_UPDATE, 0, 0, NUMBER(9) + b"u=0"),
        SERVED,
    ),
]

# The rest of sections 4 to 6: what the table above has for one kind of frame.
CASES += [
    *(
        Case(
            f"4.2 {name} beyond the size",
            raw(kind, 0, stream_id, bytes(16385)),
            FRAME_SIZE,
        )
        for name, kind, stream_id in (
            ("HEADERS", HEADERS, 1),
            ("PRIORITY", PRIORITY, 1),
            ("SETTINGS", SETTINGS, 0),
            ("PING", PING, 0),
            ("GOAWAY", GOAWAY, 0),
            ("unknown frame", 0x42, 1),
        )
    ),
    Case(
        "4.2 CONTINUATION beyond the size",
        within_block(CONTINUATION, 0, 1, bytes(16385)),
        FRAME_SIZE,
    ),
    *(
        Case(f"4.2 {name} too long", raw(kind, 0, stream_id, bytes(size)), FRAME_SIZE)
        for name, kind, stream_id, size in (
            ("PRIORITY", PRIORITY, 1, 6),
            ("PING", PING, 0, 9),
        )
    ),
    Case(
        "4.2 RST_STREAM too long", after_request(RST_STREAM, 0, 1, bytes(5)), FRAME_SIZE
    ),
    Case("4.2 WINDOW_UPDATE too long", raw(WINDOW_UPDATE, 0, 0, bytes(5)), FRAME_SIZE),
    Case(
        "4.2 stream's WINDOW_UPDATE too long",
        after_request(WINDOW_UPDATE, 0, 1, bytes(5)),
        FRAME_SIZE,
    ),
    Case(
        "4.2 stream's WINDOW_UPDATE too short",
        after_request(WINDOW_UPDATE, 0, 1, bytes(3)),
        FRAME_SIZE,
    ),
    Case(
        "4.2 DATA without its padding's length",
        after_request(DATA, PADDED, 1, b""),
        FRAME_SIZE,
    ),
    Case(
        "4.2 HEADERS without its padding's length",
        raw(HEADERS, WHOLE | PADDED, 1),
        FRAME_SIZE,
    ),
    # Section 4.3, and RFC 7541: what cannot be decoded.
    *(
        Case(f"4.3 {name}", block(data), COMPRESSION)
        for name, data in (
            ("index of nothing", b"\x80"),
            ("index beyond the tables", b"\xfe"),
            ("name's index beyond the tables", b"\x7e\1a"),
            ("number without an end", b"\xff" + b"\xff" * 20 + b"\0"),
            ("string beyond the block", b"\0\x05ab"),
            ("field without a value", b"\0\1a"),
            ("Huffman padding of a byte", b"\0\x81\xff\1a"),
            ("Huffman padding of zeros", b"\0\x81\x18\1a"),
            ("Huffman end of string", b"\0\x84\xff\xff\xff\xff\1a"),
            ("table size after a field", b"\x20"),
        )
    ),
    Case(
        "4.3 table size before the fields",
        lambda w: w.frame(HEADERS, WHOLE, 1, b"\x20\x3f\xe1\x1f" + w.block(POST)),
        SERVED,
    ),
    Case(
        "4.3 malformed request changes the table",
        lambda w: (
            w.frame(HEADERS, WHOLE, 1, b"\x40\1x\1y" + w.block(POST))
            + w.frame(HEADERS, WHOLE, 3, w.block(POST) + b"\xbe")
        ),
        MALFORMED,
    ),
    Case(
        "4.3 trailers change the table",
        lambda w: (
            w.headers(1, end=False, base=POST)
            + w.frame(HEADERS, WHOLE, 1, b"\x40\1x\1y")
            + w.frame(HEADERS, WHOLE, 3, w.block(POST) + b"\xbe")
        ),
        SERVED,
    ),
    Case(
        "4.3 padded and in parts",
        lambda w: (
            w.frame(HEADERS, END_STREAM | PADDED, 1, b"\2" + w.block(POST[:2]) + b"ab")
            + w.frame(CONTINUATION, 0, 1)
            + w.frame(CONTINUATION, END_HEADERS, 1, w.block(POST[2:]))
        ),
        SERVED,
    ),
    *(
        Case(
            f"4.3 {name} within a block",
            within_block(kind, flags, stream_id, payload),
            PROTOCOL,
        )
        for name, kind, flags, stream_id, payload in (
            ("DATA", DATA, 0, 1, b"x"),
            ("HEADERS", HEADERS, WHOLE, 1, b"\x82"),
            ("another stream's HEADERS", HEADERS, WHOLE, 3, b"\x82"),
            ("PRIORITY", PRIORITY, 0, 1, bytes(5)),
            ("RST_STREAM", RST_STREAM, 0, 1, bytes(4)),
            ("SETTINGS", SETTINGS, 0, 0, b""),
            ("GOAWAY", GOAWAY, 0, 0, bytes(8)),
            ("WINDOW_UPDATE", WINDOW_UPDATE, 0, 0, NUMBER(1)),
            ("PUSH_PROMISE", PUSH_PROMISE, END_HEADERS, 1, NUMBER(2) + b"\x82"),
            ("no stream's CONTINUATION", CONTINUATION, 0, 0, b""),
        )
    ),
    # Section 5.1: states.
    *(
        Case(f"5.1 idle, the server's: {name}", raw(kind, 0, 2, payload), PROTOCOL)
        for name, kind, payload in (
            ("DATA", DATA, b"x"),
            ("RST_STREAM", RST_STREAM, NUMBER(8)),
            ("WINDOW_UPDATE", WINDOW_UPDATE, NUMBER(1)),
        )
    ),
    *(
        Case(
            f"5.1 idle, above a stream: {name}",
            together(complete_request(), raw(kind, 0, 3, payload)),
            PROTOCOL,
        )
        for name, kind, payload in (
            ("DATA", DATA, b"x"),
            ("RST_STREAM", RST_STREAM, NUMBER(8)),
            ("WINDOW_UPDATE", WINDOW_UPDATE, NUMBER(1)),
        )
    ),
    Case(
        "5.1 idle: PUSH_PROMISE",
        raw(PUSH_PROMISE, END_HEADERS, 1, NUMBER(2) + b"\x82"),
        PROTOCOL,
    ),
    *(
        Case(
            f"5.1 half-closed: {name}",
            together(complete_request(), raw(kind, 0, 1, payload)),
            SERVED,
        )
        for name, kind, payload in (
            ("PRIORITY", PRIORITY, bytes(5)),
            ("WINDOW_UPDATE", WINDOW_UPDATE, NUMBER(1)),
            ("RST_STREAM", RST_STREAM, NUMBER(8)),
        )
    ),
    Case(
        "5.1 half-closed: CONTINUATION",
        together(complete_request(), raw(CONTINUATION, END_HEADERS, 1)),
        PROTOCOL,
    ),
    Case(
        "5.1 half-closed: trailers",
        together(
            complete_request(),
            lambda w: w.frame(HEADERS, WHOLE, 1, w.block([(b"x", b"y")])),
        ),
        LATE,
    ),
    Case(
        "5.1 half-closed: empty DATA",
        together(complete_request(), raw(DATA, END_STREAM, 1)),
        LATE,
    ),
    Case("5.1 closed: CONTINUATION", raw(CONTINUATION, END_HEADERS, 1), PROTOCOL, True),
    Case("5.1 closed: padded DATA", raw(DATA, PADDED, 1, b"\1x\0"), CLOSED, True),
    *(
        Case(
            f"5.1 reset by the client: {name}",
            together(open_request(), raw(RST_STREAM, 0, 1, NUMBER(8)), after),
            expected,
        )
        for name, after, expected in (
            ("DATA", raw(DATA, 0, 1, b"x"), CLOSED),
            ("HEADERS", complete_request(), CLOSED),
            ("PRIORITY", raw(PRIORITY, 0, 1, bytes(5)), SERVED),
            ("RST_STREAM", raw(RST_STREAM, 0, 1, NUMBER(8)), SERVED),
            ("WINDOW_UPDATE", raw(WINDOW_UPDATE, 0, 1, NUMBER(1)), SERVED),
        )
    ),
    # Section 5.1.1: numbers.
    Case(
        "5.1.1 DATA on one that was passed over",
        lambda w: w.headers(5) + w.data(3, b"x"),
        CLOSED,
    ),
    Case(
        "5.1.1 the greatest number",
        lambda w: w.frame(HEADERS, WHOLE, 99, w.block(POST)),
        SERVED,
    ),
    # Section 5.3.2: the old priorities are not heeded, whatever they say.
    Case(
        "5.3 stream that depends on itself",
        together(
            open_request(path=b"/"),
            raw(PRIORITY, 0, 1, NUMBER(1) + b"\0"),
            raw(DATA, END_STREAM, 1),
        ),
        SERVED,
    ),
    Case(
        "5.3 request that depends on itself",
        lambda w: w.frame(
            HEADERS, WHOLE | HAS_PRIORITY, 1, NUMBER(1) + b"\0" + w.block(POST)
        ),
        SERVED,
    ),
    # Section 6.1: DATA.
    Case(
        "6.1 padding that is not zero",
        together(open_request(path=b"/"), raw(DATA, PADDED | END_STREAM, 1, b"\2abc")),
        SERVED,
    ),
    Case(
        "6.1 nothing but padding",
        together(
            open_request(path=b"/"), raw(DATA, PADDED | END_STREAM, 1, b"\3\0\0\0")
        ),
        SERVED,
    ),
    Case(
        "6.1 nothing",
        together(open_request(path=b"/"), raw(DATA, END_STREAM, 1)),
        SERVED,
    ),
    Case("6.1 padded, without a stream", raw(DATA, PADDED, 0, b"\1x\0"), PROTOCOL),
    # Section 6.2: HEADERS.
    Case(
        "6.2 padding beyond what the priority leaves",
        lambda w: w.frame(
            HEADERS, WHOLE | PADDED | HAS_PRIORITY, 1, b"\4" + bytes(5) + b"\x82\0\0"
        ),
        PROTOCOL,
    ),
    # Section 6.4: RST_STREAM.
    Case(
        "6.4 unknown code",
        together(open_request(), raw(RST_STREAM, 0, 1, NUMBER(0xDEADBEEF))),
        SERVED,
    ),
    # Section 6.5: SETTINGS.
    *(
        Case(f"6.5.2 setting {code}: {value}", setting(code, value), SERVED)
        for code, value in (
            (1, 0),
            (1, 2**32 - 1),
            (2, 0),
            (2, 1),
            (3, 0),
            (3, 2**32 - 1),
            (4, 0),
            (4, 2**31 - 1),
            (5, 16384),
            (5, 2**24 - 1),
            (6, 0),
            (6, 2**32 - 1),
            (8, 0),
            (8, 1),
            (9, 1),
        )
        if (code, value) != (4, 0)
    ),
    Case("6.5.2 frame size of nothing", setting(5, 0), PROTOCOL),
    Case("6.5.2 push of 32 bits", setting(2, 2**32 - 1), PROTOCOL),
    Case("6.5.2 window of 32 bits", setting(4, 2**32 - 1), OVERFLOW),
    Case(
        "6.5.3 first of two values is wrong",
        raw(SETTINGS, 0, 0, struct.pack(">HLHL", 2, 7, 2, 0)),
        PROTOCOL,
    ),
    Case("6.5.3 acknowledgement of nothing", raw(SETTINGS, ACK, 0), SERVED),
    Case("6.5.3 acknowledgement on a stream", raw(SETTINGS, ACK, 1), PROTOCOL),
    # Section 6.6: PUSH_PROMISE.
    Case(
        "6.6 without a stream",
        raw(PUSH_PROMISE, END_HEADERS, 0, NUMBER(2) + b"\x82"),
        PROTOCOL,
    ),
    # Section 6.7: PING.
    Case("6.7 acknowledgement on a stream", raw(PING, ACK, 1, b"12345678"), PROTOCOL),
    # Section 6.8: GOAWAY.
    Case(
        "6.8 with a reason, and streams after it",
        together(
            raw(GOAWAY, 0, 0, bytes(4) + NUMBER(0xDEADBEEF) + b"bye"),
            lambda w: w.headers(1),
        ),
        SERVED,
    ),
    Case("6.8 of a higher stream than before", raw(GOAWAY, 0, 0, bytes(8)), SERVED),
    # Section 6.9: WINDOW_UPDATE.
    Case(
        "6.9 reserved bit of nothing, connection",
        raw(WINDOW_UPDATE, 0, 0, NUMBER(1 << 31)),
        PROTOCOL,
    ),
    Case("6.9 of nothing, closed", raw(WINDOW_UPDATE, 0, 1, NUMBER(0)), SERVED, True),
    Case(
        "6.9.1 sum of updates beyond the limit",
        together(*[raw(WINDOW_UPDATE, 0, 0, NUMBER(2**30))] * 2),
        OVERFLOW,
    ),
    Case(
        "6.9.1 padding beyond the stream's window",
        together(open_request(), *[raw(DATA, PADDED, 1, b"\xff" + bytes(16383))] * 2),
        stream_error(ErrorCodes.FLOW_CONTROL_ERROR),
    ),
    Case(
        "6.9.1 more content than the connection's window",
        lambda w: b"".join(
            w.headers(one, end=False) + w.data(one, bytes(16384))
            for one in range(1, 140, 2)
        ),
        OVERFLOW,
    ),
    Case(
        "6.9.2 setting that moves a window beyond its limit",
        together(
            open_request(),
            raw(WINDOW_UPDATE, 0, 1, NUMBER(2**31 - 1 - 65535)),
            setting(4, 65536),
        ),
        OVERFLOW,
    ),
    Case("6.9.2 window of nothing", together(setting(4, 0), setting(4, 65535)), SERVED),
    # Section 6.10: CONTINUATION.
    Case(
        "6.10 after a whole block",
        together(open_request(), raw(CONTINUATION, END_HEADERS, 1)),
        PROTOCOL,
    ),
    Case(
        "6.10 after DATA",
        together(
            open_request(), raw(DATA, 0, 1, b"x"), raw(CONTINUATION, END_HEADERS, 1)
        ),
        PROTOCOL,
    ),
    Case(
        "6.10 after SETTINGS",
        together(raw(SETTINGS, 0, 0), raw(CONTINUATION, END_HEADERS, 1)),
        PROTOCOL,
    ),
    Case(
        "6.10 of nothing",
        in_parts(2, between=frames.pack_header(0, CONTINUATION, 0, 1)),
        SERVED,
    ),
]

# The rest of section 8.
CASES += [
    Case(
        "8.1 DATA after trailers",
        together(open_request(), trailers(b"x"), raw(DATA, 0, 1, b"x")),
        LATE,
    ),
    Case(
        "8.1 trailers twice",
        together(open_request(), trailers(b"x"), trailers(b"y")),
        LATE,
    ),
    Case("8.1 trailers without a field", with_trailers(), SERVED),
    Case(
        "8.1 trailers in parts",
        lambda w: (
            w.headers(1, end=False, base=POST)
            + w.frame(HEADERS, END_STREAM, 1, b"")
            + w.frame(CONTINUATION, END_HEADERS, 1, w.block([(b"x", b"y")]))
        ),
        SERVED,
    ),
    Case(
        "8.1 trailers in parts without an end",
        lambda w: (
            w.headers(1, end=False, base=POST)
            + w.frame(HEADERS, 0, 1, b"")
            + w.frame(CONTINUATION, END_HEADERS, 1, w.block([(b"x", b"y")]))
        ),
        MALFORMED,
    ),
    *(
        Case(
            f"8.1 {name.decode()} in trailers", with_trailers((name, value)), MALFORMED
        )
        for name, value in (
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"a"),
            (b":status", b"200"),
            (b":x", b"y"),
            (b"connection", b"close"),
            (b"transfer-encoding", b"chunked"),
            (b"te", b"gzip"),
            (b"X", b"y"),
            (b"x y", b"z"),
        )
    ),
    Case("8.1 control byte in trailers", with_trailers((b"x", b"a\0")), MALFORMED),
    Case(
        "8.1.1 length, and a request's end by trailers",
        with_trailers((b"x", b"y")),
        SERVED,
    ),
    Case(
        "8.1.1 length, and empty DATA",
        together(open_request(1, (b"content-length", b"1")), raw(DATA, END_STREAM, 1)),
        MALFORMED,
    ),
    Case(
        "8.1.1 length, and padding",
        together(
            open_request(1, (b"content-length", b"3")),
            raw(DATA, PADDED | END_STREAM, 1, b"\2a\0\0"),
        ),
        MALFORMED,
    ),
    Case(
        "8.1.1 length, padding taken off",
        together(
            open_request(1, (b"content-length", b"1"), path=b"/"),
            raw(DATA, PADDED | END_STREAM, 1, b"\2a\0\0"),
        ),
        SERVED,
    ),
    Case(
        "8.1.1 length beyond 64 bits",
        fields((b"content-length", b"9" * 30)),
        ("status", 400),
    ),
    Case("8.1.1 lengths in a list", fields((b"content-length", b"0, 0")), BAD),
    Case("8.2.2 empty TE", fields((b"te", b"")), MALFORMED),
    Case("8.2.2 TE twice", fields((b"te", b"trailers"), (b"te", b"gzip")), MALFORMED),
    Case("8.2.2 TE in capitals", fields((b"te", b"Trailers")), SERVED),
    Case(
        "8.2.3 cookies in crumbs",
        fields((b"cookie", b"a=b"), (b"cookie", b"c=d")),
        SERVED,
    ),
    *(
        Case(f"8.3 {name.decode()} twice", twice(name), MALFORMED)
        for name in (b":method", b":scheme", b":authority")
    ),
    Case("8.3 in capitals", raw_fields(*POST, (b":Path", b"/")), MALFORMED),
    Case("8.3 nothing but the colon", raw_fields(*POST, (b":", b"/")), MALFORMED),
    Case("8.3 no field at all", raw_fields(), MALFORMED),
    Case(
        "8.3 between regular ones",
        raw_fields(*POST[:3], (b"x", b"y"), POST[3]),
        MALFORMED,
    ),
    *(
        Case(f"8.3.1 {what} in {name}", fields(**{name: value}), BAD)
        for name, what, value in (
            ("path", "NUL", b"/\0"),
            ("path", "CR and LF", b"/\r\nx: y"),
            ("path", "tab", b"/\t"),
            ("path", "blank before a slash", b" /"),
            ("authority", "NUL", b"a\0"),
            ("authority", "LF", b"a\nb"),
            ("authority", "blank", b"a b"),
            ("authority", "slash", b"a/b"),
            ("method", "LF", b"GET\n"),
            ("method", "nothing", b""),
            ("scheme", "LF", b"https\n"),
            ("scheme", "blank", b" https"),
        )
    ),
    Case("8.3.1 empty scheme", fields(scheme=b""), MALFORMED),
    Case("8.3.1 absolute form in the path", fields(path=b"https://a/"), BAD),
    Case(
        "8.5 CONNECT without an authority",
        raw_fields((b":method", b"CONNECT")),
        ("status", 501),
    ),
    *(
        Case(
            f"8441 4 protocol without {name.decode()}",
            raw_fields(
                (b":method", b"CONNECT"),
                (b":protocol", b"websocket"),
                *[pair for pair in POST[1:] if pair[0] != name],
            ),
            expected,
        )
        for name, expected in (
            (b":scheme", MALFORMED),
            (b":path", MALFORMED),
            (b":authority", BAD),
        )
    ),
    Case(
        "8441 4 two protocols",
        raw_fields(
            (b":method", b"CONNECT"), *POST[1:], *[(b":protocol", b"websocket")] * 2
        ),
        MALFORMED,
    ),
    Case(
        "8441 4 empty protocol",
        raw_fields((b":method", b"CONNECT"), *POST[1:], (b":protocol", b"")),
        ("status", 501),
    ),
    Case(
        "8441 4 protocol within the regular ones",
        raw_fields(
            (b":method", b"CONNECT"),
            *POST[1:],
            (b"x", b"y"),
            (b":protocol", b"websocket"),
        ),
        MALFORMED,
    ),
    *(
        Case(
            f"9218 7.1 value {value!r}",
            raw(PRIORITY_UPDATE, 0, 0, NUMBER(1) + value),
            SERVED,
        )
        for value in (b"", b"u=9", b"u=", b"\xff\0", b"u=1;" * 100)
    ),
]
