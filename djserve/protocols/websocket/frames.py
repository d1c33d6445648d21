"""Data and control frames as a server writes them (RFC 6455 section 5.2): unmasked."""

from __future__ import annotations

OPCODE_TEXT = 1
OPCODE_BINARY = 2
OPCODE_CLOSE = 8
OPCODE_PING = 9
OPCODE_PONG = 10

_FIN = 0x80
_RSV1 = 0x40

# RFC 6455 section 5.5: the payload of a control frame has at most 125 bytes, and two of
# a Close frame's are its code.
_REASON_LIMIT = 123

# RFC 6455 section 7.4 and the IANA registry. 1004 has no meaning; 1005, 1006 and 1015
# only stand for an end without a Close frame and are never sent.
_REGISTERED_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})

# Small frames are nearly all there are: their heads are made once.
_SMALL_HEADS = {
    opcode: [bytes((_FIN | opcode, size)) for size in range(126)]
    for opcode in (OPCODE_TEXT, OPCODE_BINARY)
}


def encode_message(payload: bytes, opcode: int) -> bytes:
    """Write a text or binary message in one frame."""
    if len(payload) < 126:
        return _SMALL_HEADS[opcode][len(payload)] + payload
    return _encode_head(_FIN | opcode, len(payload)) + payload


def encode_compressed(payload: bytes, opcode: int) -> bytes:
    """Write a deflated message in one frame (RFC 7692 section 6: RSV1 is set)."""
    return _encode_head(_FIN | _RSV1 | opcode, len(payload)) + payload


def encode_control(payload: bytes, opcode: int) -> bytes:
    """Write a Ping or Pong frame; the payload has at most 125 bytes."""
    assert len(payload) < 126
    return bytes((_FIN | opcode, len(payload))) + payload


def encode_close(code: int, reason: str) -> bytes:
    """Write a Close frame; a reason that is too long is cut between two characters."""
    text = reason.encode("utf-8", "replace")[:_REASON_LIMIT]
    text = text.decode("utf-8", "ignore").encode()
    return encode_control(code.to_bytes(2, "big") + text, OPCODE_CLOSE)


def is_sendable(code: int) -> bool:
    """Return whether an application may close with this code."""
    return code in _REGISTERED_CODES or 3000 <= code <= 4999


def _encode_head(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")
