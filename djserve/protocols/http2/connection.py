"""One HTTP/2 connection: its transport, its timeouts and its end (RFC 9113)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.http2.sending import WINDOW_LIMIT
from djserve.protocols.http2.streams import HTTP2Service, StreamTable
from djserve.protocols.http2.timeouts import ConnectionTimeouts

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.interfaces import ConnectionInfo, Transport

# After GOAWAY, what the peer still sends is dropped, up to here.
_DISCARD_LIMIT = 256 * 1024

_DRAIN_PING = b"djserveD"
_QUIET_PING = b"djserveQ"
_ALIVE_PING = b"djserveA"


class HTTP2Connection:
    """Carry a connection's streams between transport and owner (Connection)."""

    __slots__ = (
        "_asked_at",
        "_discarded",
        "_info",
        "_is_retiring",
        "_owner",
        "_streams",
        "_timeouts",
        "_transport",
        "awaits_drain",
        "is_lingering",
        "mark",
        "output",
    )

    def __init__(
        self, transport: Transport, info: ConnectionInfo, service: HTTP2Service
    ) -> None:
        self._transport = transport
        self._info = info
        self._owner = service.owner
        self._streams = StreamTable(
            transport, info, service, self._stream_ended, self._ping_answered
        )
        self.output = self._streams.output
        self._timeouts = ConnectionTimeouts(self, service.http, service.http2)
        self._discarded = 0
        self._is_retiring = False
        # The count of requests when we last asked for quiet and had no answer yet.
        self._asked_at: int | None = None
        self.awaits_drain = False
        self.is_lingering = False
        # Counts the chunks that the peer sends, for the timeouts.
        self.mark = 0
        self._streams.codec.start()
        self.output.wake()

    # Upward: the transport calls these.

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer; write all that they lead to at once."""
        self.mark += 1
        if self.is_lingering:
            self._discard(len(data))
            return
        self.output.hold()
        try:
            self._streams.codec.receive(data)
            self._streams.start_exchanges()
            if self._is_retiring and self._streams.is_multiplexed:
                self._announce_end()
        except HTTP2Error as error:
            self.fail(error)
        finally:
            self.output.release()

    def eof_received(self) -> None:
        """The peer has finished sending, which for HTTP clients means that it is gone.

        Returns None, at which the loop closes the transport.
        """

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.output.pause()

    def resume_writing(self) -> None:
        """The transport takes more."""
        self.output.resume()
        if not self.output.is_paused:
            self._streams.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, for whatever reason."""
        self.is_lingering = True
        self.output.stop()
        self._streams.fail(exc)
        self._owner.connection_lost(self)

    # The server calls these.

    def tick(self, now: float) -> None:
        """Check every timeout at the monotonic time ``now``, in seconds."""
        self.output.hold()
        try:
            self._timeouts.tick(now)
            self._streams.tick(now)
        finally:
            self.output.release()

    def retire(self) -> None:
        """End after a request that is on its way, in the manner that suits the peer.

        Many clients, those on h2 among them, fail whatever is under way when GOAWAY
        comes. To a peer that asks for one thing after the other it is said when no
        stream is open and all responses have been read; what crosses may safely be
        asked again, as GOAWAY names the last stream that was taken. A peer with several
        streams at once has no such moment: its end is announced in two steps with the
        next streams. Where none come, ``drain`` must follow.
        """
        self._is_retiring = True
        if self._streams and self._streams.is_multiplexed:
            self._announce_end()

    def defer_drains(self) -> list[Callable[[], None]]:
        """Return what drains each upgraded stream; ``drain`` leaves these alone."""
        return self._streams.defer_drains()

    def drain(self) -> None:
        """End soon: at once where idle, else in two steps (RFC 9113 section 6.8).

        The first GOAWAY says that the end comes; streams that are on their way are
        still taken. The second, when the peer has seen the first, names the last one.
        """
        self._is_retiring = True
        if self._streams:
            self._announce_end()
        elif not self._streams.is_draining and not self.is_lingering:
            self._end_idle()

    def abort_transport(self) -> None:
        """Drop the connection, with what is buffered."""
        self.output.stop()
        self._owner.reset_transport(self._transport)

    @property
    def idle_since(self) -> tuple[bool, float] | None:
        """Whether a request was ever made, and since when there is no stream."""
        since = self._timeouts.idle_since
        if since is None or self._streams or self.is_lingering:
            return None
        return (self.request_count > 0, since)

    @property
    def held_size(self) -> int:
        """Bytes that wait for the peer, or from it for who takes them."""
        return self.output.waiting_size + self._streams.held_size

    def give_way(self) -> bool:
        """End if there is no stream and the peer has sent nothing more."""
        if self.idle_since is None or self.has_input:
            return False
        self.close()
        return True

    # For the timeouts.

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
        codec = self._streams.codec
        return codec.is_in_block or codec.is_in_frame

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

    def refill(self, seconds: float) -> None:
        """Give back what the peer may do for nothing."""
        self._streams.codec.resets.refill(seconds)
        self._streams.codec.controls.refill(seconds)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self._streams.codec.ping(_ALIVE_PING)

    def finish_drain(self) -> None:
        """Name the last stream that is taken; end when all have ended."""
        if self.awaits_drain:
            self.awaits_drain = False
            self._streams.codec.go_away(ErrorCodes.NO_ERROR)
            self.output.wake()
            if not self._streams:
                self._streams.call_soon(self._linger)

    def fail(self, error: HTTP2Error) -> None:
        """End the connection for the peer's fault (RFC 9113 section 5.4.1)."""
        self._owner.request_refused(None, self._info, error)
        self._streams.fail(None)
        self._streams.codec.go_away(error.code, error.reason)
        self._linger()

    def close(self) -> None:
        """End an idle connection: GOAWAY names the last stream that was taken."""
        self._streams.codec.go_away(ErrorCodes.NO_ERROR)
        self._linger()

    def close_transport(self) -> None:
        """Close after what is buffered."""
        self._end_writing()
        self.output.stop()
        self._transport.close()

    # Private.

    def _ping_answered(self, data: bytes) -> None:
        if data == _DRAIN_PING:
            self.finish_drain()
        elif data == _QUIET_PING and self._asked_at is not None:
            # After what the client has sent right behind its answer.
            self._streams.call_soon(self._check_quiet)

    def _check_quiet(self) -> None:
        asked_at, self._asked_at = self._asked_at, None
        if self._streams or self._streams.is_draining or self.is_lingering:
            return
        if asked_at == self.request_count:
            self._end_idle()
        else:
            self._ask_for_quiet()

    def _ask_for_quiet(self) -> None:
        """Have the client tell that it has read all responses."""
        if self._asked_at is None:
            self._asked_at = self.request_count
            self._streams.codec.ping(_QUIET_PING)
        self.output.wake()

    def _stream_ended(self) -> None:
        """Go on to the end with the last stream, where the connection is to end."""
        if not self._is_retiring or self._streams or self.is_lingering:
            return
        if not self._streams.is_draining:
            self._ask_for_quiet()
        elif not self.awaits_drain:
            self.output.wake()
            self._streams.call_soon(self._linger)

    def _announce_end(self) -> None:
        """Take the first of the two steps."""
        if self._streams.is_draining or self.is_lingering:
            return
        self.awaits_drain = True
        # The PING stands first: h2's clients take no frame after GOAWAY, and would drop
        # with it what else came in the same read.
        self._streams.codec.ping(_DRAIN_PING)
        self._streams.codec.go_away(ErrorCodes.NO_ERROR, last=WINDOW_LIMIT)
        self._streams.drain()
        self.output.wake()

    def _end_idle(self) -> None:
        """Name the last stream and take no other."""
        self._streams.drain()
        self._streams.codec.go_away(ErrorCodes.NO_ERROR)
        self.output.wake()
        self._streams.call_soon(self._linger)

    def _linger(self) -> None:
        """Send what is left and drop what still comes, so that GOAWAY arrives."""
        if not self.is_lingering:
            self.is_lingering = True
            self.output.wake()
            self._streams.call_soon(self._end_writing)

    def _end_writing(self) -> None:
        """Say that nothing more comes; over TLS, GOAWAY alone has to say it.

        To close there would answer what is on its way to us with a reset, and the peer
        might never read GOAWAY.
        """
        if not self.output.is_stopped:
            self.output.flush()
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > _DISCARD_LIMIT:
            self.output.stop()
            self._transport.abort()
