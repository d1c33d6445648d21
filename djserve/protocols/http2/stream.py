"""One request's stream: its content upward, its response downward."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes

from djserve.errors import ApplicationError, ProtocolError
from djserve.protocols.http2.response import (
    build_block,
    build_fields,
    build_trailers,
)
from djserve.protocols.http2.timeouts import StreamTimeouts
from djserve.protocols.http2.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h2.stream import H2Stream

    from djserve.interfaces import (
        Exchange,
        Headers,
        RequestHead,
        Transport,
        WireProtocol,
    )
    from djserve.protocols.http2.connection import HTTP2Connection
    from djserve.protocols.http2.request import Request

# Content that may wait for the windows before the application has to wait as well.
STREAM_BUFFER_SIZE = 16 * 1024

_EXTENSIONS: dict[str, dict[str, Any]] = {
    "http.response.early_hint": {},
    "http.response.trailers": {},
    "http.response.pathsend": {},
    "http.response.zerocopysend": {},
}
_EXTENSIONS_WITH_PUSH = {**_EXTENSIONS, "http.response.push": {}}


class HTTP2Stream:
    """Carry one exchange on one stream (interfaces.Stream).

    ``state`` is h2's part of it. ``size`` is the content that waits to be sent.
    """

    __slots__ = (
        "_awaits_upgrade",
        "_chunks",
        "_connection",
        "_has_no_content",
        "_held",
        "_is_end_delivered",
        "_is_ending",
        "_is_reading_paused",
        "_is_request_complete",
        "_is_response_started",
        "_offset",
        "_remaining",
        "_takes_trailers",
        "_trailers",
        "_tunnel",
        "_unread",
        "awaits_continue",
        "exchange",
        "head",
        "is_queued",
        "priority",
        "received_size",
        "sent_size",
        "size",
        "state",
        "stream_id",
        "timeouts",
        "turn",
    )

    def __init__(
        self,
        connection: HTTP2Connection,
        state: H2Stream,
        request: Request,
        is_complete: bool,
    ) -> None:
        self._connection = connection
        self.state = state
        self.stream_id: int = state.stream_id
        self.head: RequestHead = request.build_head(is_complete)
        self.priority = request.priority
        self.exchange: Exchange | None = None
        self.timeouts = StreamTimeouts()
        self.is_queued = False
        self.turn = 0
        self.size = 0
        self.sent_size = 0
        self.received_size = 0
        self.awaits_continue = self.head.expects_continue
        self._tunnel: Tunnel | None = None
        self._chunks: deque[bytes] = deque()
        self._offset = 0
        self._has_no_content = False
        self._remaining = -1
        self._takes_trailers = request.takes_trailers
        self._trailers: bytes | None = None
        self._is_response_started = False
        self._is_ending = False
        self._is_request_complete = is_complete
        self._is_reading_paused = False
        # What a client sends ahead of an upgrade waits for it.
        self._awaits_upgrade = request.upgrade is not None
        self._is_end_delivered = False
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
    def is_refusable(self) -> bool:
        """Whether the request is still some exchange's, and no upgraded stream."""
        return self.exchange is not None and self._tunnel is None

    @property
    def is_upgraded(self) -> bool:
        return self._tunnel is not None

    def content_received(self, data: bytes, credit: int, is_complete: bool) -> None:
        """Take a part of the request's content, or with ``is_complete`` the last."""
        self._is_request_complete |= is_complete
        self.awaits_continue = False
        self.received_size += len(data)
        if self.exchange is None and self._tunnel is None:
            self._connection.codec.acknowledge(credit, self.state)
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

    def drain(self) -> None:
        """Ask whoever uses the stream for its end."""
        if self._tunnel is not None:
            self._tunnel.drain()
        elif self.exchange is not None:
            self.exchange.drain()

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended, with or without its connection."""
        self._chunks.clear()
        self._held.clear()
        self.size = 0
        exchange, self.exchange = self.exchange, None
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.connection_lost(exc)
        elif exchange is not None:
            exchange.connection_lost(exc)
            self._connection.exchange_ended(exchange)

    def take_unread(self) -> int:
        """Return the credit that was not given back, and forget it."""
        unread, self._unread = self._unread, 0
        return unread

    def refuse(self, error: ProtocolError) -> None:
        """Answer for the server; a response under way is broken off instead."""
        if self._is_response_started:
            self._connection.break_off(self, ErrorCodes.CANCEL)
            return
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.connection_lost(None)
            self._connection.exchange_ended(exchange)
        self._connection.request_refused(self.head, error)
        body = error.reason.encode("ascii", "backslashreplace") + b"\n"
        fields = [
            (name, value)
            for name, value in error.headers
            if name not in (b"connection", b"upgrade")
        ]
        fields.append((b"content-type", b"text/plain; charset=utf-8"))
        self.send_response(error.status, fields, body, more=False)

    # The output's side.

    def take_content(self, limit: int) -> bytes:
        """Return the next content to be sent, at most ``limit`` bytes."""
        chunks = self._chunks
        first = chunks[0]
        room = len(first) - self._offset
        if room > limit:
            data = first[self._offset : self._offset + limit]
            self._offset += limit
        elif room == limit or len(chunks) == 1:
            chunks.popleft()
            data = first[self._offset :] if self._offset else first
            self._offset = 0
        else:
            data = self._take_several(limit)
        self.size -= len(data)
        return data

    def _take_several(self, limit: int) -> bytes:
        """Join chunks up to ``limit``; small ones share a frame."""
        parts = []
        while limit and self._chunks:
            chunk = self._chunks[0]
            part = chunk[self._offset : self._offset + limit]
            parts.append(part)
            limit -= len(part)
            self._offset += len(part)
            if self._offset == len(chunk):
                self._chunks.popleft()
                self._offset = 0
        return b"".join(parts)

    def send_frame(self, data: bytes, is_whole: bool) -> None:
        """Send content that was taken; ``is_whole``: nothing waits any more."""
        is_last = is_whole and self._is_ending and self._trailers is None
        self.sent_size += len(data)
        self._connection.codec.send_content(self.state, data, is_last)
        if is_whole and self._is_ending:
            self._end_sent()
        elif self.size <= STREAM_BUFFER_SIZE:
            self.resume_writing()

    def resume_writing(self) -> None:
        """Tell that the stream takes more."""
        if self._tunnel is not None:
            self._tunnel.resume_writing()
        elif self.exchange is not None:
            self.exchange.resume_writing()

    # The exchange's side (interfaces.Stream).

    @property
    def is_writable(self) -> bool:
        return self.size <= STREAM_BUFFER_SIZE and not self._connection.output.is_paused

    @property
    def extensions(self) -> Mapping[str, dict[str, Any]]:
        if self._connection.can_push(self.stream_id):
            return _EXTENSIONS_WITH_PUSH
        return _EXTENSIONS

    def send_informational(self, status: int, headers: Headers) -> None:
        """Send an interim response (RFC 9110 section 15.2)."""
        connection = self._connection
        block = connection.codec.encoder.encode_response(
            build_block(status, headers), b""
        )
        connection.codec.send_block(self.state, block, is_last=False, interim=True)
        connection.output.wake()

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        """Send the head, and the first part of the content where it may go."""
        connection = self._connection
        self._has_no_content = (
            status == 204 or status == 304 or self.head.method == "HEAD"
        )
        whole_length = None if more or self._has_no_content else len(data)
        fields = build_fields(status, headers, whole_length, connection.fields.server)
        if self._has_no_content:
            data = b""
        elif fields.content_length >= 0:
            self._remaining = fields.content_length
            self._count(len(data), more)
        codec = connection.codec
        block = codec.encoder.encode_response(fields, connection.fields.date)
        self._is_response_started = True
        codec.send_block(self.state, block, is_last=not (more or data))
        if data:
            if not more and connection.output.can_send_now(self, len(data)):
                codec.send_content(self.state, data, is_last=True)
            else:
                self._queue(data, more)
                return
        connection.output.wake()
        if not more:
            self._complete()
            self._end_sent()

    def send_data(self, data: bytes, more: bool) -> None:
        """Send the next part of the content."""
        if self._has_no_content:
            data = b""
        elif self._remaining >= 0:
            self._count(len(data), more)
        self._queue(data, more)

    def send_trailers(self, headers: Headers) -> None:
        """End the response; the fields go to a peer that takes them.

        RFC 9110 section 6.5.1: without ``TE: trailers`` they are better left out.
        """
        fields = build_trailers(headers)
        if self._remaining > 0:
            self._count(0, more=False)
        if fields.literal and self._takes_trailers and not self._has_no_content:
            self._trailers = fields.literal
        self._queue(b"", more=False)

    def push(self, path: str, headers: Headers) -> None:
        """Promise a response to a request that the peer did not make."""
        self._connection.push(self, path, headers)

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> Transport:
        """Accept an extended CONNECT (RFC 8441 section 5)."""
        connection = self._connection
        fields = build_block(200, headers)
        fields.wants_date = True
        if connection.fields.server:
            fields.indexed.append((b"server", connection.fields.server))
        block = connection.codec.encoder.encode_response(fields, connection.fields.date)
        self._is_response_started = True
        connection.codec.send_block(self.state, block, is_last=False)
        connection.output.wake()
        self._tunnel = Tunnel(self, receiver)
        connection.call_soon(self._begin_tunnel)
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
            self._connection.exchange_ended(exchange)
        self._connection.break_off(self, ErrorCodes.INTERNAL_ERROR)

    # The tunnel's side.

    def write(self, data: bytes) -> None:
        """Send bytes of an upgraded stream."""
        self._queue(data, more=True)

    def write_eof(self) -> None:
        """End our side once all is sent."""
        self._queue(b"", more=False)

    def reset(self) -> None:
        """End both sides at once (RFC 8441 section 5: like a TCP reset)."""
        self._connection.break_off(self, ErrorCodes.CANCEL)

    # Private.

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
        self._connection.codec.acknowledge(self.take_unread(), self.state)
        self._connection.output.wake()

    def _count(self, size: int, more: bool) -> None:
        """Account for content of a promised length."""
        left = self._remaining - size
        if left < 0:
            raise ApplicationError(
                f"{size} bytes of content where the Content-Length has room for "
                f"{self._remaining}"
            )
        if left and not more:
            raise ApplicationError(
                f"The response ends {left} bytes short of its Content-Length"
            )
        self._remaining = left

    def _queue(self, data: bytes, more: bool) -> None:
        """Let content wait for its turn, and the end of it."""
        if data:
            self._chunks.append(data)
            self.size += len(data)
        self._is_ending |= not more
        if not more:
            self._complete()
        output = self._connection.output
        if self.size:
            output.add(self)
            if self.size > STREAM_BUFFER_SIZE:
                output.flush()
        elif not more:
            # An end without content needs no window and no turn.
            if self._trailers is None:
                self._connection.codec.send_content(self.state, b"", is_last=True)
            output.wake()
            self._end_sent()

    def _complete(self) -> None:
        """The exchange has said all; it is told nothing more."""
        self._is_ending = True
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._connection.exchange_ended(exchange)

    def _end_sent(self) -> None:
        codec = self._connection.codec
        if self._trailers is not None:
            codec.send_block(self.state, self._trailers, is_last=True)
        self._connection.response_sent(self)
