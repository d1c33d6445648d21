"""What RFC 9114 demands of a server, as a table of raw frames.

Each case is what a client sends on its streams, and what must become of it: a
connection error with its code, a stream error with its code, or a status. Where the
RFC lets a server choose, the case names our choice. With the MUSTs of sections 4 to 7
that a client can break by its frames stands what it may do that looks like that, and
what RFC 9204 (QPACK), 9218 (priorities) and 9220 (WebSocket) add.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from djserve.protocols.http3.errors import ErrorCode
from djserve.protocols.http3.frames import (
    CANCEL_PUSH,
    DATA,
    GOAWAY,
    HEADERS,
    MAX_FIELD_SECTION_SIZE,
    MAX_PUSH_ID,
    PRIORITY_UPDATE,
    PRIORITY_UPDATE_OF_PUSH,
    PUSH_PROMISE,
    SETTINGS,
    encode_frame,
    encode_integer,
    encode_settings,
)

if TYPE_CHECKING:
    from djserve.interfaces import Headers
    from tests.protocols.http3.conftest import Wire

Sent = list[tuple[int, bytes, bool]]
"""The bytes of each stream, and whether they end it."""

GREETING = b"\0" + encode_settings({MAX_FIELD_SECTION_SIZE: 1000})
CONTROL, ENCODER, DECODER, OTHER = 2, 6, 10, 14
RESERVED_TYPES = (0x2, 0x6, 0x8, 0x9)
GREASE = encode_frame(0x21, b"grease")


class Case(NamedTuple):
    """``expected``: where the fault is ("connection", "stream", "status"), its code."""

    name: str
    sent: Callable[[Wire], Sent]
    expected: tuple[str, int]


def connection_error(code: ErrorCode) -> tuple[str, int]:
    return ("connection", code)


def stream_error(code: ErrorCode) -> tuple[str, int]:
    return ("stream", code)


SERVED = ("status", 200)
MALFORMED = stream_error(ErrorCode.MESSAGE_ERROR)
UNEXPECTED = connection_error(ErrorCode.FRAME_UNEXPECTED)
FRAME_ERROR = connection_error(ErrorCode.FRAME_ERROR)
CREATION = connection_error(ErrorCode.STREAM_CREATION_ERROR)
CRITICAL = connection_error(ErrorCode.CLOSED_CRITICAL_STREAM)
BAD_ID = connection_error(ErrorCode.ID_ERROR)
BAD_SETTINGS = connection_error(ErrorCode.SETTINGS_ERROR)


def head(
    *regular: tuple[bytes, bytes],
    without: tuple[bytes, ...] = (),
    **pseudo: bytes,
) -> Headers:
    """Return the fields of a POST; keywords replace pseudo-header fields."""
    fields = {"method": b"POST", "scheme": b"https", "authority": b"a", "path": b"/"}
    fields |= pseudo
    named = [(b":" + name.encode(), value) for name, value in fields.items()]
    return [*(pair for pair in named if pair[0] not in without), *regular]


def request(
    fields: Headers | None = None,
    *after: bytes,
    before: bytes = b"",
    is_complete: bool = True,
) -> Callable[[Wire], Sent]:
    """Return what sends a head between other frames, on stream 0."""

    def build(wire: Wire) -> Sent:
        frame = wire.block(head() if fields is None else fields)
        return [(0, before + frame + b"".join(after), is_complete)]

    return build


def trailers(*fields: tuple[bytes, bytes]) -> Callable[[Wire], Sent]:
    """Return what sends a request with content and a trailer section."""

    def build(wire: Wire) -> Sent:
        content = encode_frame(DATA, b"abc")
        return [(0, wire.block(head()) + content + wire.block(list(fields)), True)]

    return build


def raw(data: bytes, *, is_complete: bool = True) -> Callable[[Wire], Sent]:
    """Return what sends bytes on stream 0."""
    return lambda wire: [(0, data, is_complete)]


def control(*frames: bytes, greeting: bytes = GREETING) -> Callable[[Wire], Sent]:
    """Return what sends frames on the control stream, and a request."""
    return lambda wire: [
        (CONTROL, greeting + b"".join(frames), False),
        (0, wire.block(head()), True),
    ]


def unidirectional(*streams: tuple[int, bytes, bool]) -> Callable[[Wire], Sent]:
    """Return what sends other unidirectional streams, and a request."""
    return lambda wire: [
        (CONTROL, GREETING, False),
        *streams,
        (0, wire.block(head()), True),
    ]


CONTENT = encode_frame(DATA, b"abc")
WEBSOCKET = (b"sec-websocket-version", b"13")

CASES = [
    # Section 4.1: the frames of a request.
    Case("4.1 head", request(), SERVED),
    Case("4.1 head and content", request(None, CONTENT, CONTENT), SERVED),
    Case("4.1 empty content", request(None, encode_frame(DATA, b"")), SERVED),
    Case("4.1 trailers", trailers((b"x", b"y")), SERVED),
    Case("4.1 content first", raw(CONTENT), UNEXPECTED),
    Case(
        "4.1 content after trailers",
        lambda wire: [
            (0, wire.block(head()) + wire.block([(b"x", b"y")]) + CONTENT, True)
        ],
        UNEXPECTED,
    ),
    Case(
        "4.1 third head",
        lambda wire: [(0, wire.block(head()) + 2 * wire.block([(b"x", b"y")]), True)],
        UNEXPECTED,
    ),
    Case(
        "4.1 no head",
        raw(b""),
        stream_error(ErrorCode.REQUEST_INCOMPLETE),
    ),
    Case(
        "4.1 unknown frames alone",
        raw(GREASE),
        stream_error(ErrorCode.REQUEST_INCOMPLETE),
    ),
    # Section 4.1.2: malformed messages.
    Case(
        "4.1.2 content longer than its length",
        request(head((b"content-length", b"2")), CONTENT),
        MALFORMED,
    ),
    Case(
        "4.1.2 content shorter than its length",
        request(head((b"content-length", b"4")), CONTENT),
        MALFORMED,
    ),
    Case(
        "4.1.2 content of its length",
        request(head((b"content-length", b"3")), CONTENT),
        SERVED,
    ),
    Case(
        "4.1.2 two lengths",
        request(head((b"content-length", b"3"), (b"content-length", b"4")), CONTENT),
        MALFORMED,
    ),
    # Section 4.2: fields.
    Case("4.2 capital letters", request(head((b"X", b"y"))), MALFORMED),
    *(
        Case(f"4.2 {name.decode()}", request(head((name, b"x"))), MALFORMED)
        for name in (
            b"connection",
            b"keep-alive",
            b"proxy-connection",
            b"transfer-encoding",
            b"upgrade",
        )
    ),
    Case("4.2 te: trailers", request(head((b"te", b"trailers"))), SERVED),
    Case("4.2 te: gzip", request(head((b"te", b"gzip"))), MALFORMED),
    Case("4.2 line feed", request(head((b"x", b"a\nb"))), ("status", 400)),
    Case(
        "4.2.1 cookies in parts",
        request(head((b"cookie", b"a=1"), (b"cookie", b"b=2"))),
        SERVED,
    ),
    Case("4.2.2 large section", request(head((b"x", b"y" * 1000))), ("status", 431)),
    # Section 4.3: pseudo-header fields.
    Case("4.3 unknown", request(head(unknown=b"x")), MALFORMED),
    Case("4.3 of a response", request(head(status=b"200")), MALFORMED),
    Case("4.3 after others", request([(b"x", b"y"), *head()]), MALFORMED),
    Case("4.3 twice", request([*head(), (b":path", b"/b")]), MALFORMED),
    Case("4.3 in trailers", trailers((b":path", b"/")), MALFORMED),
    Case("4.3 capital letters in trailers", trailers((b"X", b"y")), MALFORMED),
    *(
        Case(
            f"4.3.1 no {name.decode()}",
            request(head((b"host", b"a"), without=(name,))),
            MALFORMED,
        )
        for name in (b":method", b":scheme", b":path")
    ),
    Case("4.3.1 empty path", request(head(path=b"")), MALFORMED),
    Case(
        "4.3.1 host alone",
        request(head((b"host", b"a"), without=(b":authority",))),
        SERVED,
    ),
    Case(
        "4.3.1 neither host nor authority",
        request(head(without=(b":authority",))),
        ("status", 400),
    ),
    Case("4.3.1 another host", request(head((b"host", b"b"))), ("status", 400)),
    Case(
        "4.3.1 empty authority",
        request(head(authority=b"")),
        ("status", 400),
    ),
    Case("4.3.1 userinfo", request(head(authority=b"u@a")), ("status", 400)),
    Case(
        "4.3.1 OPTIONS *",
        request(head(method=b"OPTIONS", path=b"*")),
        SERVED,
    ),
    # Section 4.4, RFC 9220: CONNECT.
    Case(
        "4.4 CONNECT is not served",
        request([(b":method", b"CONNECT"), (b":authority", b"a:1")]),
        ("status", 501),
    ),
    Case(
        "9220 3 unknown protocol",
        request(head(method=b"CONNECT", protocol=b"x"), is_complete=False),
        ("status", 501),
    ),
    Case("9220 3 protocol without CONNECT", request(head(protocol=b"x")), MALFORMED),
    # Section 4.6: a client promises nothing.
    Case("4.6 push stream", unidirectional((OTHER, b"\x01\0", False)), CREATION),
    # Section 5.2: a client's GOAWAY names a push.
    Case("5.2 GOAWAY", control(encode_frame(GOAWAY, b"\0")), SERVED),
    Case(
        "5.2 GOAWAY again, lower",
        control(encode_frame(GOAWAY, b"\2"), encode_frame(GOAWAY, b"\1")),
        SERVED,
    ),
    Case(
        "5.2 GOAWAY again, higher",
        control(encode_frame(GOAWAY, b"\1"), encode_frame(GOAWAY, b"\2")),
        BAD_ID,
    ),
    # Section 6.2: unidirectional streams.
    Case("6.2 unknown type", unidirectional((OTHER, b"\x21x", False)), SERVED),
    Case("6.2 ends before its type", unidirectional((OTHER, b"", True)), SERVED),
    Case(
        "6.2.1 second control stream", unidirectional((OTHER, b"\0", False)), CREATION
    ),
    Case(
        "6.2.1 control stream ends",
        lambda wire: [(CONTROL, GREETING, True), (0, wire.block(head()), True)],
        CRITICAL,
    ),
    Case(
        "6.2.1 no SETTINGS first",
        control(encode_frame(GOAWAY, b"\0"), greeting=b"\0"),
        connection_error(ErrorCode.MISSING_SETTINGS),
    ),
    Case(
        "6.2.1 unknown frame first",
        control(GREASE, greeting=b"\0"),
        connection_error(ErrorCode.MISSING_SETTINGS),
    ),
    # Section 7.1: the layout of frames.
    Case("7.1 type is cut short", raw(b"\x40"), FRAME_ERROR),
    Case("7.1 head is cut short", raw(b"\x01\x05abc"), FRAME_ERROR),
    Case("7.1 content is cut short", request(None, b"\0\x05abc"), FRAME_ERROR),
    Case(
        "7.1 more in GOAWAY than its number",
        control(encode_frame(GOAWAY, b"\0\0")),
        FRAME_ERROR,
    ),
    Case("7.1 empty GOAWAY", control(encode_frame(GOAWAY, b"")), FRAME_ERROR),
    Case("7.1 empty MAX_PUSH_ID", control(encode_frame(MAX_PUSH_ID, b"")), FRAME_ERROR),
    Case(
        "7.1 SETTINGS are cut short",
        control(greeting=b"\0" + encode_frame(SETTINGS, b"\x06")),
        FRAME_ERROR,
    ),
    Case("7.1 length in eight bytes", raw(b"\0" + b"\xc0" + b"\0" * 7), UNEXPECTED),
    # Section 7.2: where frames belong.
    Case("7.2.1 DATA for control", control(encode_frame(DATA, b"")), UNEXPECTED),
    Case("7.2.2 HEADERS for control", control(encode_frame(HEADERS, b"")), UNEXPECTED),
    *(
        Case(
            f"7.2 {name} in a request",
            request(None, encode_frame(kind, b"\0")),
            UNEXPECTED,
        )
        for name, kind in (
            ("CANCEL_PUSH", CANCEL_PUSH),
            ("SETTINGS", SETTINGS),
            ("PUSH_PROMISE", PUSH_PROMISE),
            ("GOAWAY", GOAWAY),
            ("MAX_PUSH_ID", MAX_PUSH_ID),
            ("PRIORITY_UPDATE", PRIORITY_UPDATE),
        )
    ),
    Case(
        "7.2.3 CANCEL_PUSH of no push",
        control(encode_frame(CANCEL_PUSH, b"\0")),
        BAD_ID,
    ),
    Case("7.2.4 second SETTINGS", control(encode_settings({})), UNEXPECTED),
    Case(
        "7.2.4 unknown setting",
        control(greeting=b"\0" + encode_settings({0x21: 7})),
        SERVED,
    ),
    Case(
        "7.2.4.1 setting twice",
        control(greeting=b"\0" + encode_frame(SETTINGS, b"\x06\0\x06\0")),
        BAD_SETTINGS,
    ),
    *(
        Case(
            f"7.2.4.1 reserved setting {number}",
            control(greeting=b"\0" + encode_frame(SETTINGS, bytes([number, 0]))),
            BAD_SETTINGS,
        )
        for number in (0x2, 0x3, 0x4, 0x5)
    ),
    Case(
        "7.2.5 PUSH_PROMISE for control",
        control(encode_frame(PUSH_PROMISE, b"\0")),
        UNEXPECTED,
    ),
    Case("7.2.7 MAX_PUSH_ID", control(encode_frame(MAX_PUSH_ID, b"\5")), SERVED),
    Case(
        "7.2.7 MAX_PUSH_ID is lowered",
        control(encode_frame(MAX_PUSH_ID, b"\5"), encode_frame(MAX_PUSH_ID, b"\4")),
        BAD_ID,
    ),
    *(
        Case(
            f"7.2.8 type {kind} in a request", raw(encode_frame(kind, b"")), UNEXPECTED
        )
        for kind in RESERVED_TYPES
    ),
    *(
        Case(
            f"7.2.8 type {kind} for control",
            control(encode_frame(kind, b"")),
            UNEXPECTED,
        )
        for kind in RESERVED_TYPES
    ),
    # Section 9: what is not known is passed over.
    Case("9 unknown frame ahead of a head", request(before=GREASE), SERVED),
    Case("9 unknown frame behind a head", request(None, GREASE, CONTENT), SERVED),
    Case("9 unknown frame for control", control(GREASE), SERVED),
    # RFC 9204: QPACK, of whose tables we offer none.
    Case(
        "9204 4.2 second encoder stream",
        unidirectional((ENCODER, b"\x02", False), (OTHER, b"\x02", False)),
        CREATION,
    ),
    Case(
        "9204 4.2 encoder stream ends",
        unidirectional((ENCODER, b"\x02", True)),
        CRITICAL,
    ),
    Case(
        "9204 4.2 decoder stream ends",
        unidirectional((DECODER, b"\x03", True)),
        CRITICAL,
    ),
    Case(
        "9204 4.3.1 table beyond the limit",
        unidirectional((ENCODER, b"\x02\x3f\x01", False)),
        connection_error(ErrorCode.QPACK_ENCODER_STREAM_ERROR),
    ),
    Case(
        "9204 4.4.1 acknowledgement of no section",
        unidirectional((DECODER, b"\x03\x80", False)),
        connection_error(ErrorCode.QPACK_DECODER_STREAM_ERROR),
    ),
    Case(
        "9204 4.4.3 increment of nothing",
        unidirectional((DECODER, b"\x03\0", False)),
        connection_error(ErrorCode.QPACK_DECODER_STREAM_ERROR),
    ),
    Case(
        "9204 2.2.3 reference to an entry that is not there",
        raw(encode_frame(HEADERS, b"\x02\0\x80")),
        connection_error(ErrorCode.QPACK_DECOMPRESSION_FAILED),
    ),
    # RFC 9218: priorities.
    Case(
        "9218 7.2 PRIORITY_UPDATE",
        control(encode_frame(PRIORITY_UPDATE, encode_integer(0) + b"u=1")),
        SERVED,
    ),
    Case(
        "9218 7.2 PRIORITY_UPDATE of no request",
        control(encode_frame(PRIORITY_UPDATE, encode_integer(2) + b"u=1")),
        BAD_ID,
    ),
    Case(
        "9218 7.2 PRIORITY_UPDATE of a push",
        control(encode_frame(PRIORITY_UPDATE_OF_PUSH, encode_integer(0) + b"u=1")),
        BAD_ID,
    ),
]
