"""A connection after 101: its bytes go straight on to the protocol switched to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.interfaces import BufferedReceiver, Transport, WireProtocol

LONG = 4096
"""Bytes in a chunk from which on a buffer of the receiver's own is worth its price."""


class UpgradedConnection:
    """Pass the transport's events to the receiver, and its end to ``lost``.

    ``early`` is what the peer sent ahead of the switch: it is delivered with the next
    bytes or tick, never before ``Stream.upgrade`` has returned.
    """

    __slots__ = (
        "_early",
        "_transport",
        "connection_lost",
        "eof_received",
        "pause_writing",
        "receiver",
        "resume_writing",
    )

    def __init__(
        self,
        receiver: WireProtocol,
        lost: Callable[[Exception | None], None],
        early: bytes = b"",
        transport: Transport | None = None,
    ) -> None:
        self.receiver = receiver
        self._early = early
        # For as long as it may still be told to read into a buffer.
        self._transport = transport
        self.connection_lost = lost
        self.eof_received = receiver.eof_received
        self.pause_writing = receiver.pause_writing
        self.resume_writing = receiver.resume_writing

    def data_received(self, data: bytes) -> None:
        # First: what came before the switch may end the connection.
        if len(data) >= LONG and self._transport is not None:
            self._use_buffer(self._transport)
        if self._early:
            self._deliver_early()
        self.receiver.data_received(data)

    def tick(self, now: float) -> None:
        """Deliver what came early, and hand the time on."""
        if self._early:
            self._deliver_early()
        self.receiver.tick(now)

    def hold(self, data: bytes) -> None:
        """Keep more of what the peer sent before it saw the switch."""
        self._early += data

    @property
    def held_size(self) -> int:
        """Bytes that wait for the receiver, or that it keeps."""
        return len(self._early) + getattr(self.receiver, "held_size", 0)

    def _deliver_early(self) -> None:
        early, self._early = self._early, b""
        self.receiver.data_received(early)

    def _use_buffer(self, transport: Transport) -> None:
        """Have long chunks from now on read to where they are needed, and not copied.

        A transport that does not know how keeps handing over bytes (benchmark:
        websocket_echo_16k; small messages pay for the buffer: websocket_echo).
        """
        self._transport = None
        receiver: BufferedReceiver = self.receiver  # type: ignore[assignment]
        if getattr(receiver, "read_buffer", None) is not None:
            # uvloop decides how it reads when it begins to.
            transport.pause_reading()
            transport.set_protocol(_BufferedConnection(receiver, self.connection_lost))
            transport.resume_reading()


class _BufferedConnection(UpgradedConnection):
    """Has the methods of ``asyncio.BufferedProtocol`` too, which uvloop looks for."""

    __slots__ = ("_view", "buffer_updated")

    def __init__(
        self,
        receiver: BufferedReceiver,
        lost: Callable[[Exception | None], None],
    ) -> None:
        super().__init__(receiver, lost)
        assert receiver.read_buffer is not None
        self._view = receiver.read_buffer.view
        self.buffer_updated = receiver.buffer_updated

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view
