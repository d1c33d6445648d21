"""What a peer can do wrong, with the HTTP/3 error code for it."""

from __future__ import annotations

from enum import IntEnum

from djserve.errors import ProtocolError


class ErrorCode(IntEnum):
    """RFC 9114 section 8.1, RFC 9204 section 6, RFC 9297 section 5."""

    DATAGRAM_ERROR = 0x33

    NO_ERROR = 0x100
    GENERAL_PROTOCOL_ERROR = 0x101
    INTERNAL_ERROR = 0x102
    STREAM_CREATION_ERROR = 0x103
    CLOSED_CRITICAL_STREAM = 0x104
    FRAME_UNEXPECTED = 0x105
    FRAME_ERROR = 0x106
    EXCESSIVE_LOAD = 0x107
    ID_ERROR = 0x108
    SETTINGS_ERROR = 0x109
    MISSING_SETTINGS = 0x10A
    REQUEST_REJECTED = 0x10B
    REQUEST_CANCELLED = 0x10C
    REQUEST_INCOMPLETE = 0x10D
    MESSAGE_ERROR = 0x10E
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202


class HTTP3Error(ProtocolError):
    """A connection error or, with ``is_of_stream``, a stream error (RFC 9114 8)."""

    def __init__(
        self,
        reason: str,
        code: ErrorCode,
        *,
        is_of_stream: bool = False,
        setting: str = "",
    ) -> None:
        super().__init__(reason, setting=setting)
        self.code = code
        self.is_of_stream = is_of_stream
