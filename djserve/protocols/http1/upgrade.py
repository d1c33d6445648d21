"""A connection after 101: its bytes go straight on to the protocol switched to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djserve.interfaces import BufferedReceiver, Transport, WireProtocol
    from djserve.protocols.http1.connection import HTTP1Connection

LONG = 4096
"""Bytes in a chunk from which on a buffer of the receiver's own is worth its price."""


class UpgradedConnection:
    """Pass the transport's events to the receiver, and the end to both."""

    __slots__ = (
        "_connection",
        "_receiver",
        "_transport",
        "eof_received",
        "pause_writing",
        "resume_writing",
    )

    def __init__(
        self,
        connection: HTTP1Connection,
        receiver: WireProtocol,
        transport: Transport | None = None,
    ) -> None:
        self._connection = connection
        self._receiver = receiver
        # For as long as it may still be told to read into a buffer.
        self._transport = transport
        self.eof_received = receiver.eof_received
        self.pause_writing = receiver.pause_writing
        self.resume_writing = receiver.resume_writing

    def data_received(self, data: bytes) -> None:
        # First: what came before the switch may end the connection.
        if len(data) >= LONG and self._transport is not None:
            self._use_buffer(self._transport)
        self._connection.flush_upgraded(self._receiver)
        self._receiver.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def _use_buffer(self, transport: Transport) -> None:
        """Have long chunks from now on read to where they are needed, and not copied.

        A transport that does not know how goes on as before (benchmark:
        websocket_echo_16k; small messages pay for the buffer: websocket_echo).
        """
        self._transport = None
        receiver: BufferedReceiver = self._receiver  # type: ignore[assignment]
        if getattr(receiver, "read_buffer", None) is not None:
            # uvloop decides how it reads when it begins to.
            transport.pause_reading()
            transport.set_protocol(_BufferedConnection(self._connection, receiver))
            transport.resume_reading()


class _BufferedConnection(UpgradedConnection):
    """Has the methods of ``asyncio.BufferedProtocol`` too, which uvloop looks for."""

    __slots__ = ("_view", "buffer_updated")

    def __init__(self, connection: HTTP1Connection, receiver: BufferedReceiver) -> None:
        super().__init__(connection, receiver)
        assert receiver.read_buffer is not None
        self._view = receiver.read_buffer.view
        self.buffer_updated = receiver.buffer_updated

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view
