"""What happens on HTTP/3's streams, written as bytes that a fuzzer can change."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pylsqpack

from djserve.protocols.http3 import frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

IN_FRAMES = 1
"""The bit of an input's first byte by which its content is in whole frames."""

STREAMS = 8
"""That an input can name, of each kind; all of them may be open."""


class Step(NamedTuple):
    """``kind`` says what happens on a stream; 0: bytes come, 1: the last of them."""

    kind: int
    stream_id: int
    data: bytes


_TYPES = (
    *[frames.HEADERS] * 6,
    *[frames.DATA] * 6,
    0x21,
    frames.SETTINGS,
    frames.PUSH_PROMISE,
    frames.PRIORITY_UPDATE,
)


def read_steps(data: bytes, *, in_frames: bool) -> Iterator[Step]:
    """Read steps of any bytes: kind, stream and length in a byte each, and content.

    With ``in_frames`` the content of a request's stream is a frame's, whose type is in
    the first byte too: any bytes are whole frames then.
    """
    position = 0
    while len(data) - position >= 3:
        first, number, size = data[position : position + 3]
        position += 3
        payload = data[position : position + size]
        position += size
        kind = (first & 7) % 4
        is_request = not number & 0x80
        stream_id = number % STREAMS * 4 + (0 if is_request else 2)
        if in_frames and is_request:
            payload = frames.encode_frame(_TYPES[first >> 4], payload)
        yield Step(kind, stream_id, payload)


def write_steps(steps: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Write what ``read_steps`` reads."""
    return b"".join(bytes((a, b, len(data))) + data for a, b, data in steps)


def encode_head(
    encoder: pylsqpack.Encoder,
    method: bytes,
    path: bytes,
    *fields: tuple[bytes, bytes],
) -> bytes:
    """Return a request's fields as the content of a HEADERS frame."""
    head = [(b":method", method), (b":scheme", b"https"), (b":authority", b"a")]
    head += [(b":path", path), *fields]
    head.sort(key=lambda field: field[0][:1] != b":")
    block: bytes = encoder.encode(0, head)[1]
    return block


def build_seeds() -> Iterator[bytes]:
    """Yield inputs: two bytes that decide about the server, and steps."""
    encoder = pylsqpack.Encoder()
    get = encode_head(encoder, b"GET", b"/a?b", (b"accept", b"*/*"))
    post = encode_head(encoder, b"POST", b"/", (b"content-length", b"5"))
    expect = encode_head(encoder, b"PUT", b"/", (b"expect", b"100-continue"))
    tunnel = encode_head(
        encoder,
        b"CONNECT",
        b"/",
        (b":protocol", b"websocket"),
        (b"sec-websocket-version", b"13"),
    )
    settings = b"\0" + frames.encode_settings({})
    update = frames.encode_frame(frames.PRIORITY_UPDATE, b"\4u=1, i")
    begin = [(0, 0x80, settings), (0, 0x81, b"\2"), (0, 0x82, b"\3")]
    raw = frames.encode_frame(frames.HEADERS, get)
    inputs = [
        [*begin, (1, 0, get), (1, 1, get)],
        [*begin, (0, 0, post), (0x61, 0, b"12345")],
        [(0, 0, post), (0x60, 0, b"123456"), (2, 0, b"")],
        [(0, 1, expect), (0x60, 1, b"1"), (3, 1, b"")],
        [(0, 2, tunnel), (0x60, 2, b"\x81\x82\0\0\0\0hi"), (1, 2, get)],
        [(0, 0x80, settings + update), (1, 0, get)],
    ]
    for number in range(4):
        for steps in inputs:
            yield bytes((number * 0x40 | IN_FRAMES, number)) + write_steps(steps)
        yield bytes((number * 0x40, number)) + write_steps(
            [(0, 0, raw[:3]), (0, 0x80, settings[:2]), (1, 0, raw[3:]), (2, 0x80, b"")]
        )
