"""The peer's unidirectional streams: control and QPACK (RFC 9114 section 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from djserve.protocols.http3 import frames
from djserve.protocols.http3.errors import ErrorCode, HTTP3Error

if TYPE_CHECKING:
    from collections.abc import Callable

# No frame of the control stream needs more.
FRAME_LIMIT = 16 * 1024

_CRITICAL = (frames.CONTROL_STREAM, frames.ENCODER_STREAM, frames.DECODER_STREAM)
_UNEXPECTED = frames.RESERVED_FRAMES | {
    frames.DATA,
    frames.HEADERS,
    frames.PUSH_PROMISE,
}


class ControlEvents(Protocol):
    """What is told of the peer's control and QPACK streams."""

    def settings_received(self, settings: dict[int, int], /) -> None: ...
    def goaway_received(self) -> None: ...
    def priority_updated(self, stream_id: int, value: bytes, /) -> None:
        """Order a request's stream, which may not have begun (RFC 9218)."""

    def control_frame_received(self) -> None:
        """Count a frame that costs the peer little."""

    def encoder_received(self, data: bytes, /) -> None: ...
    def decoder_received(self, data: bytes, /) -> None: ...


class ControlStreams:
    """Read all unidirectional streams of a peer; raises HTTP3Error for its faults.

    ``stop`` asks the peer to end a stream of a type that means nothing here.
    """

    __slots__ = (
        "_buffers",
        "_events",
        "_goaway",
        "_has_settings",
        "_push_limit",
        "_stop",
        "_types",
    )

    def __init__(self, events: ControlEvents, stop: Callable[[int], None]) -> None:
        self._events = events
        self._stop = stop
        self._types: dict[int, int] = {}
        self._buffers: dict[int, bytearray] = {}
        self._has_settings = False
        self._push_limit = -1
        self._goaway: int | None = None

    @property
    def awaits_settings(self) -> bool:
        return not self._has_settings

    def receive(self, stream_id: int, data: bytes, is_last: bool) -> None:
        """Take bytes of one stream."""
        buffer = self._buffers.setdefault(stream_id, bytearray())
        buffer += data
        kind = self._types.get(stream_id)
        if kind is None:
            kind = self._begin(stream_id, buffer)
        if kind == frames.CONTROL_STREAM:
            while self._take_frame(buffer):
                pass
        elif kind == frames.ENCODER_STREAM and buffer:
            self._events.encoder_received(bytes(buffer))
            buffer.clear()
        elif kind == frames.DECODER_STREAM and buffer:
            self._events.decoder_received(bytes(buffer))
            buffer.clear()
        elif kind is not None:
            buffer.clear()
        if is_last:
            self.ended(stream_id)

    def ended(self, stream_id: int) -> None:
        """The peer has ended or reset a stream."""
        self._buffers.pop(stream_id, None)
        if self._types.get(stream_id) in _CRITICAL:
            raise HTTP3Error(
                "A critical stream has ended", ErrorCode.CLOSED_CRITICAL_STREAM
            )
        self._types.pop(stream_id, None)

    def _begin(self, stream_id: int, buffer: bytearray) -> int | None:
        found = frames.read_integer(buffer, 0)
        if found is None:
            return None
        kind, end = found
        is_repeated = kind in _CRITICAL and kind in self._types.values()
        if is_repeated or kind == frames.PUSH_STREAM:
            raise HTTP3Error(
                f"A client may not open a stream of type {kind:#x}",
                ErrorCode.STREAM_CREATION_ERROR,
            )
        del buffer[:end]
        self._types[stream_id] = kind
        if kind not in _CRITICAL:
            self._stop(stream_id)
        return kind

    def _take_frame(self, buffer: bytearray) -> bool:
        kind = frames.read_integer(buffer, 0)
        length = None if kind is None else frames.read_integer(buffer, kind[1])
        if kind is None or length is None:
            return False
        self._check_kind(kind[0])
        size, start = length
        if size > FRAME_LIMIT:
            raise HTTP3Error("A control frame is too large", ErrorCode.EXCESSIVE_LOAD)
        if len(buffer) < start + size:
            return False
        payload = bytes(buffer[start : start + size])
        del buffer[: start + size]
        self._events.control_frame_received()
        self._frame_received(kind[0], payload)
        return True

    def _check_kind(self, kind: int) -> None:
        if not self._has_settings and kind != frames.SETTINGS:
            # RFC 9114 section 6.2.1.
            raise HTTP3Error("SETTINGS come first", ErrorCode.MISSING_SETTINGS)
        is_repeated = self._has_settings and kind == frames.SETTINGS
        if is_repeated or kind in _UNEXPECTED:
            raise HTTP3Error(
                f"Frame {kind:#x} is out of place on the control stream",
                ErrorCode.FRAME_UNEXPECTED,
            )

    def _frame_received(self, kind: int, payload: bytes) -> None:
        if kind == frames.SETTINGS:
            self._has_settings = True
            self._events.settings_received(frames.parse_settings(payload))
        elif kind == frames.GOAWAY:
            self._take_goaway(frames.parse_id(payload))
        elif kind == frames.MAX_PUSH_ID:
            limit = frames.parse_id(payload)
            if limit < self._push_limit:
                raise HTTP3Error("MAX_PUSH_ID is lowered", ErrorCode.ID_ERROR)
            self._push_limit = limit
        elif kind == frames.PRIORITY_UPDATE:
            self._update_priority(payload)
        elif kind == frames.PRIORITY_UPDATE_OF_PUSH:
            raise HTTP3Error("No push has that number", ErrorCode.ID_ERROR)
        elif kind == frames.CANCEL_PUSH:
            # Nothing is ever promised here (RFC 9114 section 7.2.3).
            frames.parse_id(payload)
            raise HTTP3Error("No push has that number", ErrorCode.ID_ERROR)

    def _take_goaway(self, push_id: int) -> None:
        # RFC 9114 section 5.2: each names what the one before has named, or less.
        if self._goaway is not None and push_id > self._goaway:
            raise HTTP3Error("GOAWAY names more than before", ErrorCode.ID_ERROR)
        self._goaway = push_id
        self._events.goaway_received()

    def _update_priority(self, payload: bytes) -> None:
        """Take a PRIORITY_UPDATE of a request (RFC 9218 section 7.2)."""
        found = frames.read_integer(payload, 0)
        if found is None:
            raise HTTP3Error("A priority without a stream", ErrorCode.FRAME_ERROR)
        stream_id, end = found
        if stream_id % 4:
            raise HTTP3Error(
                f"Stream {stream_id} has no request to order", ErrorCode.ID_ERROR
            )
        self._events.priority_updated(stream_id, payload[end:])
