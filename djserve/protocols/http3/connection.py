"""One HTTP/3 connection: its streams, its timeouts and its end (RFC 9114).

    transport -> connection -> streams -> stream -> reader -> stream -> exchange
    exchange -> stream -> transport

Exchanges are started when a whole datagram has been read, and all that they lead to
leaves together. The endings are described in ``timeouts``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.protocols.http3 import frames
from djserve.protocols.http3.control import ControlStreams
from djserve.protocols.http3.errors import ErrorCode, HTTP3Error
from djserve.protocols.http3.qpack import FieldCodec
from djserve.protocols.http3.streams import HTTP3Service, StreamTable
from djserve.protocols.http3.timeouts import ConnectionTimeouts, Ending, Overdue

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.interfaces import ConnectionInfo, MultiplexTransport

# RFC 9114 section 5.2: the greatest number that a request's stream can have.
_NO_LAST_STREAM = (1 << 62) - 4


# WebTransport's draft 02 and 07, which has a bound on sessions: that of streams.
_SESSION_SETTINGS = {
    frames.H3_DATAGRAM: 1,
    frames.ENABLE_WEBTRANSPORT: 1,
    frames.WEBTRANSPORT_MAX_SESSIONS: 16,
}


class HTTP3Connection:
    """Carry a connection's streams between transport and owner (Connection)."""

    __slots__ = (
        "_codec",
        "_control",
        "_control_id",
        "_ending",
        "_info",
        "_owner",
        "_sessions",
        "_streams",
        "_timeouts",
        "_transport",
        "mark",
    )

    def __init__(
        self, transport: MultiplexTransport, info: ConnectionInfo, service: HTTP3Service
    ) -> None:
        self._transport = transport
        self._info = info
        self._owner = service.owner
        self._codec = FieldCodec()
        self._streams = StreamTable(
            transport, self._codec, info, service, self._stream_ended
        )
        self._control = ControlStreams(self, self._stop_stream)
        self._timeouts = ConnectionTimeouts(service.http, service.limits)
        self._ending = Ending.OPEN
        # Counts the datagrams that the peer sends, for the timeouts.
        self.mark = 0
        settings = {
            frames.MAX_FIELD_SECTION_SIZE: service.http.header_size_limit,
            frames.ENABLE_CONNECT_PROTOCOL: 1,
        }
        self._sessions = self._streams.sessions
        if self._sessions is not None:
            settings |= _SESSION_SETTINGS
        self._control_id = transport.open_stream()
        self._write_control(
            frames.encode_integer(frames.CONTROL_STREAM)
            + frames.encode_settings(settings)
        )

    # Upward: the transport calls these (interfaces.StreamReceiver).

    def stream_received(self, stream_id: int, data: bytes, is_last: bool) -> None:
        """Take bytes of a stream."""
        if self._ending is Ending.LOST:
            return
        try:
            if self._sessions is not None:
                others = self._sessions.sort(stream_id, data, is_last)
                if others is None:
                    return
                data = others
            if stream_id % 4 == 2:
                self._transport.acknowledge(stream_id, len(data))
                self._control.receive(stream_id, data, is_last)
            elif self._is_late(stream_id):
                self._streams.reject(stream_id)
            else:
                self._streams.receive(stream_id, data, is_last)
        except HTTP3Error as error:
            self._fail(error)

    def stream_reset(self, stream_id: int, code: int) -> None:
        """The peer has ended its side of a stream before its end."""
        if self._ending is Ending.LOST:
            return
        sessions = self._sessions
        if sessions is not None and sessions.stream_reset(stream_id, code):
            return
        try:
            if stream_id % 4 == 2:
                # What never came counts against the connection's window too.
                self._transport.forget_stream(stream_id)
                self._control.ended(stream_id)
            else:
                self._streams.stream_reset(stream_id, ErrorCode.REQUEST_CANCELLED)
        except HTTP3Error as error:
            self._fail(error)

    def stream_stopped(self, stream_id: int, code: int) -> None:
        """The peer takes no more of a stream."""
        if self._ending is Ending.LOST:
            return
        sessions = self._sessions
        if sessions is not None and sessions.stream_stopped(stream_id, code):
            return
        try:
            if stream_id == self._control_id:
                # The server opens no other that the peer may not do without: the rest
                # of its streams are sessions', which may have ended in the meantime.
                raise HTTP3Error(
                    "A critical stream is not read", ErrorCode.CLOSED_CRITICAL_STREAM
                )
            self._streams.stream_reset(stream_id, ErrorCode.REQUEST_CANCELLED)
        except HTTP3Error as error:
            self._fail(error)

    def datagram_received(self, data: bytes) -> None:
        """Take a datagram; without sessions no peer may send any."""
        if self._sessions is None or self._ending is Ending.LOST:
            return
        try:
            self._sessions.datagram_received(data)
        except HTTP3Error as error:
            self._fail(error)

    def batch_received(self) -> None:
        """A datagram has been read: serve what came in it."""
        self.mark += 1
        try:
            self._streams.start_exchanges()
        except HTTP3Error as error:
            self._fail(error)
        self._check_confirmed()

    def ping_acknowledged(self) -> None:
        """The peer has seen what was sent ahead of the PING."""
        if self._ending is Ending.ANNOUNCED:
            self._name_last_stream()

    def bytes_sent(self) -> None:
        """Some of what waited has been sent."""
        self._streams.bytes_sent()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, for whatever reason."""
        if self._ending is not Ending.LOST:
            self._enter(Ending.LOST)
            self._streams.fail(exc)
            self._owner.connection_lost(self)

    # Not used: bytes come by streams (interfaces.WireProtocol).

    def data_received(self, data: bytes) -> None:
        raise NotImplementedError("the bytes of QUIC belong to streams")

    def eof_received(self) -> None:
        raise NotImplementedError("streams end, not connections")

    def pause_writing(self) -> None:
        raise NotImplementedError("each stream has its window")

    def resume_writing(self) -> None:
        raise NotImplementedError("each stream has its window")

    # The server calls these (interfaces.Connection).

    def tick(self, now: float) -> None:
        """Check every timeout at the monotonic time ``now``, in seconds."""
        timeouts = self._timeouts
        self._streams.refill(timeouts.begin(self, now))
        for overdue in timeouts.check(self._ending, self, now):
            self._act(overdue)
        try:
            self._streams.tick(now)
        except HTTP3Error as error:
            self._fail(error)
        self._check_confirmed()

    def retire(self) -> None:
        """End soon: take what is on its way, and no more."""
        if self._ending < Ending.ANNOUNCED:
            self._enter(Ending.ANNOUNCED)
            self._go_away(_NO_LAST_STREAM)
            self._transport.ping()

    def defer_drains(self) -> list[Callable[[], None]]:
        """Return what drains each upgraded stream; ``drain`` leaves these alone."""
        return self._streams.defer_drains()

    def drain(self) -> None:
        """End soon: at once if idle, else in two steps (RFC 9114 section 5.2)."""
        self.retire()
        self._streams.drain()
        if not self._streams:
            self._name_last_stream()

    def abort_transport(self) -> None:
        """Drop the connection, with what is buffered."""
        self._transport.abort()

    @property
    def idle_since(self) -> tuple[bool, float] | None:
        """Whether a request was ever made, and since when there is no stream."""
        since = self._timeouts.idle_since
        if since is None or self._streams or self._ending >= Ending.LINGERING:
            return None
        return (self.request_count > 0, since)

    @property
    def held_size(self) -> int:
        """Bytes that wait for the peer, or from it for their receiver."""
        return self._transport.unacknowledged_size + self._streams.held_size

    def give_way(self) -> bool:
        """End if there is no stream."""
        if self.idle_since is None:
            return False
        self._name_last_stream()
        return True

    # For the timeouts (timeouts.ConnectionFacts).

    @property
    def has_streams(self) -> bool:
        return bool(self._streams)

    @property
    def request_count(self) -> int:
        return self._streams.request_count

    @property
    def ended_count(self) -> int:
        return self._streams.ended_count

    # The peer's control streams (control.ControlEvents).

    def settings_received(self, settings: dict[int, int]) -> None:
        """Keep none: the server uses no table of the peer's and no datagrams."""

    def goaway_received(self) -> None:
        """Do nothing: no push is ever promised that the peer could refuse."""

    def priority_updated(self, stream_id: int, value: bytes) -> None:
        self._streams.priority_updated(stream_id, value)

    def control_frame_received(self) -> None:
        self._streams.idle_frame_received()

    def encoder_received(self, data: bytes) -> None:
        self._codec.feed_encoder(data)

    def decoder_received(self, data: bytes) -> None:
        self._codec.feed_decoder(data)

    # Private: the way to the end.

    def _enter(self, ending: Ending) -> None:
        """Come nearer to the end; an earlier ending than the present one is past."""
        self._ending = max(self._ending, ending)

    def _act(self, overdue: Overdue) -> None:
        if overdue is Overdue.PING:
            self._transport.ping()
        elif overdue is Overdue.END:
            self._close()
        else:
            self._name_last_stream()

    def _is_late(self, stream_id: int) -> bool:
        """Return whether a stream is behind the last one that GOAWAY has named."""
        return self._ending >= Ending.NAMED and stream_id > self._streams.last_id

    def _stop_stream(self, stream_id: int) -> None:
        self._transport.stop_stream(stream_id, ErrorCode.STREAM_CREATION_ERROR)

    def _write_control(self, data: bytes) -> None:
        self._transport.write_stream(self._control_id, data, False)

    def _go_away(self, stream_id: int) -> None:
        payload = frames.encode_integer(stream_id)
        self._write_control(frames.encode_frame(frames.GOAWAY, payload))

    def _name_last_stream(self) -> None:
        """Take the second step; end when all streams have ended."""
        if self._ending < Ending.NAMED:
            self._enter(Ending.NAMED)
            self._streams.drain()
            self._go_away(self._streams.last_id + 4)
            self._stream_ended()

    def _stream_ended(self) -> None:
        """End with the last stream, if the connection is to end."""
        if self._ending is Ending.NAMED and not self._streams:
            self._enter(Ending.LINGERING)
            self._streams.call_soon(self._check_confirmed)

    def _check_confirmed(self) -> None:
        """End once the peer has all: the end of a connection drops what it has not."""
        if self._ending is Ending.LINGERING:
            self._transport.flush()
            if not self._transport.unacknowledged_size:
                self._close()

    def _close(self) -> None:
        self._transport.end(ErrorCode.NO_ERROR, "")

    def _fail(self, error: HTTP3Error) -> None:
        """End the connection for the peer's fault (RFC 9114 section 8)."""
        if self._ending is not Ending.LOST:
            self._owner.request_refused(None, self._info, error)
            self._transport.end(error.code, error.reason)
