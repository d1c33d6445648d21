"""What a server has written on HTTP/3's streams -> what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pylsqpack

from djserve.protocols.http3 import frames

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_output(stream_id: int, data: bytes, *, is_whole: bool) -> list[str]:
    """Return what is wrong with the frames that the server has written."""
    if stream_id == 3:
        return [] if data[:1] == b"\0" else [f"control stream of type {data[:1]!r}"]
    kinds = []
    decoder = pylsqpack.Decoder(0, 0)
    for kind, payload in _read_frames(data):
        kinds.append(kind)
        if kind == frames.HEADERS:
            fields = decoder.feed_header(stream_id, payload)[1]
            names = [name for name, _ in fields]
            if (b":status" in names) != (names[:1] == [b":status"]):
                return [f"pseudo-header fields in {fields}"]
            if fields and fields[0][1][:1] == b"1":
                kinds.pop()
        elif kind != frames.DATA:
            return [f"a frame {kind:#x} on stream {stream_id}"]
    if kinds and kinds[0] != frames.HEADERS:
        return [f"frames {kinds} on stream {stream_id}"]
    if frames.HEADERS in kinds[1:-1]:
        return [f"frames {kinds} on stream {stream_id}"]
    if is_whole and not kinds:
        return [f"stream {stream_id} has ended without a response"]
    return []


def _read_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        kind = frames.read_integer(data, position)
        length = None if kind is None else frames.read_integer(data, kind[1])
        if kind is None or length is None:
            return
        size, start = length
        yield kind[0], data[start : start + size]
        position = start + size
