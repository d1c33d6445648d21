"""A client's WebSocket frames: right ones and all that may be wrong with them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

TOKENS = [
    b"\x81\x80\0\0\0\0",
    b"\x01\x80\0\0\0\0",
    b"\x80\x80\0\0\0\0",
    b"\x00\x80\0\0\0\0",
    b"\x89\x80\0\0\0\0",
    b"\x88\x80\0\0\0\0",
    b"\x88\x82\0\0\0\0\x03\xe8",
    b"\x88\x81\0\0\0\0\x03",
    b"\x88\x82\0\0\0\0\x03\xed",
    b"\xc1\x80\0\0\0\0",
    b"\x82\xfe\x00\x7d\0\0\0\0",
    b"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x7d\0\0\0\0",
    b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\0\0\0\0",
    b"\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff\0\0\0\0",
    b"\x81\x01a",
    b"\x83\x80\0\0\0\0",
    b"\xf0",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xff",
]

_TEXTS = ("", "a", "é€", "\U0001f600", "x" * 125, "y" * 126, "z" * 6000)
_BAD_TEXTS = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"ab\xf0\x9f", b"\xc0\x80")
_CODES = (0, 999, 1000, 1001, 1004, 1005, 1006, 1007, 1015, 2999, 3000, 4999, 5000)


def build_frames(rng: random.Random, *, is_deflated: bool) -> bytes:
    """Return some messages and control frames, as a client sends them."""
    return b"".join(
        _build_item(rng, is_deflated) for _ in range(rng.choice((1, 3, 8, 30)))
    )


def build_frame(
    rng: random.Random, first: int, payload: bytes, *, is_odd: bool = False
) -> bytes:
    """Return one masked frame; ``is_odd``: its length may take more bytes than due."""
    size = len(payload)
    key = rng.choice((b"\0\0\0\0", rng.randbytes(4)))
    if size < 126 and not is_odd:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16 and rng.random() < 0.9:
        head = bytes((first, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    return head + key + masked


def deflate(rng: random.Random, payload: bytes) -> bytes:
    """Compress as RFC 7692 section 7.2.1 has it, in any of its forms."""
    compressor = zlib.compressobj(rng.choice((0, 1, 9)), zlib.DEFLATED, -12)
    data = compressor.compress(payload)
    if rng.random() < 0.1:
        return data + compressor.flush(zlib.Z_FINISH)
    return (data + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _build_item(rng: random.Random, is_deflated: bool) -> bytes:
    choice = rng.randrange(20)
    if choice == 0:
        return build_frame(rng, 0x88, _build_close(rng))
    if choice < 4:
        opcode = rng.choice((0x89, 0x8A))
        return build_frame(rng, opcode, b"p" * rng.choice((0, 5, 125, 125, 126)))
    if choice == 4:
        return build_frame(rng, rng.randrange(256), b"?" * rng.randrange(200))
    if rng.random() < 0.02:
        return b"\x81\4bare"
    if choice == 5:
        return build_frame(rng, 0x82, b"o", is_odd=True)
    return _build_message(rng, is_deflated and rng.random() < 0.6)


def _build_close(rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return rng.choice((b"", b"\x03"))
    return rng.choice(_CODES).to_bytes(2, "big") + rng.choice((b"", b"bye", b"\xff"))


def _build_message(rng: random.Random, is_deflated: bool) -> bytes:
    opcode = rng.choice((1, 2))
    payload = rng.choice(_TEXTS).encode()
    if rng.random() < 0.03:
        payload = rng.choice(_BAD_TEXTS)
    if rng.random() < 0.03:
        payload = b"\0" * rng.choice((19_990, 20_010, 29_999, 30_001, 70_000))
    reserved = 0
    if is_deflated:
        payload, reserved = deflate(rng, payload), 0x40
        if rng.random() < 0.05:
            payload += rng.randbytes(3)
    frames = []
    parts = rng.choice((1, 1, 1, 2, 5))
    size = len(payload) // parts + 1
    for index in range(parts):
        last = 0x80 if index == parts - 1 else 0
        first = last | (reserved | opcode if index == 0 else 0)
        part = payload[index * size : (index + 1) * size]
        frames.append(build_frame(rng, first, part))
        if parts > 1 and rng.random() < 0.2:
            frames.append(build_frame(rng, 0x89, b"between"))
    return b"".join(frames)
