"""One request's stream: its content upward, its response downward, and its end.

Content goes out through the queue and the scheduler (``output``), but for short
responses that nothing stands in the way of.
"""

# How a stream ends
#
# The two sides of a stream end apart (RFC 9113 section 5.1), and an exchange is told of
# its end once, whichever side is the last:
#
# - The request ends first, as a rule. With the last part of the response the exchange
#   has said all (``_complete``), and the stream is forgotten when that part has been
#   sent.
# - The response ends first: an upload was refused, or its answer did not depend on it.
#   What still comes is dropped, within the stream's window, which is not opened again.
#   A client that sends on for LINGER_TIMEOUT is asked to stop by a reset without an
#   error. Not at once, since many clients take any reset for a failure.
# - Either side resets it, or the connection ends. The table forgets it first and then
#   calls ``end``, so that nothing that its user does from there can reach it again.
#
# An upgraded stream is told in a later turn of the loop: its user may be in the middle
# of ``close``, and a transport never calls back from within that. Until then the tunnel
# is closing, and neither takes nor delivers anything.
#
# Few responses wait for a window, and few requests have content: a queue and a
# ``RequestContent`` are made for those that need them, and most streams have neither.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from h2.errors import ErrorCodes

from djserve.protocols.extensions import offer
from djserve.protocols.headers import STATUSES_WITHOUT_CONTENT
from djserve.protocols.http2.output import ContentQueue
from djserve.protocols.http2.response import (
    build_block,
    build_fields,
    build_trailers,
)
from djserve.protocols.http2.state import StreamState
from djserve.protocols.limits import LINGER_TIMEOUT
from djserve.protocols.multiplexed.content import RequestContent
from djserve.protocols.multiplexed.streams import build_refusal, count_content
from djserve.protocols.multiplexed.timeouts import StreamTimeouts
from djserve.protocols.multiplexed.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djserve.conf.schema import HTTPConfig
    from djserve.errors import ProtocolError
    from djserve.interfaces import (
        Exchange,
        Headers,
        RequestHead,
        Transport,
        WireProtocol,
    )
    from djserve.protocols.http2.codec import FrameWriter
    from djserve.protocols.http2.output import Output
    from djserve.protocols.http2.request import Priority, Request
    from djserve.protocols.http2.response import Fields, ServerFields

# Content that may wait for the windows before the application has to wait as well.
STREAM_BUFFER_SIZE = 16 * 1024

_EXTENSIONS_WHEN_PUSHED = offer("trailers", "pathsend", "zerocopysend")
EXTENSIONS = {**_EXTENSIONS_WHEN_PUSHED, **offer("early_hint")}
"""The extensions of ASGI that work for what the peer has asked for."""
EXTENSIONS_WITH_PUSH = {**EXTENSIONS, **offer("push")}
"""The same, if the peer takes responses that it has not asked for."""

# Most responses wait for nothing: streams share what is never added to.
_EMPTY_QUEUE = ContentQueue()


class StreamOwner(Protocol):
    """What a stream asks of what it belongs to."""

    writer: FrameWriter
    output: Output
    fields: ServerFields
    call_soon: Callable[[Callable[[], None]], object]
    extensions: Mapping[str, dict[str, Any]]
    """Those of ASGI that work for a request of the peer's, now."""

    def push(self, parent: HTTP2Stream, path: str, headers: Headers, /) -> None:
        """Promise a response and serve it, if the peer still takes any."""

    def request_refused(self, stream: HTTP2Stream, error: ProtocolError, /) -> None:
        """Record a request that is answered without an application."""

    def exchange_ended(self, exchange: Exchange, /) -> None:
        """Record that an exchange has no stream any more; its call may run on."""

    def response_sent(self, stream: HTTP2Stream, /) -> None:
        """Record that our side of a stream has ended."""

    def break_off(self, stream: HTTP2Stream, code: ErrorCodes, /) -> None:
        """Reset a stream for a reason of ours."""


class HTTP2Stream(StreamState):
    """Carry one exchange on one stream (interfaces.Stream).

    Content that the application has not read is kept back from the peer's window, so
    the windows bound what can wait here.
    """

    __slots__ = (
        "_content",
        "_ended_at",
        "_has_no_content",
        "_is_ending",
        "_output",
        "_owner",
        "_remaining",
        "_takes_trailers",
        "_timeouts",
        "_trailers",
        "_writer",
        "awaits_continue",
        "exchange",
        "head",
        "is_drain_deferred",
        "level",
        "priority",
        "queue",
        "sent_size",
        "tunnel",
    )

    def __init__(
        self,
        owner: StreamOwner,
        stream_id: int,
        request: Request,
        is_complete: bool,
    ) -> None:
        self._owner = owner
        writer = self._writer = owner.writer
        # Without ``super``, which makes an object (benchmark: http2_hello).
        StreamState.__init__(
            self, stream_id, writer.h2.peer_window, request.content_length, is_complete
        )
        self._output = owner.output
        # What the output knows of it (output.Sender).
        self.priority: Priority = request.priority
        self.queue = _EMPTY_QUEUE
        self.level: int | None = None
        self.sent_size = 0
        # The request.
        head: RequestHead = request.build_head(is_complete)
        self.head = head
        self.exchange: Exchange | None = None
        self.awaits_continue = head.expects_continue
        self.is_drain_deferred = False
        # What a client sends ahead of an upgrade waits for it.
        self._content: RequestContent | None = None
        if not is_complete or request.upgrade is not None:
            self._content = RequestContent(self, request.upgrade is not None)
        # The response.
        self._has_no_content = False
        self._remaining = -1
        self._takes_trailers = request.takes_trailers
        self._trailers: Fields | None = None
        self._is_ending = False
        # The upgrade, and the end.
        self.tunnel: Tunnel | None = None
        self._timeouts: StreamTimeouts | None = None
        self._ended_at: float | None = None

    # The connection's side.

    @property
    def is_receiving(self) -> bool:
        """Whether the peer is expected to send content now."""
        content = self._content
        return (
            self.may_receive
            and content is not None
            and not (content.is_unread or self.awaits_continue or self._is_ending)
        )

    @property
    def held_size(self) -> int:
        """Bytes that wait for the peer, or from it for what takes them."""
        size = self.queue.size
        if self._content is not None:
            size += self._content.held_size
        receiver = self.exchange if self.tunnel is None else self.tunnel.receiver
        return size + getattr(receiver, "held_size", 0)

    @property
    def is_refusable(self) -> bool:
        """Whether the request is still some exchange's, and no upgraded stream."""
        return self.exchange is not None and not self.is_upgraded

    @property
    def is_upgraded(self) -> bool:
        return self.tunnel is not None

    @property
    def waiting_size(self) -> int:
        """Bytes of content that wait for the windows."""
        return self.queue.size

    @property
    def is_pushed(self) -> bool:
        """Whether the request is our own promise (RFC 9113 section 8.4)."""
        return self.stream_id % 2 == 0

    def content_received(self, data: bytes, credit: int) -> None:
        """Take a part of the request's content; the last if none may follow."""
        self.awaits_continue = False
        content = self._content
        if content is None or (self.exchange is None and self.tunnel is None):
            # Dropped, up to the stream's window, which is not opened any more.
            self._writer.acknowledge(credit)
        else:
            content.receive(data, credit)

    def start(self, exchange: Exchange) -> None:
        """Hand the request to its exchange, with its end if that has come."""
        self.exchange = exchange
        if self._content is None:
            exchange.eof_received()
        else:
            self._content.deliver_end()

    def tick(self, now: float) -> None:
        """Check the timeouts of what uses the stream."""
        if self.tunnel is not None:
            self.tunnel.tick(now)
        elif self.exchange is not None:
            self.exchange.tick(now)
        elif not self.queue.size:
            self._check_linger(now)

    def find_overdue(self, now: float, http: HTTPConfig) -> ProtocolError | None:
        """Return what the peer is too late with, if anything."""
        if self.tunnel is not None:
            return None
        if self._timeouts is None:
            self._timeouts = StreamTimeouts()
        return self._timeouts.check(self, now, http)

    def drain(self) -> None:
        """Ask what uses the stream for its end."""
        if self.tunnel is not None:
            self.tunnel.drain()
        elif self.exchange is not None:
            self.exchange.drain()

    def end(self) -> None:
        """The stream has ended and its owner has forgotten it: tell its user.

        An upgraded stream takes no bytes from here on, but is told later
        (interfaces.Transport: never within ``close``).
        """
        content = self._content
        if content is not None:
            unread = content.take_unread()
            if unread:
                self._writer.acknowledge(unread)
            self._stop_content(content)
        if self.tunnel is not None:
            self.tunnel.is_closing = True
            self._owner.call_soon(lambda: self.connection_lost(None))
        elif self.exchange is not None or self.queue.size:
            self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended, by itself or with its connection."""
        self.close()
        self.queue.clear()
        if self._content is not None:
            self._stop_content(self._content)
        exchange, self.exchange = self.exchange, None
        tunnel, self.tunnel = self.tunnel, None
        if tunnel is not None:
            tunnel.connection_lost(exc)
        elif exchange is not None:
            exchange.connection_lost(exc)
            self._owner.exchange_ended(exchange)

    def refuse(self, error: ProtocolError) -> None:
        """Answer for the server; a response under way is aborted instead."""
        if self.is_head_sent:
            self._owner.break_off(self, ErrorCodes.CANCEL)
            return
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.connection_lost(error)
            self._owner.exchange_ended(exchange)
        self._owner.request_refused(self, error)
        fields, body = build_refusal(error)
        self.send_response(error.status, fields, body, more=False)

    def resume_writing(self) -> None:
        """Tell that the stream takes more."""
        if self.tunnel is not None:
            self.tunnel.resume_writing()
        elif self.exchange is not None:
            self.exchange.resume_writing()

    def send_content(self, data: bytes | memoryview, is_whole: bool) -> None:
        """Send content that was taken; ``is_whole``: nothing waits any more."""
        is_last = is_whole and self._is_ending and self._trailers is None
        self._writer.send_content(self, data, is_last)
        if is_whole and self._is_ending:
            self._end_sent()
        elif self.queue.size <= STREAM_BUFFER_SIZE:
            self.resume_writing()

    # The exchange's side (interfaces.Stream).

    @property
    def is_writable(self) -> bool:
        return self.queue.size <= STREAM_BUFFER_SIZE and not self._output.is_paused

    @property
    def extensions(self) -> Mapping[str, dict[str, Any]]:
        if self.stream_id % 2:
            return self._owner.extensions
        return _EXTENSIONS_WHEN_PUSHED

    def send_informational(self, status: int, headers: Headers) -> None:
        """Send an interim response (RFC 9110 section 15.2).

        None goes out on a pushed stream: clients, h2's among them, expect the response.
        """
        if self.is_pushed:
            return
        block = self._writer.encoder.encode_response(build_block(status, headers), b"")
        self._writer.send_block(self, block, is_last=False, interim=True)
        self._output.wake()

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        """Send the head, and the first part of the content if it may go."""
        has_no_content = (
            status in STATUSES_WITHOUT_CONTENT or self.head.method == "HEAD"
        )
        whole_length = None if more or has_no_content else len(data)
        server_fields = self._owner.fields
        fields = build_fields(status, headers, whole_length, server_fields.server)
        if has_no_content:
            self._has_no_content = True
            data = b""
        elif fields.content_length not in (-1, whole_length):
            self._remaining = count_content(fields.content_length, len(data), more)
        writer = self._writer
        block = writer.encoder.encode_response(fields, server_fields.date)
        if data and not more and self._output.can_send_now(self, len(data)):
            writer.send_response(self, block, data)
        else:
            writer.send_block(self, block, is_last=not (more or data))
            if data:
                self._queue(data, more)
                return
        if more:
            self._output.wake()
        else:
            self._complete()
            self._owner.response_sent(self)

    def send_data(self, data: bytes, more: bool) -> None:
        """Send the next part of the content."""
        if self._has_no_content:
            data = b""
        elif self._remaining >= 0:
            self._remaining = count_content(self._remaining, len(data), more)
        self._queue(data, more)

    def send_trailers(self, headers: Headers) -> None:
        """End the response; the fields go to a peer that takes them.

        RFC 9110 section 6.5.1: without ``TE: trailers`` they are better left out.
        """
        fields = build_trailers(headers)
        if self._remaining > 0:
            count_content(self._remaining, 0, more=False)
        if fields.literal and self._takes_trailers and not self._has_no_content:
            self._trailers = fields
        self._queue(b"", more=False)

    def push(self, path: str, headers: Headers) -> None:
        """Promise a response to a request that the peer did not make."""
        self._owner.push(self, path, headers)

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> Transport:
        """Accept an extended CONNECT (RFC 8441 section 5)."""
        fields = build_block(200, headers)
        fields.wants_date = True
        if self._owner.fields.server:
            fields.indexed.append((b"server", self._owner.fields.server))
        block = self._writer.encoder.encode_response(fields, self._owner.fields.date)
        self._writer.send_block(self, block, is_last=False)
        self._output.wake()
        self.tunnel = Tunnel(self, receiver)
        self._owner.call_soon(self._begin_tunnel)
        return self.tunnel

    def request_content(self) -> None:
        """The application reads on: what it has read is the peer's to send again."""
        if self.awaits_continue:
            self.awaits_continue = False
            if not self.is_head_sent:
                self.send_informational(100, [])
        if self._content is not None:
            self._content.credit_read()

    def pause_reading(self) -> None:
        """Deliver no more content; the window bounds what may still come."""
        if self._content is not None:
            self._content.pause()

    def resume_reading(self) -> None:
        """Deliver content again, beginning with what has come in the meantime."""
        if self._content is not None:
            self._content.resume()

    def abort(self) -> None:
        """Abort the response: the peer sees a reset."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._owner.exchange_ended(exchange)
        self._owner.break_off(self, ErrorCodes.INTERNAL_ERROR)

    # The content's side (content.ContentStream).

    def give_credit(self, size: int) -> None:
        """Open the windows for what has been read."""
        self._writer.acknowledge(size, self)
        self._output.wake()

    # The tunnel's side.

    def write(self, data: bytes) -> None:
        """Send bytes of an upgraded stream."""
        self._queue(data, more=True)

    def write_eof(self) -> None:
        """End our side once all is sent."""
        self._queue(b"", more=False)

    def reset(self) -> None:
        """End both sides at once (RFC 8441 section 5: like a TCP reset)."""
        self._owner.break_off(self, ErrorCodes.CANCEL)

    # Private.

    def _queue(self, data: bytes, more: bool) -> None:
        """Let content wait for its turn, and the end of it."""
        if data:
            if self.queue is _EMPTY_QUEUE:
                self.queue = ContentQueue()
            self.queue.append(data)
        self._is_ending |= not more
        if not more:
            self._complete()
        output = self._output
        if self.queue.size:
            output.add(self)
            if self.queue.size > STREAM_BUFFER_SIZE:
                output.flush()
        elif not more:
            # An end without content needs no window and no turn.
            if self._trailers is None:
                self._writer.send_content(self, b"", is_last=True)
            self._end_sent()

    def _complete(self) -> None:
        """The exchange has said all; it is told nothing more."""
        self._is_ending = True
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._owner.exchange_ended(exchange)

    def _end_sent(self) -> None:
        if self._trailers is not None:
            # Only now: the peer may have changed the table's size since the head.
            block = self._writer.encoder.encode_response(self._trailers, b"")
            self._writer.send_block(self, block, is_last=True)
        self._owner.response_sent(self)

    def _check_linger(self, now: float) -> None:
        """Ask a client that sends on after its response to stop (RFC 9113 8.1).

        Not at once: many clients have little left to send, and some take a reset for a
        failure even after a whole response.
        """
        if self._ended_at is None:
            self._ended_at = now
        elif now - self._ended_at >= LINGER_TIMEOUT:
            self._owner.break_off(self, ErrorCodes.NO_ERROR)

    def _begin_tunnel(self) -> None:
        """Deliver what came before the upgrade (interfaces.Stream: later)."""
        if self.tunnel is not None and self._content is not None:
            self._content.start()

    def _stop_content(self, content: RequestContent) -> None:
        """Deliver nothing more, and leave no circle of references behind."""
        content.stop()
        self._content = None
