"""Frames as bytes (RFC 9113 section 4.1), for which h2's objects are not needed."""

from __future__ import annotations

from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HEADER_SIZE = 9

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9
PRIORITY_UPDATE = 0x10

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

# Length in 8 + 16 bits, type, flags, stream.
_header = Struct(">BHBBL")
_number = Struct(">L")
_setting = Struct(">HL")
_two_numbers = Struct(">LL")

unpack_header = _header.unpack_from
unpack_number = _number.unpack_from
unpack_setting = _setting.unpack_from
SETTING_SIZE = _setting.size


def pack_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    return _header.pack(length >> 16, length & 0xFFFF, kind, flags, stream_id)


def encode_reset(stream_id: int, code: int) -> bytes:
    """Encode RST_STREAM (section 6.4)."""
    return pack_header(4, RST_STREAM, 0, stream_id) + _number.pack(code)


def encode_goaway(last_stream_id: int, code: int, reason: bytes = b"") -> bytes:
    """Encode GOAWAY (section 6.8); ``reason`` is for those who debug the peer."""
    header = pack_header(8 + len(reason), GOAWAY, 0, 0)
    return header + _two_numbers.pack(last_stream_id, code) + reason


def encode_headers(
    stream_id: int, block: bytes, is_last: bool, frame_limit: int
) -> bytes:
    """Encode a header block as HEADERS and, if it is long, CONTINUATION."""
    flags = END_STREAM if is_last else 0
    if len(block) <= frame_limit:
        return pack_header(len(block), HEADERS, flags | END_HEADERS, stream_id) + block
    parts: list[bytes] = []
    kind = HEADERS
    for start in range(0, len(block), frame_limit):
        part = block[start : start + frame_limit]
        if start + frame_limit >= len(block):
            flags |= END_HEADERS
        parts += (pack_header(len(part), kind, flags, stream_id), part)
        kind, flags = CONTINUATION, 0
    return b"".join(parts)
