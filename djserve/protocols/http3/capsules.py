"""The capsules of a WebTransport session on its CONNECT stream (RFC 9297)."""

from __future__ import annotations

from djserve.protocols.http3 import frames
from djserve.protocols.http3.errors import ErrorCode, HTTP3Error

# draft-ietf-webtrans-http3 section 6: a code of 32 bits and at most 1024 bytes of text.
CLOSE_SESSION = 0x2843
REASON_LIMIT = 1024
_CLOSE_SIZE_LIMIT = 4 + REASON_LIMIT


def encode_close(code: int, reason: str) -> bytes:
    """Return the capsule that ends a session. Raises ValueError for what it cannot say.

    ``code`` is the application's, below 2**32; ``reason`` has at most 1024 bytes.
    """
    text = reason.encode()
    if not 0 <= code < 1 << 32:
        raise ValueError(f"a code has 32 bits, {code} does not fit")
    if len(text) > REASON_LIMIT:
        raise ValueError(f"a reason has at most {REASON_LIMIT} bytes, not {len(text)}")
    return frames.encode_frame(CLOSE_SESSION, code.to_bytes(4, "big") + text)


class CapsuleReader:
    """Find the end of a session among its capsules; all others are passed over.

    Holds at most one CLOSE_WEBTRANSPORT_SESSION capsule.
    """

    __slots__ = ("_buffer", "_skipped")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipped = 0

    def feed(self, data: bytes) -> tuple[int, str] | None:
        """Return code and reason once the peer has ended the session.

        Raises HTTP3Error, which concerns the stream, for a malformed capsule.
        """
        self._buffer += data
        while True:
            size = min(self._skipped, len(self._buffer))
            del self._buffer[:size]
            self._skipped -= size
            kind = frames.read_integer(self._buffer, 0)
            length = (
                None if kind is None else frames.read_integer(self._buffer, kind[1])
            )
            if self._skipped or kind is None or length is None:
                return None
            if kind[0] == CLOSE_SESSION:
                return self._take_close(*length)
            del self._buffer[: length[1]]
            self._skipped = length[0]

    def _take_close(self, size: int, start: int) -> tuple[int, str] | None:
        if not 4 <= size <= _CLOSE_SIZE_LIMIT:
            raise _malformed(f"A session's end of {size} bytes")
        if len(self._buffer) < start + size:
            return None
        payload = bytes(self._buffer[start : start + size])
        try:
            reason = payload[4:].decode()
        except UnicodeDecodeError as error:
            raise _malformed("A session's end whose reason is not UTF-8") from error
        return int.from_bytes(payload[:4], "big"), reason


def _malformed(reason: str) -> HTTP3Error:
    return HTTP3Error(reason, ErrorCode.MESSAGE_ERROR, is_of_stream=True)
