"""The bytes of one request stream -> its head, its content and its end.

Frames are read as they come: content is handed on in the pieces in which it arrives,
and of the rest no more than one bounded field block is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from djserve.protocols.http3 import frames
from djserve.protocols.http3.errors import ErrorCode, HTTP3Error

if TYPE_CHECKING:
    from typing import Final

# RFC 9114 section 7.2: these belong on the control stream, or to the server.
_UNEXPECTED: Final = frames.RESERVED_FRAMES | {
    frames.CANCEL_PUSH,
    frames.SETTINGS,
    frames.PUSH_PROMISE,
    frames.GOAWAY,
    frames.MAX_PUSH_ID,
    frames.PRIORITY_UPDATE,
    frames.PRIORITY_UPDATE_OF_PUSH,
}


class RequestEvents(Protocol):
    """What is told of a request stream."""

    def block_received(self, block: bytes, is_trailers: bool, /) -> None: ...
    def content_received(self, data: bytes, /) -> None: ...
    def overhead_received(self, size: int, /) -> None:
        """Count bytes that are not content and have been used."""

    def idle_frame_received(self) -> None:
        """Count a frame without effect, which costs the peer little."""

    def request_ended(self) -> None: ...


class RequestReader:
    """Read one request stream; raises HTTP3Error for the peer's faults.

    ``block_limit`` bounds an encoded field block.
    """

    __slots__ = (
        "_block_limit",
        "_buffer",
        "_events",
        "_has_head",
        "_has_trailers",
        "_kind",
        "_left",
    )

    def __init__(self, events: RequestEvents, block_limit: int) -> None:
        self._events = events
        self._block_limit = block_limit
        self._buffer = bytearray()
        self._kind: int | None = None
        self._left = 0
        self._has_head = False
        self._has_trailers = False

    @property
    def is_in_block(self) -> bool:
        """Whether the request's head is not complete."""
        return not self._has_head

    @property
    def held_size(self) -> int:
        return len(self._buffer)

    def receive(self, data: bytes, is_last: bool) -> None:
        """Take the next bytes of the stream; ``is_last``: with them it ends."""
        if self._kind == frames.DATA and not self._buffer and len(data) < self._left:
            # Most of an upload: a part of one frame.
            self._left -= len(data)
            if data:
                self._events.content_received(data)
        else:
            self._buffer += data
            while self._take():
                pass
        if is_last:
            self._end()

    def _take(self) -> bool:
        """Take one step; return whether another may follow."""
        if self._kind is None:
            return self._begin_frame()
        if self._kind == frames.HEADERS:
            return self._take_block()
        size = min(self._left, len(self._buffer))
        if self._left and not size:
            return False
        part = bytes(self._buffer[:size])
        del self._buffer[:size]
        kind = self._kind
        self._left -= size
        if not self._left:
            self._kind = None
        if kind != frames.DATA:
            # RFC 9114 section 9: what is not known is skipped.
            self._events.overhead_received(size)
        elif part:
            self._events.content_received(part)
        return True

    def _begin_frame(self) -> bool:
        kind = frames.read_integer(self._buffer, 0)
        length = None if kind is None else frames.read_integer(self._buffer, kind[1])
        if kind is None or length is None:
            return False
        self._check_kind(kind[0], length[0])
        del self._buffer[: length[1]]
        self._events.overhead_received(length[1])
        self._kind, self._left = kind[0], length[0]
        if not self._left or self._kind not in (frames.DATA, frames.HEADERS):
            self._events.idle_frame_received()
        return True

    def _check_kind(self, kind: int, length: int) -> None:
        is_misplaced = (kind == frames.DATA and not self._has_head) or (
            kind in (frames.DATA, frames.HEADERS) and self._has_trailers
        )
        if kind in _UNEXPECTED or is_misplaced:
            raise HTTP3Error(
                f"Frame {kind:#x} is out of place on a request stream",
                ErrorCode.FRAME_UNEXPECTED,
            )
        if kind == frames.HEADERS and length > self._block_limit:
            raise HTTP3Error(
                "A field block is too large",
                ErrorCode.EXCESSIVE_LOAD,
                is_of_stream=True,
                setting="HEADER_SIZE_LIMIT",
            )

    def _take_block(self) -> bool:
        if len(self._buffer) < self._left:
            return False
        block = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._kind = None
        is_trailers, self._has_trailers = self._has_head, self._has_head
        self._has_head = True
        self._events.overhead_received(len(block))
        self._events.block_received(block, is_trailers)
        return True

    def _end(self) -> None:
        if self._kind is not None or self._buffer:
            # RFC 9114 section 7.1.
            raise HTTP3Error("A frame is cut short", ErrorCode.FRAME_ERROR)
        if not self._has_head:
            raise HTTP3Error(
                "A request without a head",
                ErrorCode.REQUEST_INCOMPLETE,
                is_of_stream=True,
            )
        self._events.request_ended()
