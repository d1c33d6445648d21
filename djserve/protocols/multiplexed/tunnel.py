"""An upgraded stream as a transport: WebSocket on a stream (RFC 8441, RFC 9220)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from djserve.protocols.limits import LINGER_TIMEOUT

if TYPE_CHECKING:
    from djserve.interfaces import Receiver, WireProtocol


class Carrier(Protocol):
    """What a tunnel asks of its stream."""

    @property
    def is_writable(self) -> bool: ...
    @property
    def waiting_size(self) -> int:
        """Bytes that wait for the windows."""

    def write(self, data: bytes, /) -> None: ...
    def write_eof(self) -> None:
        """End our side once all is sent."""

    def reset(self) -> None:
        """End both sides at once."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Tunnel:
    """Hand a stream's bytes both ways (interfaces.Transport)."""

    __slots__ = (
        "_closed_at",
        "_is_writing_paused",
        "_stream",
        "is_closing",
        "receiver",
    )

    def __init__(self, stream: Carrier, receiver: WireProtocol) -> None:
        self._stream = stream
        self.receiver: WireProtocol = receiver
        self._is_writing_paused = False
        self.is_closing = False
        self._closed_at: float | None = None

    # Downward (interfaces.Transport).

    def write(self, data: bytes) -> None:
        if self.is_closing:
            return
        self._stream.write(data)
        if not self._is_writing_paused and not self._stream.is_writable:
            self._is_writing_paused = True
            self.receiver.pause_writing()

    def close(self) -> None:
        """End our side after what waits; the peer then ends its own."""
        if not self.is_closing:
            self.is_closing = True
            self._stream.write_eof()

    def abort(self) -> None:
        self.is_closing = True
        self._stream.reset()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        self._stream.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._stream.waiting_size

    def set_protocol(self, receiver: Receiver) -> None:
        raise NotImplementedError("A stream is upgraded once")

    # Upward: the stream calls these.

    def resume_writing(self) -> None:
        if self._is_writing_paused and self._stream.is_writable:
            self._is_writing_paused = False
            self.receiver.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = True
        self.receiver.connection_lost(exc)

    def tick(self, now: float) -> None:
        """Pass the time on; end what lingers."""
        if not self.is_closing:
            self.receiver.tick(now)
        elif self._closed_at is None:
            self._closed_at = now
        elif now - self._closed_at >= LINGER_TIMEOUT and not self._stream.waiting_size:
            self._stream.reset()

    def drain(self) -> None:
        self.receiver.drain()
