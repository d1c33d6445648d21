"""Request streams, split at every byte."""

from __future__ import annotations

import pytest

from djserve.protocols.http3.errors import ErrorCode, HTTP3Error
from djserve.protocols.http3.frames import DATA, HEADERS, SETTINGS, encode_frame
from djserve.protocols.http3.reader import RequestReader

HEAD = encode_frame(HEADERS, b"head")
CONTENT = encode_frame(DATA, b"content")


class Events:
    def __init__(self) -> None:
        self.blocks: list[tuple[bytes, bool]] = []
        self.content = b""
        self.overhead = self.idle = 0
        self.has_ended = False

    def block_received(self, block: bytes, is_trailers: bool) -> None:
        self.blocks.append((block, is_trailers))

    def content_received(self, data: bytes) -> None:
        self.content += data

    def overhead_received(self, size: int) -> None:
        self.overhead += size

    def idle_frame_received(self) -> None:
        self.idle += 1

    def request_ended(self) -> None:
        self.has_ended = True


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_request_in_any_pieces(step: int) -> None:
    events = Events()
    reader = RequestReader(events, 100)
    grease = encode_frame(0x21, b"grease")
    data = grease + HEAD + CONTENT + grease + CONTENT + encode_frame(HEADERS, b"end")
    for start in range(0, len(data), step):
        reader.receive(data[start : start + step], is_last=start + step >= len(data))

    assert events.blocks == [(b"head", False), (b"end", True)]
    assert events.content == b"contentcontent"
    assert events.overhead + len(events.content) == len(data)
    assert (events.has_ended, events.idle, reader.held_size) == (True, 2, 0)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (CONTENT, ErrorCode.FRAME_UNEXPECTED),
        (HEAD + HEAD + CONTENT, ErrorCode.FRAME_UNEXPECTED),
        (HEAD + HEAD + HEAD, ErrorCode.FRAME_UNEXPECTED),
        (encode_frame(SETTINGS, b""), ErrorCode.FRAME_UNEXPECTED),
        (encode_frame(0x9, b""), ErrorCode.FRAME_UNEXPECTED),
        (encode_frame(HEADERS, b"h" * 101), ErrorCode.EXCESSIVE_LOAD),
        (b"", ErrorCode.REQUEST_INCOMPLETE),
        (HEAD + CONTENT[:-1], ErrorCode.FRAME_ERROR),
        (HEAD[:1], ErrorCode.FRAME_ERROR),
    ],
)
def test_breaches(data: bytes, code: ErrorCode) -> None:
    with pytest.raises(HTTP3Error) as caught:
        RequestReader(Events(), 100).receive(data, is_last=True)

    assert caught.value.code is code
