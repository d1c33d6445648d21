"""One HTTP/2 connection: its transport, its timeouts and its end (RFC 9113).

It owns the parts and introduces them to each other; none of them knows it:

    transport -> connection -> reader -> streams -> stream -> exchange
    exchange -> stream -> writer (makes frames), output (says when) -> transport

Bytes that come are read by the reader, which tells the stream table what happens on
each stream; exchanges are started when the whole chunk has been read, and all that they
lead to leaves in one write. The endings and the timeouts are described in ``timeouts``,
the windows in ``output``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from h2.errors import ErrorCodes

from djserve.instrumentation.limits import note_limit
from djserve.protocols.closing import close_transport
from djserve.protocols.http2.codec import WINDOW_LIMIT, FrameWriter, H2State
from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.http2.output import Output
from djserve.protocols.http2.reader import FrameReader
from djserve.protocols.http2.streams import HTTP2Service, StreamTable
from djserve.protocols.http2.timeouts import ConnectionTimeouts, Ending, Overdue
from djserve.protocols.limits import DISCARD_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.interfaces import ConnectionInfo, Transport

_DRAIN_PING = b"djserveD"
_QUIET_PING = b"djserveQ"
_ALIVE_PING = b"djserveA"

# An enum's members cost a descriptor each time (Python 3.11).
_OPEN, _RETIRING, _ANNOUNCED, _NAMED, _LINGERING, _LOST = Ending


class HTTP2Connection:
    """Carry a connection's streams between transport and owner (Connection)."""

    __slots__ = (
        "_asked_at",
        "_discarded",
        "_ending",
        "_h2",
        "_info",
        "_is_waiting",
        "_output",
        "_owner",
        "_reader",
        "_streams",
        "_timeouts",
        "_transport",
        "_writer",
        "mark",
    )

    def __init__(
        self, transport: Transport, info: ConnectionInfo, service: HTTP2Service
    ) -> None:
        self._transport = transport
        self._info = info
        self._owner = service.owner
        self._h2 = H2State(service.http, service.http2)
        self._writer = FrameWriter(self._h2, service.http2)
        self._output = Output(self._writer, transport, service.call_soon)
        self._streams = StreamTable(
            self._writer,
            self._output,
            info,
            service,
            self._stream_ended,
            self._ping_answered,
            self._request_refused,
        )
        self._reader = FrameReader(
            self._h2, self._writer, self._streams, service.http, service.http2
        )
        self._timeouts = ConnectionTimeouts(service.http, service.http2)
        self._ending = _OPEN
        self._discarded = 0
        self._is_waiting = False
        # The count of requests when we last asked for quiet and had no answer yet.
        self._asked_at: int | None = None
        # Counts the chunks that the peer sends, for the timeouts.
        self.mark = 0
        self._writer.start()
        self._output.wake()

    # Upward: the transport calls these.

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer; write all that they lead to at once."""
        self.mark += 1
        if self._ending >= _LINGERING:
            self._discard(len(data))
            return
        self._output.hold()
        try:
            is_spent = self._reader.receive(data)
            self._streams.start_exchanges()
            if self._ending is _RETIRING and self._streams.is_multiplexed:
                self._announce_end()
            if is_spent:
                self._wait_for_turn()
        except HTTP2Error as error:
            self._fail(error)
        finally:
            self._output.release()

    def eof_received(self) -> None:
        """The peer has finished sending, which for HTTP clients means that it is gone.

        Returns None, at which the loop closes the transport.
        """

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._output.pause()

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._output.resume()
        if not self._output.is_paused:
            self._streams.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, for whatever reason."""
        self._enter(_LOST)
        self._output.stop()
        self._streams.fail(exc)
        self._owner.connection_lost(self)

    # The server calls these (interfaces.Connection).

    def tick(self, now: float) -> None:
        """Check every timeout at the monotonic time ``now``, in seconds."""
        timeouts = self._timeouts
        self._output.hold()
        try:
            self._h2.refill(timeouts.begin(self, now))
            for overdue in timeouts.check(self._ending, self, now):
                if isinstance(overdue, HTTP2Error):
                    self._fail(overdue)
                else:
                    self._ACTIONS[overdue](self)
            self._streams.tick(now)
        finally:
            self._output.release()

    def retire(self) -> None:
        """End after a request that is on its way, in the manner that suits the peer.

        If no further stream comes, ``drain`` must follow.
        """
        self._enter(_RETIRING)
        if self._streams and self._streams.is_multiplexed:
            self._announce_end()

    def defer_drains(self) -> list[Callable[[], None]]:
        """Return what drains each upgraded stream; ``drain`` leaves these alone."""
        return self._streams.defer_drains()

    def drain(self) -> None:
        """End soon: at once if idle, else in two steps (RFC 9113 section 6.8).

        The first GOAWAY says that the end comes; streams that are on their way are
        still taken. The second, when the peer has seen the first, names the last one.
        """
        self._enter(_RETIRING)
        if self._streams:
            self._announce_end()
        elif self._ending is _RETIRING:
            self._end_idle()

    def abort_transport(self) -> None:
        """Drop the connection, with what is buffered."""
        self._output.stop()
        self._owner.reset_transport(self._transport)

    @property
    def idle_since(self) -> tuple[bool, float] | None:
        """Whether a request was ever made, and since when there is no stream."""
        since = self._timeouts.idle_since
        if since is None or self._streams or self._ending >= _LINGERING:
            return None
        return (self.request_count > 0, since)

    @property
    def held_size(self) -> int:
        """Bytes that wait for the peer, or from it for their receiver."""
        return self.waiting_size + self._streams.held_size + self._reader.held_size

    def give_way(self) -> bool:
        """End if there is no stream and the peer has sent nothing more."""
        if self.idle_since is None or self.has_input:
            return False
        self._close()
        return True

    # For the timeouts (timeouts.ConnectionFacts).

    @property
    def pauses(self) -> int:
        """How often the transport was full."""
        return self._output.pauses

    @property
    def waiting_size(self) -> int:
        """The bytes that the transport has not yet sent."""
        return self._output.waiting_size

    @property
    def has_streams(self) -> bool:
        return bool(self._streams)

    @property
    def has_input(self) -> bool:
        """Whether the peer has sent what has not come up yet."""
        return self._owner.has_input(self._transport)

    @property
    def is_reading_head(self) -> bool:
        """Whether a part of a request's head, or of any frame, has come."""
        return self._reader.is_in_block or self._reader.is_in_frame

    @property
    def request_count(self) -> int:
        return self._streams.request_count

    @property
    def ended_count(self) -> int:
        """How many streams have ended."""
        return self._streams.ended_count

    @property
    def awaits_settings(self) -> bool:
        """Whether our SETTINGS are not acknowledged yet."""
        return self._streams.awaits_settings

    # Private: what takes long to read.

    def _wait_for_turn(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._transport.pause_reading()
            self._owner.read_later(self._read_on)

    def _request_refused(self) -> None:
        self._reader.charge_refusal()

    def _read_on(self) -> None:
        self._is_waiting = False
        if self._ending is _LOST:
            return
        self.data_received(b"")
        if not self._is_waiting and not self._output.is_reading_paused:
            self._transport.resume_reading()

    # Private: the way to the end.

    def _enter(self, ending: Ending) -> None:
        """Come nearer to the end; an earlier ending than the present one is past."""
        self._ending = max(self._ending, ending)

    def _ping_answered(self, data: bytes) -> None:
        if data == _DRAIN_PING:
            self._name_last_stream()
        elif data == _QUIET_PING and self._asked_at is not None:
            # After what the client has sent right behind its answer.
            self._streams.call_soon(self._check_quiet)

    def _check_quiet(self) -> None:
        asked_at, self._asked_at = self._asked_at, None
        if self._streams or self._ending is not _RETIRING:
            return
        if asked_at == self.request_count:
            self._end_idle()
        else:
            self._ask_for_quiet()

    def _ask_for_quiet(self) -> None:
        """Have the client tell that it has read all responses."""
        if self._asked_at is None:
            self._asked_at = self.request_count
            self._h2.ping(_QUIET_PING)
        self._output.wake()

    def _stream_ended(self) -> None:
        """End with the last stream, if the connection is to end."""
        if self._ending is _OPEN or self._streams:
            return
        if self._ending is _RETIRING:
            self._ask_for_quiet()
        elif self._ending is _NAMED:
            self._output.wake()
            self._streams.call_soon(self._linger)

    def _announce_end(self) -> None:
        """Take the first of the two steps."""
        if self._ending >= _ANNOUNCED:
            return
        self._enter(_ANNOUNCED)
        # The PING stands first: h2's clients take no frame after GOAWAY, and would drop
        # with it what else came in the same read.
        self._h2.ping(_DRAIN_PING)
        self._writer.go_away(ErrorCodes.NO_ERROR, last=WINDOW_LIMIT)
        self._streams.drain()
        self._output.wake()

    def _name_last_stream(self) -> None:
        """Take the second step; end when all streams have ended."""
        if self._ending is _ANNOUNCED:
            self._enter(_NAMED)
            self._writer.go_away(ErrorCodes.NO_ERROR)
            self._output.wake()
            if not self._streams:
                self._streams.call_soon(self._linger)

    def _end_idle(self) -> None:
        """Name the last stream and take no other."""
        self._enter(_NAMED)
        self._streams.drain()
        self._writer.go_away(ErrorCodes.NO_ERROR)
        self._output.wake()
        self._streams.call_soon(self._linger)

    def _fail(self, error: HTTP2Error) -> None:
        """End the connection for the peer's fault (RFC 9113 section 5.4.1)."""
        self._owner.request_refused(None, self._info, error)
        self._streams.fail(None)
        self._writer.go_away(error.code, error.reason)
        self._linger()

    def _close(self) -> None:
        """End an idle connection: GOAWAY names the last stream that was taken."""
        self._writer.go_away(ErrorCodes.NO_ERROR)
        self._linger()

    def _linger(self) -> None:
        """Send what is left and drop what still comes, so that GOAWAY arrives."""
        if self._ending < _LINGERING:
            self._enter(_LINGERING)
            self._output.wake()
            self._streams.call_soon(self._end_writing)

    def _end_writing(self) -> None:
        """Say that nothing more comes; over TLS, GOAWAY alone has to say it.

        To close there would answer what is on its way to us with a reset, and the peer
        might never read GOAWAY.
        """
        if not self._output.is_stopped:
            self._output.flush()
            if self._transport.can_write_eof():
                # asyncio's raises if the peer has reset; the loop then tells that.
                with suppress(OSError):
                    self._transport.write_eof()

    def _close_transport(self) -> None:
        """Close after what is buffered."""
        self._end_writing()
        self._output.stop()
        close_transport(self._transport)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > DISCARD_LIMIT:
            self._output.stop()
            self._transport.abort()

    def _abort_stalled(self) -> None:
        note_limit("WRITE_TIMEOUT")
        self.abort_transport()

    def _ask_for_life(self) -> None:
        self._h2.ping(_ALIVE_PING)

    _ACTIONS: ClassVar[dict[Overdue, Callable[[HTTP2Connection], None]]] = {
        Overdue.READING: _abort_stalled,
        Overdue.END: _close_transport,
        Overdue.LAST_STREAM: _name_last_stream,
        Overdue.PING: _ask_for_life,
        Overdue.REQUEST: _close,
    }
