"""One request's stream: its content upward, its response downward, and its end.

Order and windows are QUIC's. Content that the application has not read is kept back
from the peer's credit; what a response has too much waits in the transport, at most
``STREAM_BUFFER_SIZE`` and one message.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

from djserve.errors import ProtocolError
from djserve.protocols.extensions import offer
from djserve.protocols.grammar import content_too_large
from djserve.protocols.headers import STATUSES_WITHOUT_CONTENT
from djserve.protocols.http3 import frames
from djserve.protocols.http3.errors import ErrorCode, HTTP3Error
from djserve.protocols.http3.reader import RequestReader
from djserve.protocols.http3.request import (
    DEFAULT_PRIORITY,
    build_head,
    check_trailers,
    parse_request,
)
from djserve.protocols.http3.response import (
    build_fields,
    build_interim,
    build_trailers,
)
from djserve.protocols.http3.sessions import Session
from djserve.protocols.limits import LINGER_TIMEOUT
from djserve.protocols.multiplexed.content import RequestContent
from djserve.protocols.multiplexed.streams import build_refusal, count_content
from djserve.protocols.multiplexed.timeouts import StreamTimeouts
from djserve.protocols.multiplexed.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from djserve.conf.schema import HTTPConfig
    from djserve.errors import ProtocolError
    from djserve.interfaces import (
        Exchange,
        Headers,
        MultiplexTransport,
        RequestHead,
        Transport,
        WebTransport,
        WebTransportObserver,
        WireProtocol,
    )
    from djserve.protocols.http3.request import Request
    from djserve.protocols.http3.response import ServerFields
    from djserve.protocols.http3.sessions import SessionTable

# Content that may wait for the windows before the application has to wait as well.
STREAM_BUFFER_SIZE = 64 * 1024

# draft-ietf-webtrans-http3-02 section 3.3: a client of that version asks for it.
_DRAFT_02 = (b"sec-webtransport-http3-draft", b"draft02")

_EXTENSIONS = offer("trailers", "pathsend", "zerocopysend", "early_hint")


class ResponseState(Enum):
    """How far the response is, as the exchange or the tunnel has given it."""

    AWAITED = auto()
    STARTED = auto()
    """Its head has been given: it can be aborted, but no other can take its place."""
    COMPLETE = auto()
    """Its end has been given, which may still wait for the windows."""


# An enum's members cost a descriptor each time (Python 3.11).
_AWAITED, _STARTED, _COMPLETE = ResponseState


class StreamOwner(Protocol):
    """What a stream asks of what it belongs to."""

    transport: MultiplexTransport
    http: HTTPConfig
    fields: ServerFields
    call_soon: Callable[[Callable[[], None]], object]
    protocols: Container[bytes]
    sessions: SessionTable | None

    def encode_block(self, stream_id: int, fields: Headers, /) -> bytes: ...
    def decode_block(self, stream_id: int, block: bytes, /) -> Headers: ...
    def open_exchange(self, stream: HTTP3Stream, /) -> Exchange:
        """Return what carries the request. Raises ProtocolError."""

    def request_refused(
        self, stream: HTTP3Stream, head: RequestHead, error: ProtocolError, /
    ) -> None:
        """Record a request that is answered without an application."""

    def idle_frame_received(self) -> None:
        """Count a frame without effect. Raises HTTP3Error for too many."""

    def exchange_ended(self, exchange: Exchange, /) -> None:
        """Record that an exchange has no stream any more; its call may run on."""

    def stream_waits(self, stream: HTTP3Stream, /) -> None:
        """Have ``bytes_sent`` called when some of what waits has been sent."""

    def check_ended(self, stream: HTTP3Stream, /) -> None:
        """Forget a stream if both its sides have ended."""

    def break_off(self, stream: HTTP3Stream, code: ErrorCode, /) -> None:
        """Reset a stream for a reason of ours."""


class HTTP3Stream:
    """Carry one exchange on one stream (interfaces.Stream, reader.RequestEvents)."""

    __slots__ = (
        "_content",
        "_ended_at",
        "_has_no_content",
        "_owner",
        "_reader",
        "_remaining",
        "_request",
        "_response",
        "_takes_trailers",
        "_timeouts",
        "_transport",
        "awaits_continue",
        "exchange",
        "head",
        "is_drain_deferred",
        "may_receive",
        "received_size",
        "stream_id",
        "tunnel",
    )

    def __init__(self, owner: StreamOwner, stream_id: int) -> None:
        self._owner = owner
        self._transport = owner.transport
        self.stream_id = stream_id
        # The request.
        self._reader = RequestReader(self, 2 * owner.http.header_size_limit)
        self._request: Request | None = None
        self.head: RequestHead | None = None
        self.exchange: Exchange | None = None
        self.received_size = 0
        self.awaits_continue = False
        self.is_drain_deferred = False
        self.may_receive = True
        self._content = RequestContent(self, is_waiting=True)
        # The response.
        self._has_no_content = False
        self._remaining = -1
        self._takes_trailers = False
        self._response = _AWAITED
        # The upgrade, and the end.
        self.tunnel: Tunnel | None = None
        self._timeouts: StreamTimeouts | None = None
        self._ended_at: float | None = None

    # The connection's side.

    @property
    def is_in_block(self) -> bool:
        """Whether the request's head is not complete."""
        return self.head is None

    @property
    def is_ended(self) -> bool:
        """Whether both sides have ended and all is sent."""
        return self._response is _COMPLETE and not (
            self.may_receive or self.waiting_size
        )

    @property
    def is_receiving(self) -> bool:
        """Whether the peer is expected to send content now."""
        return self.may_receive and not (
            self._content.is_unread
            or self.awaits_continue
            or self._response is _COMPLETE
        )

    @property
    def is_unanswered(self) -> bool:
        """Whether no head of a final response has been given."""
        return self._response is _AWAITED

    @property
    def is_upgraded(self) -> bool:
        return self.tunnel is not None

    @property
    def held_size(self) -> int:
        """Bytes that wait for the peer, or from it for who takes them."""
        size = self.waiting_size + self._reader.held_size + self._content.held_size
        receiver = self.exchange if self.tunnel is None else self.tunnel.receiver
        return size + getattr(receiver, "held_size", 0)

    @property
    def waiting_size(self) -> int:
        """Bytes of the response that wait for the windows."""
        return self._transport.waiting_size(self.stream_id)

    @property
    def sent_size(self) -> int:
        return self._transport.sent_size(self.stream_id)

    def receive(self, data: bytes, is_last: bool) -> None:
        """Take bytes of the stream. Raises HTTP3Error."""
        self._reader.receive(data, is_last)

    def bytes_sent(self) -> bool:
        """Resume what uses the stream if it takes more; return whether it does."""
        if not self.is_writable:
            return False
        if self.tunnel is not None:
            self.tunnel.resume_writing()
        elif self.exchange is not None:
            self.exchange.resume_writing()
        return True

    def tick(self, now: float) -> None:
        """Check the timeouts of what uses the stream."""
        if self.tunnel is not None:
            self.tunnel.tick(now)
        elif self.exchange is not None:
            self.exchange.tick(now)
        elif self._response is _COMPLETE and not self.waiting_size:
            self._check_linger(now)

    def find_overdue(self, now: float) -> ProtocolError | None:
        """Return what the peer is too late with, if anything."""
        if self.tunnel is not None or self.head is None:
            return None
        if self._timeouts is None:
            self._timeouts = StreamTimeouts()
        return self._timeouts.check(self, now, self._owner.http)

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
        if self.tunnel is None:
            self.connection_lost(None)
        else:
            self._content.stop()
            self.tunnel.is_closing = True
            self._owner.call_soon(lambda: self.connection_lost(None))

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended, by itself or with its connection."""
        self._content.stop()
        exchange, self.exchange = self.exchange, None
        tunnel, self.tunnel = self.tunnel, None
        if tunnel is not None:
            tunnel.connection_lost(exc)
        elif exchange is not None:
            exchange.connection_lost(exc)
            self._owner.exchange_ended(exchange)

    def refuse(self, error: ProtocolError) -> None:
        """Answer for the server; a response under way is aborted instead."""
        if self._response is not _AWAITED or self.head is None:
            self._owner.break_off(self, ErrorCode.REQUEST_CANCELLED)
            return
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.connection_lost(error)
            self._owner.exchange_ended(exchange)
        self._content.stop()
        self._owner.request_refused(self, self.head, error)
        fields, body = build_refusal(error)
        self.send_response(error.status, fields, body, more=False)

    # The reader's side (reader.RequestEvents).

    def overhead_received(self, size: int) -> None:
        self._transport.acknowledge(self.stream_id, size)

    def block_received(self, block: bytes, is_trailers: bool) -> None:
        fields = self._owner.decode_block(self.stream_id, block)
        if is_trailers:
            check_trailers(fields)
            return
        owner = self._owner
        request = parse_request(fields, owner.http, owner.protocols)
        self._request = request
        self.head = build_head(request, is_complete=False)
        self._takes_trailers = request.takes_trailers
        if request.priority is not DEFAULT_PRIORITY:
            self._transport.set_priority(self.stream_id, *request.priority)
        self.awaits_continue = self.head.expects_continue

    def idle_frame_received(self) -> None:
        self._owner.idle_frame_received()

    def content_received(self, data: bytes) -> None:
        self.awaits_continue = False
        self.received_size += len(data)
        self._check_length(is_complete=False)
        if self.exchange is None and self.tunnel is None and self._is_started:
            # Dropped, and no credit is given for more.
            return
        if self._is_too_large():
            self.refuse(content_too_large())
            return
        self._content.receive(data, len(data))

    @property
    def is_handed_on(self) -> bool:
        """Whether an exchange has the request, or has had it."""
        return self.head is not None and self._is_started

    def request_ended(self) -> None:
        self.may_receive = False
        self.awaits_continue = False
        self._check_length(is_complete=True)
        if self._is_started:
            self._content.deliver_end()
            self._owner.check_ended(self)

    @property
    def _is_started(self) -> bool:
        """Whether the request has been handed on, or refused."""
        return self._request is None

    def open(self) -> bool:
        """Hand a new request on, with what came with it; return whether it starts."""
        request, head = self._request, self.head
        if request is None or head is None:
            return False
        self._request = None
        if not (self.may_receive or self.received_size):
            head.has_body = False
            head.expects_continue = False
        length, owner = request.content_length, self._owner
        try:
            if request.refusal is not None:
                raise request.refusal
            if max(length or 0, self.received_size) > owner.http.body_size_limit:
                raise content_too_large()
            self.exchange = owner.open_exchange(self)
        except HTTP3Error:
            raise
        except ProtocolError as error:
            self.refuse(error)
            return False
        if request.upgrade is None:
            self._content.start()
        return self.exchange is not None

    # The exchange's side (interfaces.Stream).

    @property
    def is_writable(self) -> bool:
        return self.waiting_size <= STREAM_BUFFER_SIZE

    @property
    def extensions(self) -> Mapping[str, dict[str, Any]]:
        return _EXTENSIONS

    def send_informational(self, status: int, headers: Headers) -> None:
        """Send an interim response (RFC 9110 section 15.2)."""
        self._write_block(build_interim(status, headers))

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        """Send the head, and the first part of the content."""
        assert self.head is not None
        self._has_no_content = (
            status in STATUSES_WITHOUT_CONTENT or self.head.method == "HEAD"
        )
        whole_length = None if more or self._has_no_content else len(data)
        fields, length = build_fields(status, headers, whole_length, self._owner.fields)
        if self._has_no_content:
            data = b""
        elif length >= 0:
            self._remaining = count_content(length, len(data), more)
        self._response = _STARTED
        block = self._owner.encode_block(self.stream_id, fields)
        self._send(frames.encode_frame(frames.HEADERS, block), data, more)

    def send_data(self, data: bytes, more: bool) -> None:
        """Send the next part of the content."""
        if self._has_no_content:
            data = b""
        elif self._remaining >= 0:
            self._remaining = count_content(self._remaining, len(data), more)
        self._send(b"", data, more)

    def send_trailers(self, headers: Headers) -> None:
        """End the response; the fields go to a peer that takes them.

        RFC 9110 section 6.5.1: without ``TE: trailers`` they are better left out.
        """
        fields = build_trailers(headers)
        if self._remaining > 0:
            count_content(self._remaining, 0, more=False)
        frame = b""
        if fields and self._takes_trailers and not self._has_no_content:
            block = self._owner.encode_block(self.stream_id, fields)
            frame = frames.encode_frame(frames.HEADERS, block)
        self._send(frame, b"", more=False)

    def push(self, path: str, headers: Headers) -> None:
        """Do nothing: the scope offers no push, which browsers have given up."""

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> Transport:
        """Accept an extended CONNECT (RFC 9220)."""
        fields, _ = build_fields(200, headers, None, self._owner.fields)
        self._response = _STARTED
        self._write_block(fields)
        self.tunnel = Tunnel(self, receiver)
        self._owner.call_soon(self._begin_tunnel)
        return self.tunnel

    def open_session(
        self, headers: Headers, observer: WebTransportObserver
    ) -> WebTransport:
        """Accept an extended CONNECT that asks for a WebTransport session."""
        sessions = self._owner.sessions
        assert sessions is not None
        session = Session(sessions, self.stream_id, observer)
        session.attach(self.upgrade([*headers, _DRAFT_02], session))
        self._owner.call_soon(lambda: sessions.begin(self.stream_id))
        return session

    def request_content(self) -> None:
        """The application reads on: what it has read is the peer's to send again."""
        if self.awaits_continue:
            self.awaits_continue = False
            if self._response is _AWAITED:
                self.send_informational(100, [])
        self._content.credit_read()

    def pause_reading(self) -> None:
        """Deliver no more content; the peer's credit bounds what may still come."""
        self._content.pause()

    def resume_reading(self) -> None:
        """Deliver content again, beginning with what has come in the meantime."""
        self._content.resume()

    def abort(self) -> None:
        """Break the response off: the peer sees a reset."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._owner.exchange_ended(exchange)
        self._owner.break_off(self, ErrorCode.INTERNAL_ERROR)

    # The content's side (content.ContentStream).

    def give_credit(self, size: int) -> None:
        """Let the peer send more, for what has been read."""
        self._transport.acknowledge(self.stream_id, size)

    # The tunnel's side.

    def write(self, data: bytes) -> None:
        """Send bytes of an upgraded stream."""
        self._send(b"", data, more=True)

    def write_eof(self) -> None:
        """End our side once all is sent."""
        self._send(b"", b"", more=False)

    def reset(self) -> None:
        """End both sides at once (RFC 9220 section 3: like a TCP reset)."""
        self._owner.break_off(self, ErrorCode.REQUEST_CANCELLED)

    # Private.

    def _write_block(self, fields: Headers) -> None:
        block = self._owner.encode_block(self.stream_id, fields)
        frame = frames.encode_frame(frames.HEADERS, block)
        self._transport.write_stream(self.stream_id, frame, False)

    def _send(self, frame: bytes, data: bytes, more: bool) -> None:
        """Write a frame, content behind it, and with no ``more`` the end."""
        if data:
            # The transport copies: one joined write is one copy less than two.
            length = frames.encode_integer(len(data))
            frame = b"".join((frame, frames.encode_integer(frames.DATA), length, data))
        if not more:
            self._complete()
        if frame or not more:
            self._transport.write_stream(self.stream_id, frame, not more)
        if not more:
            self._owner.check_ended(self)
        elif not self.is_writable:
            self._owner.stream_waits(self)

    def _complete(self) -> None:
        """The exchange has said all; it is told nothing more."""
        self._response = _COMPLETE
        if self.tunnel is not None:
            return
        self._content.stop()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._owner.exchange_ended(exchange)

    def _check_linger(self, now: float) -> None:
        """Ask a client that sends on after its response to stop (RFC 9114 4.1).

        Not at once: many clients have little left to send, and some take a reset for a
        failure even after a whole response.
        """
        if self._ended_at is None:
            self._ended_at = now
        elif now - self._ended_at >= LINGER_TIMEOUT and self.may_receive:
            self.may_receive = False
            self._transport.stop_stream(self.stream_id, ErrorCode.NO_ERROR)
            self._owner.check_ended(self)

    def _check_length(self, is_complete: bool) -> None:
        length = None if self.head is None else self.head.content_length
        if length is None or self.tunnel is not None:
            return
        if self.received_size > length or (is_complete and self.received_size < length):
            # RFC 9114 section 4.1.2.
            raise HTTP3Error(
                "The content is not as long as Content-Length says",
                ErrorCode.MESSAGE_ERROR,
                is_of_stream=True,
            )

    def _is_too_large(self) -> bool:
        return (
            self.received_size > self._owner.http.body_size_limit
            and self.exchange is not None
            and self.tunnel is None
        )

    def _begin_tunnel(self) -> None:
        """Deliver what came before the upgrade (interfaces.Stream: later)."""
        if self.tunnel is not None:
            self._content.start()
