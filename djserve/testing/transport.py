"""A transport in memory: records what a protocol writes, and plays a slow peer.

It stands where a socket's transport would, so that a protocol can be driven from a list
of bytes. It knows no socket, no clock and no loop: nothing happens by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djserve.interfaces import Receiver


class MemoryTransport:
    """Take a protocol's bytes as a socket's transport would (interfaces.Transport).

    ``data`` is what has been written and not yet taken; ``take`` returns and forgets
    it. ``close``, ``abort`` and ``write_eof`` are recorded; ``connection_lost`` is the
    test's to call, by ``lose``. What is written after a close is dropped, as the loop's
    transports drop it. ``fill`` and ``drain`` play a peer that stops and starts
    reading.
    """

    def __init__(self, receiver: Receiver | None = None) -> None:
        self.receiver = receiver
        self.receivers: list[Receiver] = []
        self.data = b""
        self.writes: list[bytes] = []
        self.is_aborted = False
        self.is_closing = False
        self.is_eof_written = False
        self.is_full = False
        self.reading_paused = False

    def take(self) -> bytes:
        """Return what has been written since the last call."""
        data, self.data = self.data, b""
        return data

    def feed(self, *chunks: bytes) -> None:
        """Hand bytes to the current receiver, chunk by chunk, as they would arrive.

        A closing transport delivers nothing more, as the loop's do.
        """
        for chunk in chunks:
            if not self.is_closing:
                self._current_receiver().data_received(chunk)

    def feed_eof(self) -> None:
        """Tell the current receiver that the peer has ended its side."""
        self._current_receiver().eof_received()

    def lose(self, exc: Exception | None = None) -> None:
        """Tell the current receiver that the connection has ended."""
        self.is_closing = True
        self._current_receiver().connection_lost(exc)

    def fill(self) -> None:
        """Let the buffer be full: the peer takes nothing."""
        self.is_full = True
        self._current_receiver().pause_writing()

    def drain(self) -> None:
        """Let the buffer be empty again: the peer has taken all."""
        self.is_full = False
        self._current_receiver().resume_writing()

    def write(self, data: bytes, /) -> None:
        if self.is_closing:
            return
        self.writes.append(bytes(data))
        self.data += data

    def close(self) -> None:
        self.is_closing = True

    def abort(self) -> None:
        self.is_aborted = True
        self.is_closing = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_eof_written = True

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False

    def get_write_buffer_size(self) -> int:
        """Return the untaken bytes while the buffer is full, else 0."""
        return len(self.data) if self.is_full else 0

    def set_protocol(self, receiver: Receiver, /) -> None:
        self.receiver = receiver
        self.receivers.append(receiver)

    def _current_receiver(self) -> Receiver:
        assert self.receiver is not None, "set_protocol() first"
        return self.receiver
