"""HTTP/2 clients: one that h2 keeps honest, and raw frames of every kind."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from hpack import Encoder
from hpack.struct import NeverIndexedHeaderTuple

if TYPE_CHECKING:
    import random

    from djserve.interfaces import Headers

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)
PRIORITY_UPDATE = 16

END_STREAM = 1
END_HEADERS = 4

TOKENS = [
    b"\0\0\0\1\4\0\0\0\1",
    b"\0\0\0\0\1\0\0\0\1",
    b"\0\0\4\3\0\0\0\0\1\0\0\0\x08",
    b"\0\0\4\x08\0\0\0\0\0\x7f\xff\xff\xff",
    b"\0\0\4\x08\0\0\0\0\1\0\0\0\0",
    b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\0",
    b"\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff",
    b"\0\0\6\4\0\0\0\0\0\0\4\0\0\0\0",
    b"\0\0\6\4\0\0\0\0\0\0\1\0\0\0\0",
    b"\0\0\0\4\1\0\0\0\0",
    b"\0\0\x08\6\0\0\0\0\0" + b"p" * 8,
    b"\0\0\x08\7\0\0\0\0\0" + b"\0" * 8,
    b"\0\0\0\x09\4\0\0\0\1",
    b"\x40\1a\1b",
    b"\xff\xff\xff\xff\x0f",
    b"\x3f\xe1\xff\xff\xff\x7f",
    b"\x20",
    b"\x82\x86\x84\x41\1a",
    PREFACE,
]

_FIELDS: Headers = [
    (b"te", b"trailers"),
    (b"cookie", b"a=b"),
    (b"cookie", b"c=d"),
    (b"accept", b"*/*"),
    (b"x-long", b"v" * 120),
    (b"priority", b"u=1, i"),
    (b"expect", b"100-continue"),
]
_BAD_FIELDS: Headers = [
    (b"connection", b"close"),
    (b"transfer-encoding", b"chunked"),
    (b"te", b"gzip"),
    (b"X-Upper", b"1"),
    (b"x y", b"1"),
    (b"x-crlf", b"a\r\nb: c"),
    (b"x-nul", b"\0"),
    (b"x_y", b"1"),
    (b"", b"1"),
    (b":method", b"GET"),
    (b":late", b"1"),
    (b"host", b"elsewhere"),
    (b"content-length", b"5, 5"),
    (b"content-length", b"-1"),
    (b"content-length", b"3"),
    (b"upgrade", b"h2c"),
]


class RawClient:
    """Frames that need not make sense together, with header blocks that do."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.encoder = Encoder()
        self.next_stream = 1

    def build(self) -> bytes:
        """Return a connection's bytes: mostly sound, each frame perhaps misplaced."""
        start = PREFACE + frame(SETTINGS, 0, 0, self._build_settings())
        count = self.rng.choice((1, 4, 12, 40))
        return start + b"".join(self._build_frame() for _ in range(count))

    def _build_frame(self) -> bytes:
        rng = self.rng
        choice = rng.randrange(24)
        if choice < 8:
            return self._build_request()
        if choice < 12:
            content = b"d" * rng.choice((0, 1, 700, 2500))
            return frame(DATA, rng.choice((0, 0, 1)), self._old_stream(), content)
        if choice < 14:
            code = rng.choice((0, 7, 8, 99))
            return frame(RST_STREAM, 0, self._old_stream(), struct.pack(">L", code))
        if choice < 17:
            increment = rng.choice((1, 100, 9000, 9000, 1 << 20))
            if rng.random() < 0.1:
                increment = rng.choice((0, 0x7FFFFFFF))
            stream_id = rng.choice((0, self._old_stream()))
            return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">L", increment))
        if choice == 17:
            return frame(SETTINGS, 0, 0, self._build_settings())
        if choice == 18:
            return frame(PING, rng.choice((0, 1)), 0, b"pingpong")
        if choice == 19:
            return self._build_tunnel()
        if choice == 20:
            priority = struct.pack(">L", self._old_stream()) + b"u=%d" % rng.randrange(
                9
            )
            return frame(PRIORITY_UPDATE, 0, 0, priority)
        if choice == 21:
            block = self._encode([(b"x-end", b"1")])
            return frame(HEADERS, END_HEADERS | END_STREAM, self._old_stream(), block)
        if choice == 22:
            return frame(SETTINGS, 1, 0)
        if rng.random() < 0.7:
            return frame(rng.randrange(17, 99), 0, rng.randrange(8), b"unknown")
        return frame(
            rng.randrange(20),
            rng.choice((0, 1, 4, 5, 8, 32, 255)),
            rng.randrange(8),
            rng.randbytes(rng.choice((0, 4, 5, 8, 30))),
        )

    def _build_request(self) -> bytes:
        rng = self.rng
        method = rng.choice((b"GET", b"GET", b"HEAD", b"POST", b"PUT"))
        fields = [
            (b":method", method),
            (b":scheme", rng.choice((b"https", b"https", b"https", b"ftp"))),
            (b":authority", b"a"),
            (b":path", rng.choice((b"/", b"/x?y", b"/", b"*", b"", b"x"))),
        ]
        fields += rng.sample(_FIELDS, rng.choice((0, 0, 1, 3)))
        if rng.random() < 0.1:
            fields.append(rng.choice(_BAD_FIELDS))
        if rng.random() < 0.02:
            rng.shuffle(fields)
        is_complete = method in (b"GET", b"HEAD") and rng.random() < 0.95
        return self._build_block(fields, END_STREAM if is_complete else 0)

    def _build_tunnel(self) -> bytes:
        fields = [
            (b":method", b"CONNECT"),
            (b":protocol", self.rng.choice((b"websocket", b"websocket", b"other"))),
            (b":scheme", b"https"),
            (b":authority", b"a"),
            (b":path", b"/ws"),
            (b"sec-websocket-version", b"13"),
        ]
        stream_id = self.next_stream
        head = self._build_block(fields, 0)
        message = b"\x81\x82\0\0\0\0hi\x88\x80\0\0\0\0"
        return head + frame(DATA, 0, stream_id, message[: self.rng.randrange(15)])

    def _build_block(self, fields: Headers, flags: int) -> bytes:
        stream_id = self.next_stream
        self.next_stream += self.rng.choice((2, 2, 2, 4))
        block = self._encode(fields)
        if self.rng.random() < 0.85:
            return frame(HEADERS, flags | END_HEADERS, stream_id, block)
        cut = self.rng.randrange(len(block) + 1)
        return b"".join(
            (
                frame(HEADERS, flags, stream_id, block[:cut]),
                frame(CONTINUATION, 0, stream_id) * self.rng.choice((0, 0, 2, 5)),
                frame(CONTINUATION, END_HEADERS, stream_id, block[cut:]),
            )
        )

    def _encode(self, fields: Headers) -> bytes:
        if self.rng.random() < 0.5:
            return self.encoder.encode([NeverIndexedHeaderTuple(*f) for f in fields])
        return self.encoder.encode(fields)

    def _old_stream(self) -> int:
        # One that was never opened ends the connection at once.
        is_idle = self.rng.random() < 0.02
        last = self.next_stream + (2 if is_idle else 0)
        return self.rng.randrange(1, max(last, 3), 2)

    def _build_settings(self) -> bytes:
        pairs = [(1, 0), (1, 4096), (2, 0), (2, 1), (3, 0), (3, 100), (4, 0), (4, 100)]
        pairs += [(4, 65535), (4, 1 << 20), (5, 16384), (5, 32768), (6, 9999), (77, 7)]
        chosen = self.rng.sample(pairs, self.rng.choice((0, 1, 3)))
        if self.rng.random() < 0.03:
            chosen.append(self.rng.choice(((2, 2), (4, 1 << 31), (5, 1), (8, 2))))
        return b"".join(struct.pack(">HL", *pair) for pair in chosen)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return one frame (RFC 9113 section 4.1)."""
    head = struct.pack(">L", len(payload))[1:] + bytes((kind, flags))
    return head + struct.pack(">L", stream_id) + payload
