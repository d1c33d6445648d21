"""A transport in memory that is as strict as a socket's, with a peer that may be slow.

What a protocol must not do to its transport is kept in ``faults``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from djserve.interfaces import Receiver

# asyncio's and uvloop's own marks.
HIGH_WATER = 64 * 1024
LOW_WATER = 16 * 1024


class StrictTransport:
    """Carry bytes between a protocol and a scripted peer (interfaces.Transport).

    While ``peer_reads`` is off, what is written waits; ``read`` takes it and lets the
    protocol go on. ``received`` is all that the peer has got.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, can_write_eof: bool = True
    ) -> None:
        self.receiver: Receiver | None = None
        self.faults: list[str] = []
        self.received = bytearray()
        self.waiting = bytearray()
        self.most_waiting = 0
        self.peer_reads = True
        self.is_paused = False
        self.is_closing = False
        self.is_aborted = False
        self.is_ended = False
        self.is_eof_written = False
        self.is_lost = False
        self._loop = loop
        self._can_write_eof = can_write_eof
        self._is_full = False

    # The peer.

    def deliver(self, data: bytes) -> None:
        """Hand bytes to the protocol, as far as it reads at all."""
        assert not self.is_paused
        if not self.is_closing:
            self._call().data_received(data)

    def deliver_eof(self) -> None:
        """End the peer's side; the protocol does not keep the connection half open."""
        if not self.is_closing:
            assert not self._call().eof_received()  # type: ignore[func-returns-value]
            self._close()

    def reset(self) -> None:
        """Break the connection off as the network does."""
        self.is_closing = self.is_aborted = True
        self._loop.call_soon(self._lose, ConnectionResetError())

    def read(self, size: int) -> None:
        """Take bytes that wait, as a slow peer does."""
        self.received += self.waiting[:size]
        del self.waiting[:size]
        if self._is_full and len(self.waiting) <= LOW_WATER and not self.is_lost:
            self._is_full = False
            self._call().resume_writing()
        if self.is_closing and not self.waiting:
            self._loop.call_soon(self._lose, None)

    # The protocol (interfaces.Transport).

    def write(self, data: bytes, /) -> None:
        assert isinstance(data, bytes | bytearray)
        if self.is_lost or self.is_ended or self.is_eof_written:
            return self.faults.append(f"write after the end: {data[:60]!r}")
        if not data:
            return self.faults.append("write of nothing")
        if self.is_closing:
            # By the peer's doing, of which the protocol is told a moment later.
            return None
        if self.peer_reads and not self.waiting:
            self.received += data
            return None
        self.waiting += data
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        if len(self.waiting) > HIGH_WATER and not self._is_full:
            self._is_full = True
            self._call().pause_writing()
        return None

    def close(self) -> None:
        self.is_ended = True
        self._close()

    def abort(self) -> None:
        self.is_ended = True
        self.is_closing = self.is_aborted = True
        self._loop.call_soon(self._lose, None)

    def can_write_eof(self) -> bool:
        return self._can_write_eof

    def write_eof(self) -> None:
        if not self._can_write_eof:
            self.faults.append("write_eof where there is none")
        if self.is_lost or self.is_ended:
            self.faults.append("write_eof after the end")
        self.is_eof_written = True

    def pause_reading(self) -> None:
        self._check_reading("pause_reading")
        self.is_paused = True

    def resume_reading(self) -> None:
        self._check_reading("resume_reading")
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def set_protocol(self, receiver: Receiver, /) -> None:
        self.receiver = receiver

    def _check_reading(self, name: str) -> None:
        if self.is_lost or self.is_ended:
            self.faults.append(f"{name} after the end")

    def _call(self) -> Receiver:
        assert self.receiver is not None
        return self.receiver

    def _close(self) -> None:
        if not self.is_closing:
            self.is_closing = True
            if not self.waiting:
                self._loop.call_soon(self._lose, None)

    def _lose(self, exc: Exception | None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._call().connection_lost(exc)
