"""One request's stream: its content upward, its upgrade and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes

from djserve.protocols.http2.responder import Responder
from djserve.protocols.http2.response import build_block
from djserve.protocols.http2.timeouts import LINGER_TIMEOUT, StreamTimeouts
from djserve.protocols.http2.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h2.stream import H2Stream

    from djserve.conf.schema import HTTPConfig
    from djserve.errors import ProtocolError
    from djserve.interfaces import Headers, RequestHead, Transport, WireProtocol
    from djserve.protocols.http2.request import Request
    from djserve.protocols.http2.streams import StreamTable

_EXTENSIONS_WHEN_PUSHED: dict[str, dict[str, Any]] = {
    "http.response.trailers": {},
    "http.response.pathsend": {},
    "http.response.zerocopysend": {},
}
_EXTENSIONS = {**_EXTENSIONS_WHEN_PUSHED, "http.response.early_hint": {}}
_EXTENSIONS_WITH_PUSH = {**_EXTENSIONS, "http.response.push": {}}


class HTTP2Stream(Responder):
    """Carry one exchange on one stream (interfaces.Stream).

    Content that the application has not read is kept back from the peer's window, so
    the windows bound what can wait here.
    """

    __slots__ = (
        "_awaits_upgrade",
        "_ended_at",
        "_held",
        "_is_end_delivered",
        "_is_reading_paused",
        "_is_request_complete",
        "_timeouts",
        "_tunnel",
        "_unread",
        "awaits_continue",
        "head",
        "is_drain_deferred",
        "received_size",
    )

    def __init__(
        self,
        table: StreamTable,
        state: H2Stream,
        request: Request,
        is_complete: bool,
    ) -> None:
        super().__init__(table, state, request)
        self.head: RequestHead = request.build_head(is_complete)
        self.received_size = 0
        self.awaits_continue = self.head.expects_continue
        self.is_drain_deferred = False
        self._timeouts: StreamTimeouts | None = None
        self._tunnel: Tunnel | None = None
        self._is_request_complete = is_complete
        self._is_reading_paused = False
        # What a client sends ahead of an upgrade waits for it.
        self._awaits_upgrade = request.upgrade is not None
        self._is_end_delivered = False
        self._ended_at: float | None = None
        self._held: list[bytes] = []
        self._unread = 0

    # The connection's side.

    @property
    def is_receiving(self) -> bool:
        """Whether the peer is expected to send content now."""
        return not (
            self._is_request_complete
            or self._is_reading_paused
            or self._unread
            or self.awaits_continue
            or self._is_ending
        )

    @property
    def held_size(self) -> int:
        """Bytes that wait for the peer, or from it for who takes them."""
        size = self.queue.size + sum(map(len, self._held))
        receiver = self.exchange if self._tunnel is None else self._tunnel.receiver
        return size + getattr(receiver, "held_size", 0)

    @property
    def is_refusable(self) -> bool:
        """Whether the request is still some exchange's, and no upgraded stream."""
        return self.exchange is not None and not self.is_upgraded

    @property
    def is_upgraded(self) -> bool:
        return self._tunnel is not None

    def content_received(self, data: bytes, credit: int, is_complete: bool) -> None:
        """Take a part of the request's content, or with ``is_complete`` the last."""
        self._is_request_complete |= is_complete
        self.awaits_continue = False
        self.received_size += len(data)
        if self.exchange is None and self._tunnel is None:
            # Dropped, up to the stream's window, which is not opened any more.
            self.table.codec.acknowledge(credit)
            return
        self._unread += credit
        if self._is_reading_paused or self._awaits_upgrade:
            if data:
                self._held.append(data)
        else:
            self._deliver(data)

    def tick(self, now: float) -> None:
        """Check the timeouts of whoever uses the stream."""
        if self._tunnel is not None:
            self._tunnel.tick(now)
        elif self.exchange is not None:
            self.exchange.tick(now)
        elif not self.queue.size:
            self._check_linger(now)

    def find_overdue(self, now: float, http: HTTPConfig) -> ProtocolError | None:
        """Return what the peer is too late with, if anything."""
        if self._tunnel is not None:
            return None
        if self._timeouts is None:
            self._timeouts = StreamTimeouts()
        return self._timeouts.check(self, now, http)

    def drain(self) -> None:
        """Ask whoever uses the stream for its end."""
        if self._tunnel is not None:
            self._tunnel.drain()
        elif self.exchange is not None:
            self.exchange.drain()

    def end(self) -> None:
        """The stream has ended and its table has let it go: tell whoever uses it.

        An upgraded stream takes no bytes from here on, but is told later
        (interfaces.Transport: never within ``close``).
        """
        if self._tunnel is None:
            self.connection_lost(None)
        else:
            self._tunnel.is_closing = True
            self.table.call_soon(lambda: self.connection_lost(None))

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended, with or without its table."""
        self.queue.clear()
        self._held.clear()
        exchange, self.exchange = self.exchange, None
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.connection_lost(exc)
        elif exchange is not None:
            exchange.connection_lost(exc)
            self.table.exchange_ended(exchange)

    def take_unread(self) -> int:
        """Return the credit that was not given back, and forget it."""
        unread, self._unread = self._unread, 0
        return unread

    def refuse(self, error: ProtocolError) -> None:
        """Answer for the server; a response under way is broken off instead."""
        if self._is_response_started:
            self.table.break_off(self, ErrorCodes.CANCEL)
            return
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.connection_lost(error)
            self.table.exchange_ended(exchange)
        self.table.request_refused(self, error)
        body = error.reason.encode("ascii", "backslashreplace") + b"\n"
        fields = [
            (name, value)
            for name, value in error.headers
            if name not in (b"connection", b"upgrade")
        ]
        fields.append((b"content-type", b"text/plain; charset=utf-8"))
        self.send_response(error.status, fields, body, more=False)

    def resume_writing(self) -> None:
        """Tell that the stream takes more."""
        if self._tunnel is not None:
            self._tunnel.resume_writing()
        elif self.exchange is not None:
            self.exchange.resume_writing()

    def response_sent(self) -> None:
        """Note that our side of the stream has ended."""
        self.table.response_sent(self)

    # The exchange's side (interfaces.Stream).

    @property
    def extensions(self) -> Mapping[str, dict[str, Any]]:
        if self.is_pushed:
            return _EXTENSIONS_WHEN_PUSHED
        if self.table.can_push(self.stream_id):
            return _EXTENSIONS_WITH_PUSH
        return _EXTENSIONS

    def push(self, path: str, headers: Headers) -> None:
        """Promise a response to a request that the peer did not make."""
        self.table.push(self, path, headers)

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> Transport:
        """Accept an extended CONNECT (RFC 8441 section 5)."""
        table = self.table
        fields = build_block(200, headers)
        fields.wants_date = True
        if table.fields.server:
            fields.indexed.append((b"server", table.fields.server))
        block = table.codec.encoder.encode_response(fields, table.fields.date)
        self._is_response_started = True
        table.codec.send_block(self.state, block, is_last=False)
        table.output.wake()
        self._tunnel = Tunnel(self, receiver)
        table.call_soon(self._begin_tunnel)
        return self._tunnel

    def request_content(self) -> None:
        """The application reads on: what it has read is the peer's to send again."""
        if self.awaits_continue:
            self.awaits_continue = False
            if not self._is_response_started:
                self.send_informational(100, [])
        if self._unread and not self._held:
            self._acknowledge()

    def pause_reading(self) -> None:
        """Deliver no more content; the window bounds what may still come."""
        self._is_reading_paused = True

    def resume_reading(self) -> None:
        """Deliver content again, beginning with what has come in the meantime."""
        self._is_reading_paused = False
        if self._awaits_upgrade:
            return
        held, self._held = self._held, []
        if held or self._is_request_complete:
            self._deliver(b"".join(held))

    def abort(self) -> None:
        """Break the response off: the peer sees a reset."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self.table.exchange_ended(exchange)
        self.table.break_off(self, ErrorCodes.INTERNAL_ERROR)

    # The tunnel's side.

    def write(self, data: bytes) -> None:
        """Send bytes of an upgraded stream."""
        self._queue(data, more=True)

    def write_eof(self) -> None:
        """End our side once all is sent."""
        self._queue(b"", more=False)

    def reset(self) -> None:
        """End both sides at once (RFC 8441 section 5: like a TCP reset)."""
        self.table.break_off(self, ErrorCodes.CANCEL)

    # Private.

    def _check_linger(self, now: float) -> None:
        """Ask a client that sends on after its response to stop (RFC 9113 8.1).

        Not at once: many clients have little left to send, and some take a reset for a
        failure even after a whole response.
        """
        if self._ended_at is None:
            self._ended_at = now
        elif now - self._ended_at >= LINGER_TIMEOUT:
            self.table.break_off(self, ErrorCodes.NO_ERROR)

    def _begin_tunnel(self) -> None:
        """Deliver what came before the upgrade (interfaces.Stream: later)."""
        self._awaits_upgrade = False
        if self._tunnel is not None and not self._is_reading_paused:
            self.resume_reading()

    def _deliver(self, data: bytes) -> None:
        receiver: WireProtocol | None = self.exchange
        if self._tunnel is not None:
            receiver = self._tunnel.receiver
            self._acknowledge()
            if self._tunnel.is_closing:
                return
        if data and receiver is not None:
            receiver.data_received(data)
        # Delivering may have paused reading, upgraded the stream or ended it.
        self._deliver_end()

    def _deliver_end(self) -> None:
        if (
            not self._is_request_complete
            or self._is_reading_paused
            or self._is_end_delivered
        ):
            return
        self._is_end_delivered = True
        if self._tunnel is not None:
            self._tunnel.receiver.eof_received()
        elif self.exchange is not None:
            self.exchange.eof_received()

    def _acknowledge(self) -> None:
        self.table.codec.acknowledge(self.take_unread(), self.state)
        self.table.output.wake()
