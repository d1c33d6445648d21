"""Frames as bytes, read again by hyperframe."""

from __future__ import annotations

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
)

from djserve.protocols.http2 import frames


def parse(data: bytes) -> list[Frame]:
    found = []
    view = memoryview(data)
    while view:
        frame, length = Frame.parse_frame_header(view[:9])
        frame.parse_body(view[9 : 9 + length])
        found.append(frame)
        view = view[9 + length :]
    return found


def test_reset() -> None:
    (frame,) = parse(frames.encode_reset(7, 11))

    assert isinstance(frame, RstStreamFrame)
    assert (frame.stream_id, frame.error_code) == (7, 11)


def test_goaway() -> None:
    (frame,) = parse(frames.encode_goaway(2**31 - 1, 2, b"why"))

    assert isinstance(frame, GoAwayFrame)
    assert (frame.last_stream_id, frame.error_code) == (2**31 - 1, 2)
    assert frame.additional_data == b"why"


@pytest.mark.parametrize("size", [0, 1, 10, 11, 20, 25])
def test_block_of_any_size(size: int) -> None:
    block = bytes(range(size))
    found = parse(frames.encode_headers(3, block, is_last=True, frame_limit=10))

    assert isinstance(found[0], HeadersFrame)
    assert all(isinstance(frame, ContinuationFrame) for frame in found[1:])
    assert len(found) == max(1, -(-size // 10))
    assert b"".join(frame.data for frame in found) == block  # type: ignore[attr-defined]
    assert ["END_HEADERS" in frame.flags for frame in found][:-1] == [False] * (
        len(found) - 1
    )
    assert "END_HEADERS" in found[-1].flags
    assert "END_STREAM" in found[0].flags


def test_header_has_room_for_the_greatest_frame() -> None:
    header = frames.pack_header(2**24 - 1, frames.DATA, 1, 2**31 - 1)

    assert frames.unpack_header(header) == (0xFF, 0xFFFF, 0, 1, 2**31 - 1)
