"""The peer's unidirectional streams, split at every byte."""

from __future__ import annotations

import pytest

from djserve.protocols.http3 import frames
from djserve.protocols.http3.control import FRAME_LIMIT, ControlStreams
from djserve.protocols.http3.errors import ErrorCode, HTTP3Error
from djserve.protocols.http3.frames import encode_frame, encode_integer

SETTINGS = frames.encode_settings({frames.MAX_FIELD_SECTION_SIZE: 100})


class Events:
    def __init__(self) -> None:
        self.log: list[object] = []

    def settings_received(self, settings: dict[int, int]) -> None:
        self.log.append(settings)

    def goaway_received(self) -> None:
        self.log.append("goaway")

    def priority_updated(self, stream_id: int, value: bytes) -> None:
        self.log.append((stream_id, value))

    def control_frame_received(self) -> None: ...

    def encoder_received(self, data: bytes) -> None:
        self.log.append(("encoder", data))

    def decoder_received(self, data: bytes) -> None:
        self.log.append(("decoder", data))


def test_streams_are_told_apart() -> None:
    events, stopped = Events(), list[int]()
    control = ControlStreams(events, stopped.append)
    update = encode_frame(frames.PRIORITY_UPDATE, b"\x04u=1")
    for byte in b"\0" + SETTINGS + update + encode_frame(frames.GOAWAY, b"\0"):
        control.receive(2, bytes([byte]), False)
    control.receive(6, b"\x02e", False)
    control.receive(10, b"\x03d", False)
    control.receive(14, b"\x21", False)
    control.receive(14, b"grease", True)

    assert events.log == [
        {frames.MAX_FIELD_SECTION_SIZE: 100},
        (4, b"u=1"),
        "goaway",
        ("encoder", b"e"),
        ("decoder", b"d"),
    ]
    assert stopped == [14]
    assert not control.awaits_settings


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode_frame(frames.GOAWAY, b"\0"), ErrorCode.MISSING_SETTINGS),
        (SETTINGS + SETTINGS, ErrorCode.FRAME_UNEXPECTED),
        (SETTINGS + encode_frame(frames.DATA, b""), ErrorCode.FRAME_UNEXPECTED),
        (SETTINGS + encode_frame(0x2, b""), ErrorCode.FRAME_UNEXPECTED),
        (SETTINGS + encode_frame(frames.GOAWAY, b"\0\0"), ErrorCode.FRAME_ERROR),
        (SETTINGS + encode_frame(frames.CANCEL_PUSH, b"\0"), ErrorCode.ID_ERROR),
        (
            SETTINGS
            + encode_frame(frames.MAX_PUSH_ID, b"\2")
            + encode_frame(frames.MAX_PUSH_ID, b"\1"),
            ErrorCode.ID_ERROR,
        ),
        (SETTINGS + encode_frame(frames.PRIORITY_UPDATE, b""), ErrorCode.FRAME_ERROR),
        (SETTINGS + encode_frame(frames.PRIORITY_UPDATE, b"\3"), ErrorCode.ID_ERROR),
        (
            SETTINGS + encode_frame(frames.PRIORITY_UPDATE_OF_PUSH, b"\0"),
            ErrorCode.ID_ERROR,
        ),
        (encode_frame(frames.SETTINGS, b"\x02\0"), ErrorCode.SETTINGS_ERROR),
        (
            b"\x04" + encode_integer(FRAME_LIMIT + 1),
            ErrorCode.EXCESSIVE_LOAD,
        ),
    ],
)
def test_breaches(data: bytes, code: ErrorCode) -> None:
    control = ControlStreams(Events(), lambda stream_id: None)

    with pytest.raises(HTTP3Error) as caught:
        control.receive(2, b"\0" + data, False)
    assert caught.value.code is code


def test_critical_stream_may_not_end() -> None:
    control = ControlStreams(Events(), lambda stream_id: None)

    with pytest.raises(HTTP3Error):
        control.receive(2, b"\0" + SETTINGS, True)
