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

_pack = _header.pack
unpack_header = _header.unpack_from
unpack_number = _number.unpack_from
unpack_setting = _setting.unpack_from
SETTING_SIZE = _setting.size


def pack_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    return _pack(length >> 16, length & 0xFFFF, kind, flags, stream_id)


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
    return _encode_block(HEADERS, flags, stream_id, block, frame_limit)


def encode_promise(
    stream_id: int, promised_id: int, block: bytes, frame_limit: int
) -> bytes:
    """Encode PUSH_PROMISE (section 6.6) and, if it is long, CONTINUATION."""
    payload = _number.pack(promised_id) + block
    return _encode_block(PUSH_PROMISE, 0, stream_id, payload, frame_limit)


def encode_response(stream_id: int, block: bytes, data: bytes) -> bytes:
    """Encode HEADERS, and DATA that ends the stream; both fit in a frame."""
    return (
        _pack(0, len(block), HEADERS, END_HEADERS, stream_id)
        + block
        + _pack(0, len(data), DATA, END_STREAM, stream_id)
        + data
    )


def _encode_block(
    kind: int, flags: int, stream_id: int, payload: bytes, frame_limit: int
) -> bytes:
    size = len(payload)
    if size <= frame_limit:
        return pack_header(size, kind, flags | END_HEADERS, stream_id) + payload
    parts: list[bytes] = []
    for start in range(0, size, frame_limit):
        part = payload[start : start + frame_limit]
        if start + frame_limit >= size:
            flags |= END_HEADERS
        parts += (pack_header(len(part), kind, flags, stream_id), part)
        kind, flags = CONTINUATION, 0
    return b"".join(parts)
