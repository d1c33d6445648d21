"""One QUIC connection: datagrams in, streams up; streams down, datagrams out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from aioquic.quic import events

if TYPE_CHECKING:
    import asyncio

    from djserve.interfaces import StreamReceiver
    from djserve.net.quic.engine import Engine

logger = logging.getLogger("djserve.net")

# RFC 9000 section 20.1.
_NO_ERROR = 0x0


class ConnectionHost(Protocol):
    """What a connection asks of who has the socket."""

    loop: asyncio.AbstractEventLoop

    def send(self, datagrams: list[tuple[bytes, Any]], /) -> None: ...
    def open_receiver(self, transport: QUICTransport, /) -> StreamReceiver:
        """Return who gets the streams: the handshake is complete."""

    def id_issued(self, transport: QUICTransport, connection_id: bytes, /) -> None: ...
    def id_retired(self, connection_id: bytes, /) -> None: ...
    def terminated(self, transport: QUICTransport, /) -> None: ...
    def failed(self, transport: QUICTransport, /) -> None:
        """Drop the connection at the exception that is being handled."""


class QUICTransport:
    """Drive one connection (interfaces.MultiplexTransport)."""

    __slots__ = (
        "_engine",
        "_forgotten",
        "_host",
        "_is_dropped",
        "_is_ended",
        "_is_transmitting",
        "_pings",
        "_receiver",
        "_timer",
        "_timer_at",
        "_transmit_handle",
        "ids",
    )

    def __init__(self, engine: Engine, host: ConnectionHost) -> None:
        self._engine = engine
        self._host = host
        self._receiver: StreamReceiver | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._transmit_handle: asyncio.Handle | None = None
        self._is_dropped = False
        self._is_ended = False
        self._is_transmitting = False
        self._pings = 0
        # Streams that are read no more, and the peer may still send on.
        self._forgotten: set[int] = set()
        self.ids: set[bytes] = set()
        """The connection ids by which the peer may call it."""

    # The host calls these.

    @property
    def is_established(self) -> bool:
        """Whether its handshake is complete."""
        return self._receiver is not None

    @property
    def engine(self) -> Engine:
        """What knows of the handshake."""
        return self._engine

    @property
    def client(self) -> tuple[str, int] | None:
        """The peer's present address."""
        address: Any = self._engine.get_peer_address()
        return None if address is None else (address[0], address[1])

    def datagram_received(self, data: bytes, address: Any, now: float) -> None:
        """Take a datagram; what it leads to is sent by ``transmit``."""
        try:
            self._engine.receive_datagram(data, address, now=now)
            self._take_events()
            if self._receiver is not None and not self._is_ended:
                self._receiver.batch_received()
        except Exception:
            self._host.failed(self)

    def transmit(self, at: float = 0.0) -> None:
        """Send what is due, and wait for the next timer.

        A timer may fire early by part of a millisecond: what is due ``at`` its time is
        sent.
        """
        if self._transmit_handle is not None:
            self._transmit_handle.cancel()
            self._transmit_handle = None
        if self._is_transmitting or self._is_dropped:
            return
        self._is_transmitting = True
        try:
            now = max(at, self._host.loop.time())
            datagrams = self._engine.datagrams_to_send(now=now)
            if datagrams:
                self._host.send(datagrams)
            if self._receiver is not None and not self._is_ended:
                self._receiver.bytes_sent()
        except Exception:
            self._host.failed(self)
        finally:
            self._is_transmitting = False
        if not self._is_dropped:
            self._set_timer()

    def drop(self) -> None:
        """Forget the connection without a word: no timer fires any more."""
        self._is_dropped = True
        if self._transmit_handle is not None:
            self._transmit_handle.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._lose(None)

    # Downward (interfaces.MultiplexTransport).

    def open_stream(self, is_unidirectional: bool = True) -> int:
        stream_id = self._engine.get_next_available_stream_id(is_unidirectional)
        self._engine.send_stream_data(stream_id, b"")
        return stream_id

    def write_stream(self, stream_id: int, data: bytes, is_last: bool) -> None:
        if not self._is_ended and self._engine.can_write(stream_id):
            self._engine.send_stream_data(stream_id, data, is_last)
            self._wake()

    def reset_stream(self, stream_id: int, code: int) -> None:
        if not self._is_ended and self._engine.is_sending(stream_id):
            self._engine.reset_stream(stream_id, code)
            self._engine.drop_output(stream_id)
            self._wake()

    def stop_stream(self, stream_id: int, code: int) -> None:
        if not self._is_ended and self._engine.can_stop(stream_id):
            self._engine.stop_stream(stream_id, code)
            self._wake()

    def acknowledge(self, stream_id: int, size: int) -> None:
        if size:
            self._engine.acknowledge(stream_id, size)
            self._wake()

    def forget_stream(self, stream_id: int) -> None:
        if self._engine.can_stop(stream_id):
            self._forgotten.add(stream_id)
        self._engine.settle(stream_id)
        self._engine.forget_priority(stream_id)

    def send_datagram(self, data: bytes) -> None:
        if not self._is_ended and self._engine.takes_datagram(len(data)):
            self._engine.send_datagram_frame(data)
            self._wake()

    def set_priority(self, stream_id: int, urgency: int, is_incremental: bool) -> None:
        self._engine.set_priority(stream_id, urgency, is_incremental)

    def is_blocked(self, stream_id: int) -> bool:
        return self._engine.is_blocked(stream_id)

    def has_begun(self, stream_id: int) -> bool:
        return self._engine.has_begun(stream_id)

    def waiting_size(self, stream_id: int) -> int:
        return self._engine.waiting_size(stream_id)

    def sent_size(self, stream_id: int) -> int:
        return self._engine.sent_size(stream_id)

    def ping(self) -> None:
        self._pings += 1
        self._engine.send_ping(self._pings)
        self._wake()

    @property
    def unacknowledged_size(self) -> int:
        return self._engine.unacknowledged_size

    def flush(self) -> None:
        if not self._is_ended:
            self.transmit()

    def end(self, code: int, reason: str) -> None:
        """Close the connection, with a code; ``connection_lost`` follows."""
        if not self._is_ended:
            self._is_ended = True
            self._engine.close(error_code=code, reason_phrase=reason[:100])
            self.transmit()
            self._host.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self.end(_NO_ERROR, "")

    # Private.

    def _wake(self) -> None:
        if self._transmit_handle is None and not self._is_ended:
            self._transmit_handle = self._host.loop.call_soon(self.transmit)

    def _set_timer(self) -> None:
        at = self._engine.get_timer()
        if at != self._timer_at and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and at is not None:
            self._timer = self._host.loop.call_at(at, self._timer_fired, at)
        self._timer_at = at

    def _timer_fired(self, at: float) -> None:
        self._timer = self._timer_at = None
        try:
            self._engine.handle_timer(now=max(at, self._host.loop.time()))
            self._take_events()
        except Exception:
            self._host.failed(self)
        self.transmit(at)

    def _lose(self, exc: Exception | None) -> None:
        self._is_ended = True
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.connection_lost(exc)

    def _take_events(self) -> None:
        while (event := self._engine.next_event()) is not None:
            handle = _HANDLERS.get(type(event))
            if handle is not None:
                handle(self, event)

    def _data_received(self, event: events.StreamDataReceived) -> None:
        stream_id = event.stream_id
        if stream_id in self._forgotten:
            self._engine.settle(stream_id)
            if event.end_stream:
                self._forgotten.discard(stream_id)
        elif self._receiver is not None and not self._is_ended:
            self._receiver.stream_received(stream_id, event.data, event.end_stream)

    def _reset_received(self, event: events.StreamReset) -> None:
        if event.stream_id in self._forgotten:
            self._engine.settle(event.stream_id)
            self._forgotten.discard(event.stream_id)
        elif self._receiver is not None and not self._is_ended:
            self._receiver.stream_reset(event.stream_id, event.error_code)

    def _stop_received(self, event: events.StopSendingReceived) -> None:
        self._engine.drop_output(event.stream_id)
        if self._receiver is not None and not self._is_ended:
            self._receiver.stream_stopped(event.stream_id, event.error_code)

    def _datagram_received(self, event: events.DatagramFrameReceived) -> None:
        if self._receiver is not None and not self._is_ended:
            self._receiver.datagram_received(event.data)

    def _ping_acknowledged(self, event: events.PingAcknowledged) -> None:
        if self._receiver is not None and not self._is_ended:
            self._receiver.ping_acknowledged()

    def _handshake_completed(self, event: events.HandshakeCompleted) -> None:
        self._receiver = self._host.open_receiver(self)

    def _id_issued(self, event: events.ConnectionIdIssued) -> None:
        self.ids.add(event.connection_id)
        self._host.id_issued(self, event.connection_id)

    def _id_retired(self, event: events.ConnectionIdRetired) -> None:
        self.ids.discard(event.connection_id)
        self._host.id_retired(event.connection_id)

    def _terminated(self, event: events.ConnectionTerminated) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._lose(None)
        self._host.terminated(self)


_HANDLERS: dict[type, Any] = {
    events.StreamDataReceived: QUICTransport._data_received,
    events.StreamReset: QUICTransport._reset_received,
    events.StopSendingReceived: QUICTransport._stop_received,
    events.DatagramFrameReceived: QUICTransport._datagram_received,
    events.PingAcknowledged: QUICTransport._ping_acknowledged,
    events.HandshakeCompleted: QUICTransport._handshake_completed,
    events.ConnectionIdIssued: QUICTransport._id_issued,
    events.ConnectionIdRetired: QUICTransport._id_retired,
    events.ConnectionTerminated: QUICTransport._terminated,
}
