"""The frames of HTTP/3: types, lengths, settings (RFC 9114 section 7)."""

from __future__ import annotations

from djserve.protocols.http3.errors import ErrorCode, HTTP3Error

DATA = 0x0
HEADERS = 0x1
CANCEL_PUSH = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
GOAWAY = 0x7
MAX_PUSH_ID = 0xD
PRIORITY_UPDATE = 0xF0700
PRIORITY_UPDATE_OF_PUSH = 0xF0701

# RFC 9114 section 7.2.8: what HTTP/2 has under these numbers is an error here.
RESERVED_FRAMES = frozenset({0x2, 0x6, 0x8, 0x9})
_RESERVED_SETTINGS = frozenset({0x0, 0x2, 0x3, 0x4, 0x5})

# Stream types (RFC 9114 section 6.2, RFC 9204 section 4.2).
CONTROL_STREAM = 0x0
PUSH_STREAM = 0x1
ENCODER_STREAM = 0x2
DECODER_STREAM = 0x3

# What begins a stream of a WebTransport session, ahead of the session's number:
# draft-ietf-webtrans-http3 section 4.
WEBTRANSPORT_STREAM = 0x54
WEBTRANSPORT_BIDIRECTIONAL = 0x41

# Settings; WebTransport's are those of the drafts 02 and 07, which browsers speak.
MAX_FIELD_SECTION_SIZE = 0x6
ENABLE_CONNECT_PROTOCOL = 0x8
H3_DATAGRAM = 0x33
ENABLE_WEBTRANSPORT = 0x2B603742
WEBTRANSPORT_MAX_SESSIONS = 0xC671706A

_PREFIXES = ((6, 1, 0x00), (14, 2, 0x4000), (30, 4, 0x80000000), (62, 8, 0xC0 << 56))


def encode_integer(value: int) -> bytes:
    """Encode a variable-length integer (RFC 9000 section 16)."""
    for bits, size, prefix in _PREFIXES:
        if value >> bits == 0:
            return (value | prefix).to_bytes(size, "big")
    raise ValueError(f"{value} does not fit 62 bits")


def read_integer(data: bytes | bytearray, position: int) -> tuple[int, int] | None:
    """Return an integer and the position behind it, or None while a part is missing."""
    if position >= len(data):
        return None
    first = data[position]
    end = position + (1 << (first >> 6))
    if end > len(data):
        return None
    value = int.from_bytes(data[position:end], "big")
    return value & ((1 << (8 * (end - position) - 2)) - 1), end


def encode_frame(kind: int, payload: bytes) -> bytes:
    """Return a frame."""
    return encode_integer(kind) + encode_integer(len(payload)) + payload


def encode_settings(settings: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    payload = b"".join(
        encode_integer(key) + encode_integer(value) for key, value in settings.items()
    )
    return encode_frame(SETTINGS, payload)


def parse_settings(payload: bytes) -> dict[int, int]:
    """Return the settings of a frame. Raises HTTP3Error (RFC 9114 section 7.2.4)."""
    settings: dict[int, int] = {}
    position = 0
    while position < len(payload):
        key = read_integer(payload, position)
        value = None if key is None else read_integer(payload, key[1])
        if key is None or value is None:
            raise HTTP3Error("SETTINGS are cut short", ErrorCode.FRAME_ERROR)
        if key[0] in _RESERVED_SETTINGS or key[0] in settings:
            raise HTTP3Error(
                f"Setting {key[0]:#x} is reserved or repeated", ErrorCode.SETTINGS_ERROR
            )
        settings[key[0]] = value[0]
        position = value[1]
    return settings


def parse_id(payload: bytes) -> int:
    """Return the only integer of a frame. Raises HTTP3Error for any other payload."""
    found = read_integer(payload, 0)
    if found is None or found[1] != len(payload):
        raise HTTP3Error("A frame is not one integer", ErrorCode.FRAME_ERROR)
    return found[0]
