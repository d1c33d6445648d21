"""A connection after 101: its bytes go straight on to the protocol switched to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djserve.interfaces import WireProtocol
    from djserve.protocols.http1.connection import HTTP1Connection


class UpgradedConnection:
    """Pass the transport's events to the receiver, and the end to both."""

    __slots__ = (
        "_connection",
        "_receiver",
        "eof_received",
        "pause_writing",
        "resume_writing",
    )

    def __init__(self, connection: HTTP1Connection, receiver: WireProtocol) -> None:
        self._connection = connection
        self._receiver = receiver
        self.eof_received = receiver.eof_received
        self.pause_writing = receiver.pause_writing
        self.resume_writing = receiver.resume_writing

    def data_received(self, data: bytes) -> None:
        self._connection.flush_upgraded(self._receiver)
        self._receiver.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.connection_lost(exc)
        self._connection.connection_lost(exc)
