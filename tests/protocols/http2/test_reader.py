"""What RFC 9113 demands of a server, by raw frames split at random byte boundaries.

Each case is the bytes of a client after the opening, and what must become of them: a
connection error with its code, a stream error with its code, a status, or nothing
unusual. Where the RFC lets a server choose, the case names our choice.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from h2.errors import ErrorCodes
from hypothesis import given
from hypothesis import strategies as st

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
    from collections.abc import Iterable

    from tests.protocols.http2.conftest import Wire

    Bytes = Callable[[Wire], bytes]
    from tests.protocols.http2.conftest import Request, Wire


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


class Outcome:
    """One connection's life with a client that sends some bytes and a last request."""

    def __init__(
        self, open_wire: type[Wire], case: Case, cut: Callable[[bytes], list[bytes]]
    ) -> None:
        self.wire = open_wire(
            http2_stream_window_size=20000, on_start=self.start, http2_ping_interval=0
        )
        if case.is_closed:
            self.wire.feed(self.wire.headers(1))
        self.wire.feed(*cut(case.data(self.wire)))
        self.fault = self.find_fault()
        if not self.wire.goaways:
            self.wire.feed(self.wire.headers(101))
            assert self.wire.responses[101].status == 200

    @staticmethod
    def start(request: Any) -> None:
        """Answer, once all has come; but not where the test wants the stream open."""
        if request.head.raw_path == b"/wait":
            return
        if request.is_complete:
            request.answer()
        else:
            eof_received = request.eof_received

            def answer() -> None:
                eof_received()
                request.answer()

            request.eof_received = answer

    def find_fault(self) -> tuple[str, int]:
        wire = self.wire
        if wire.goaways:
            assert wire.is_closed()
            return ("connection", wire.goaways[0][1])
        for code in wire.resets.values():
            return ("stream", code)
        statuses = [response.status for response in wire.responses.values()]
        return ("status", statuses[0] if statuses else 200)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_client(case: Case, open_wire: type[Wire]) -> None:
    outcome = Outcome(open_wire, case, lambda data: [data])

    assert outcome.fault == case.expected


@given(case=st.sampled_from(CASES), cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_client_in_pieces(
    case: Case,
    cuts: list[int],
    open_wire: type[Wire],
    split_bytes: Callable[[bytes, Iterable[int]], list[bytes]],
) -> None:
    outcome = Outcome(open_wire, case, lambda data: split_bytes(data, cuts))

    assert outcome.fault == case.expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_client_byte_by_byte(case: Case, open_wire: type[Wire]) -> None:
    outcome = Outcome(
        open_wire,
        case,
        lambda data: (
            [data[at : at + 1] for at in range(min(len(data), 3000))]
            + [data[3000:]] * (len(data) > 3000)
        ),
    )

    assert outcome.fault == case.expected


# Section 3.4: the opening.


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        frames.PREFACE[:-1] + b"x",
        frames.PREFACE + frames.pack_header(8, PING, 0, 0) + b"12345678",
        frames.PREFACE + frames.pack_header(0, SETTINGS, ACK, 0),
    ],
    ids=[
        "no preface",
        "nearly the preface",
        "no settings",
        "settings' acknowledgement",
    ],
)
def test_wrong_opening_is_a_connection_error(
    open_wire: type[Wire], data: bytes
) -> None:
    wire = open_wire(greet=False).feed(data)

    assert wire.last_code == ErrorCodes.PROTOCOL_ERROR
    assert wire.is_closed()


def test_settings_are_acknowledged(open_wire: type[Wire]) -> None:
    wire = open_wire(greet=False)
    wire.feed(frames.PREFACE + wire.settings(4, 1000))

    assert wire.log[-1] == (SETTINGS, ACK, 0, b"")


def test_content_is_sent_in_frames_of_the_clients_size(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(5, 20000))
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * 50000)
    wire.turn()

    sizes = [len(frame.payload) for frame in wire.log if frame.kind == DATA]
    assert sizes == [20000, 20000, 10000]


def test_long_response_head_is_continued(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    stream = wire.requests[0].stream
    wire._note_response = lambda frame: None  # type: ignore[method-assign]
    stream.send_response(200, [(b"x", b"y" * 40000)], b"", more=False)
    wire.turn()

    assert wire.kinds() == [HEADERS, CONTINUATION, CONTINUATION]
    assert [frame.flags for frame in wire.log] == [END_STREAM, 0, END_HEADERS]
    block = b"".join(frame.payload for frame in wire.log)
    assert (b"x", b"y" * 40000) in list(wire.decoder.decode(block, raw=True))


CALM = ErrorCodes.ENHANCE_YOUR_CALM


def answer(request: Request) -> None:
    request.answer()


@pytest.mark.parametrize("is_split", [False, True], ids=["at once", "one by one"])
def test_rapid_resets_end_the_connection(open_wire: type[Wire], is_split: bool) -> None:
    # CVE-2023-44487.
    wire = open_wire(http2_reset_limit=50)
    pairs = [
        wire.headers(stream_id) + wire.reset(stream_id)
        for stream_id in range(1, 400, 2)
    ]
    wire.feed(*(pairs if is_split else [b"".join(pairs)]))

    assert wire.last_code == CALM
    assert len(wire.requests) == 51
    assert all(request.is_lost for request in wire.requests)
    assert not any(request.is_started for request in wire.requests) or is_split


@pytest.mark.parametrize(
    "fault",
    [
        lambda wire, stream_id: wire.window(stream_id, 0),
        lambda wire, stream_id: wire.window(stream_id, 2**31 - 1),
        lambda wire, stream_id: wire.data(stream_id, b"x"),
        lambda wire, stream_id: wire.frame(frames.PRIORITY, 0, stream_id, b"x"),
        lambda wire, stream_id: wire.frame(
            frames.HEADERS,
            frames.END_HEADERS | frames.END_STREAM,
            stream_id,
            wire.block([(b"x", b"y")]),
        ),
    ],
    ids=["nothing", "overflow", "data after end", "wrong length", "headers after end"],
)
def test_resets_that_the_server_is_made_to_send_count_too(
    open_wire: type[Wire], fault: object
) -> None:
    # CVE-2025-8671.
    assert callable(fault)
    wire = open_wire(http2_reset_limit=50)
    for stream_id in range(1, 400, 2):
        wire.feed(wire.headers(stream_id) + fault(wire, stream_id))

    assert wire.last_code == CALM
    assert len(wire.resets) == 50
    assert all(request.is_lost for request in wire.requests)


def test_resets_are_forgiven_with_time(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_reset_limit=10)
    wire.tick(0.0)
    for round in range(1, 6):
        for stream_id in range(20 * round + 1, 20 * round + 21, 2):
            wire.feed(wire.headers(stream_id), wire.reset(stream_id))
        wire.tick(round * 10.0)

    assert not wire.goaways


FLOODS = {
    "settings": lambda wire: wire.settings(4, 65535),
    "empty settings": lambda wire: wire.frame(frames.SETTINGS, 0, 0),
    "ping": lambda wire: wire.frame(frames.PING, 0, 0, b"12345678"),
    "ping answers": lambda wire: wire.frame(frames.PING, frames.ACK, 0, b"12345678"),
    "priority": lambda wire: wire.frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\x0f"),
    "priority update": lambda wire: wire.frame(
        frames.PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=0"
    ),
    "window update": lambda wire: wire.window(0, 1),
    "stream's window update": lambda wire: wire.window(1, 1),
    "ended stream's window update": lambda wire: wire.window(3, 1),
    "empty data": lambda wire: wire.data(1),
    "unknown frames": lambda wire: wire.frame(0x42, 0, 0),
    "goaway": lambda wire: frames.encode_goaway(0, 0),
}


@pytest.mark.parametrize("name", FLOODS)
def test_flood_of_control_frames_ends_the_connection(
    open_wire: type[Wire], name: str
) -> None:
    wire = open_wire(http2_control_frame_limit=100)
    wire.feed(wire.headers(1, end=False), wire.headers(3))
    wire.requests[1].answer()
    wire.turn()
    for _ in range(95):
        wire.feed(FLOODS[name](wire))
    assert not wire.goaways

    wire.feed(FLOODS[name](wire) * 20)
    assert wire.last_code == CALM
    assert wire.refused[-1].setting == "HTTP2_CONTROL_FRAME_LIMIT"
    assert wire.is_closed()


def test_padding_alone_counts_as_content(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_control_frame_limit=16, http2_stream_window_size=1024)
    wire.feed(wire.headers(1, end=False))
    padding = wire.frame(frames.DATA, frames.PADDED, 1, b"\xff" + b"\0" * 255)
    wire.feed(padding * 5)

    assert wire.resets == {1: ErrorCodes.FLOW_CONTROL_ERROR}


def test_window_updates_that_responses_call_for_are_free(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(http2_control_frame_limit=16)
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * 10_000_000)
    for _ in range(600):
        wire.feed(wire.window(0, 16384), wire.window(1, 16384))

    assert not wire.goaways
    assert len(wire.responses[1].content) > 9_000_000


def test_dribbled_windows_are_not(open_wire: type[Wire]) -> None:
    # CVE-2019-9511.
    wire = open_wire(http2_control_frame_limit=100)
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * 100_000)
    wire.turn()
    for _ in range(200):
        wire.feed(wire.window(0, 1) + wire.window(1, 1))

    assert wire.last_code == CALM


def test_many_requests_pay_for_their_control_frames(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=answer, http2_control_frame_limit=16)
    for stream_id in range(1, 400, 2):
        wire.feed(wire.window(0, 1) + wire.headers(stream_id) + wire.window(0, 1))

    assert not wire.goaways


def test_continuation_flood_ends_the_connection(open_wire: type[Wire]) -> None:
    # CVE-2024-27316 and its kind.
    wire = open_wire(http2_fragment_limit=4)
    wire.feed(wire.frame(frames.HEADERS, frames.END_STREAM, 1, b"\x82"))
    wire.feed(wire.frame(frames.CONTINUATION, 0, 1, b"") * 4)
    assert not wire.goaways

    wire.feed(wire.frame(frames.CONTINUATION, 0, 1, b""))
    assert wire.last_code == CALM
    assert wire.refused[-1].setting == "HTTP2_FRAGMENT_LIMIT"


def test_block_in_parts_is_bounded_in_size(open_wire: type[Wire]) -> None:
    wire = open_wire(header_size_limit=20000)
    wire.feed(wire.frame(frames.HEADERS, 0, 1, b"x" * 10000))
    wire.feed(wire.frame(frames.CONTINUATION, 0, 1, b"x" * 10000))
    assert not wire.goaways

    wire.feed(wire.frame(frames.CONTINUATION, 0, 1, b"x" * 10000))
    assert wire.last_code == CALM
    assert wire.refused[-1].setting == "HEADER_SIZE_LIMIT"


def test_block_that_is_never_completed_has_a_deadline(open_wire: type[Wire]) -> None:
    wire = open_wire(header_timeout=5)
    wire.feed(wire.headers(1, end=False))
    wire.feed(wire.frame(frames.HEADERS, 0, 3, b"\x82")).tick(0.0, 4.9)
    assert not wire.goaways

    wire.tick(5.0)
    assert wire.last_code == CALM
    assert wire.refused[-1].setting == "HEADER_TIMEOUT"


def test_frame_that_is_never_completed_has_a_deadline(open_wire: type[Wire]) -> None:
    wire = open_wire(header_timeout=5)
    wire.feed(wire.headers(1, end=False), b"\0\0\1").tick(0.0, 5.0)

    assert wire.last_code == CALM


def test_header_bomb_ends_the_connection(open_wire: type[Wire]) -> None:
    # CVE-2016-6581: one long field in the table, named by a byte each time.
    wire = open_wire(header_size_limit=16384)
    long_field = b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000
    wire.feed(
        wire.frame(frames.HEADERS, frames.END_HEADERS, 1, long_field + b"\xbe" * 1000)
    )

    assert wire.last_code == CALM
    assert wire.refused[-1].setting == "HEADER_SIZE_LIMIT"
    assert not wire.requests


def test_list_beyond_the_limit_gets_431(open_wire: type[Wire]) -> None:
    wire = open_wire(header_size_limit=1000)
    wire.feed(wire.headers(1, (b"x", b"y" * 900)), wire.headers(3))

    assert wire.responses[1].status == 431
    assert wire.refused[-1].setting == "HEADER_SIZE_LIMIT"
    assert len(wire.requests) == 1


def test_too_many_fields_get_431(open_wire: type[Wire]) -> None:
    wire = open_wire(header_count_limit=3).feed(
        open_wire().headers(1, *[(b"x", b"y")] * 4)
    )

    assert wire.responses[1].status == 431
    assert wire.refused[-1].setting == "HEADER_COUNT_LIMIT"


def test_settings_that_nobody_knows_are_not_kept(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_control_frame_limit=100)
    for first in range(0x100, 0x1000, 60):
        many = [wire.setting(code, 1) for code in range(first, first + 60)]
        wire.feed(wire.frame(frames.SETTINGS, 0, 0, b"".join(many)))

    assert not wire.goaways
    assert len(wire.connection._h2.remote_settings) < 20


def test_frame_full_of_settings_ends_the_connection(open_wire: type[Wire]) -> None:
    wire = open_wire()
    many = b"".join(wire.setting(code, 1) for code in range(0x100, 0x100 + 65))
    wire.feed(wire.frame(frames.SETTINGS, 0, 0, many))

    assert wire.last_code == CALM


def test_late_frames_of_a_stream_that_we_reset_are_no_fault(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1, end=False), wire.data(1, b"x"))
    wire.requests[0].stream.abort()
    wire.turn()
    wire.feed(wire.data(1, b"late"), wire.headers(1), wire.window(1, 1), wire.reset(1))
    wire.feed(wire.headers(3))

    assert not wire.goaways
    assert len(wire.requests) == 2


@pytest.mark.parametrize("cut", [1, 8, 9, 10, 5000, 16392, 16393, 16394, 30000])
def test_frames_that_are_cut_anywhere_are_put_together(
    open_wire: type[Wire], cut: int
) -> None:
    wire = open_wire()
    content = bytes(range(256)) * 64
    sent = wire.data(1, content) + wire.data(1, content[::-1]) + wire.data(1, b"abc")
    wire.feed(wire.headers(1, end=False), sent[:cut])
    assert wire.connection.is_reading_head is (cut not in {16393})

    wire.feed(sent[cut : cut + 2], sent[cut + 2 :])
    assert wire.requests[0].content == content + content[::-1] + b"abc"
    assert not wire.connection.is_reading_head
