"""The streams of one connection: opened, found, counted and forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from h2.errors import ErrorCodes

from djserve.errors import ApplicationError, ProtocolError
from djserve.instrumentation.limits import note_limit
from djserve.protocols.grammar import content_too_large
from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.http2.request import Request, parse_priority, parse_request
from djserve.protocols.http2.stream import (
    EXTENSIONS,
    EXTENSIONS_WITH_PUSH,
    HTTP2Stream,
)
from djserve.protocols.multiplexed.streams import (
    defer_drains,
    drain_streams,
    keep_running,
)
from djserve.protocols.multiplexed.timeouts import ResponseStalled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djserve.conf.schema import HTTP2Config, HTTPConfig
    from djserve.interfaces import (
        ConnectionInfo,
        ConnectionOwner,
        Exchange,
        Headers,
    )
    from djserve.protocols.http2.codec import FrameWriter
    from djserve.protocols.http2.output import Output
    from djserve.protocols.http2.response import ServerFields

# Control frames that an honest peer may send for each request it makes.
_CONTROLS_PER_REQUEST = 3.0

# RFC 3986 section 3.3, with the query and what is quoted already.
_PATH_SAFE = "/?%!$&'()*+,;=:@~"

# PRIORITY_UPDATE frames that may come before their stream (RFC 9218 section 7.1).
_EARLY_PRIORITIES_LIMIT = 32


@dataclass(frozen=True, slots=True)
class HTTP2Service:
    """What all HTTP/2 connections of a server have in common.

    ``call_soon`` runs a callable in the loop's next turn.
    """

    owner: ConnectionOwner
    http: HTTPConfig
    http2: HTTP2Config
    fields: ServerFields
    call_soon: Callable[[Callable[[], None]], object]


class StreamTable:
    """Carry a connection's streams (stream.StreamOwner, reader.StreamEvents).

    It is handed the connection's ``writer`` and ``output``. ``on_end`` is called when a
    stream has ended, ``on_ping`` with what the peer answers to a PING, ``on_refusal``
    when a request that is being read is answered without an exchange.
    """

    __slots__ = (
        "_call_limit",
        "_calls",
        "_can_push",
        "_early_priorities",
        "_h2",
        "_http",
        "_info",
        "_is_peer_going",
        "_on_end",
        "_on_ping",
        "_on_refusal",
        "_owner",
        "_starting",
        "_streams",
        "awaits_settings",
        "call_soon",
        "ended_count",
        "extensions",
        "fields",
        "is_draining",
        "is_multiplexed",
        "output",
        "request_count",
        "writer",
    )

    def __init__(
        self,
        writer: FrameWriter,
        output: Output,
        info: ConnectionInfo,
        service: HTTP2Service,
        on_end: Callable[[], None],
        on_ping: Callable[[bytes], None],
        on_refusal: Callable[[], None],
    ) -> None:
        self._info = info
        self._owner = service.owner
        self._http = service.http
        self._call_limit = service.http2.http2_call_limit
        self._on_end = on_end
        self._on_ping = on_ping
        self._on_refusal = on_refusal
        self.fields = service.fields
        self.call_soon = service.call_soon
        self._h2 = writer.h2
        self.writer = writer
        self.output = output
        # Those that h2 knows, which are all made here.
        self._streams = cast("dict[int, HTTP2Stream]", self._h2.streams)
        self._starting: list[HTTP2Stream] = []
        # Exchanges whose stream has ended while their application call went on.
        self._calls: set[Exchange] = set()
        self._early_priorities: dict[int, bytes] = {}
        self._is_peer_going = False
        self.awaits_settings = True
        self.is_draining = False
        # Whether the peer has ever had several streams open at once.
        self.is_multiplexed = False
        self.request_count = 0
        self.ended_count = 0
        self._note_push()

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def held_size(self) -> int:
        """Bytes that wait on all streams, either way."""
        return sum(stream.held_size for stream in self._streams.values())

    # The connection calls these.

    def start_exchanges(self) -> None:
        """Run the applications of the requests that came together."""
        while self._starting:
            starting, self._starting = self._starting, []
            for stream in starting:
                # Its reset may have come together with its head.
                if stream.exchange is not None:
                    stream.exchange.start()
                if self.is_draining:
                    stream.drain()

    def resume_writing(self) -> None:
        """Tell every stream that the transport takes more."""
        for stream in list(self._streams.values()):
            stream.resume_writing()

    def tick(self, now: float) -> None:
        """Check the timeouts of every stream."""
        for stream in list(self._streams.values()):
            stream.tick(now)
            overdue = stream.find_overdue(now, self._http)
            if isinstance(overdue, ResponseStalled):
                self.break_off(stream, ErrorCodes.ENHANCE_YOUR_CALM)
            elif overdue is not None:
                stream.refuse(overdue)
        self._count_calls()

    def defer_drains(self) -> list[Callable[[], None]]:
        """Return what drains each upgraded stream; ``drain`` then leaves it alone."""
        return defer_drains(self._streams.values())

    def drain(self) -> None:
        """Ask every stream for its end, those that come later included."""
        self.is_draining = True
        self._note_push()
        drain_streams(self._streams.values())

    def fail(self, exc: Exception | None) -> None:
        """End every stream without a word on the wire."""
        streams = list(self._streams.values())
        self._streams.clear()
        self._starting.clear()
        for stream in streams:
            self.output.discard(stream)
            stream.connection_lost(exc)

    # The reader calls these (reader.StreamEvents).

    def request_received(
        self, stream_id: int, request: Request, is_complete: bool
    ) -> None:
        self.request_count += 1
        self._h2.controls.earn(_CONTROLS_PER_REQUEST)
        if (
            len(self._streams) + len(self._calls) >= self._call_limit
            and self._count_calls() >= self._call_limit
        ):
            # CVE-2023-44487: a stream that is reset no longer counts as open, but its
            # application call may run on.
            note_limit("HTTP2_CALL_LIMIT")
            self._h2.resets.spend()
            self._on_refusal()
            self.writer.refuse(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        stream = HTTP2Stream(self, stream_id, request, is_complete)
        if self._early_priorities:
            early = self._early_priorities.pop(stream_id, None)
            if early is not None:
                stream.priority = parse_priority(early)
        self._streams[stream_id] = stream
        if len(self._streams) > 1:
            self.is_multiplexed = True
        self._open_exchange(stream, request, is_complete)

    def content_received(self, stream_id: int, data: bytes, credit: int) -> None:
        stream = self._streams[stream_id]
        if stream.received_size > self._http.body_size_limit and stream.is_refusable:
            self.writer.acknowledge(credit)
            self._refuse(stream, content_too_large())
            return
        stream.content_received(data, credit)
        if stream.is_closed:
            self._forget(stream)

    def stream_reset(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._forget(stream)

    def window_opened(self, stream_id: int) -> None:
        if not stream_id:
            self.output.wake()
            return
        stream = self._streams.get(stream_id)
        if stream is not None and stream.queue.size:
            self.output.add(stream)

    def priority_updated(self, stream_id: int, value: bytes) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            was_queued = stream.level is not None
            self.output.discard(stream)
            stream.priority = parse_priority(value)
            if was_queued:
                self.output.add(stream)
        elif (
            stream_id > self._h2.highest_inbound_stream_id
            and len(self._early_priorities) < _EARLY_PRIORITIES_LIMIT
        ):
            self._early_priorities[stream_id] = value

    def settings_changed(self) -> None:
        self._note_push()
        for stream in self._streams.values():
            if stream.queue.size:
                self.output.add(stream)

    def settings_acknowledged(self) -> None:
        self.awaits_settings = False

    def ping_acknowledged(self, data: bytes) -> None:
        self._on_ping(data)

    def going_away(self) -> None:
        self._is_peer_going = True
        self._note_push()

    # The streams call these.

    def push(self, parent: HTTP2Stream, path: str, headers: Headers) -> None:
        """Promise a response and serve it, if the peer still takes any."""
        h2 = self._h2
        pushed = sum(1 for stream_id in self._streams if stream_id % 2 == 0)
        if (
            not self._can_push
            or parent.is_pushed
            or not parent.may_send
            or pushed >= h2.remote_settings.max_concurrent_streams
            or self._count_calls() >= self._call_limit
        ):
            return
        scheme = b"https" if self._info.tls is not None else b"http"
        fields = [
            (b":method", b"GET"),
            (b":scheme", scheme),
            (b":authority", parent.head.headers[0][1]),
            (b":path", quote(path, safe=_PATH_SAFE).encode("ascii")),
            *((bytes(name).lower(), bytes(value)) for name, value in headers),
        ]
        try:
            request = parse_request(fields, self._http)
        except HTTP2Error as error:
            raise ApplicationError(f"This cannot be pushed: {error}") from error
        if request.refusal is not None:
            raise ApplicationError(f"This cannot be pushed: {request.refusal}")
        stream_id = h2.get_next_available_stream_id()
        self.writer.promise(parent.stream_id, stream_id, fields)
        stream = HTTP2Stream(self, stream_id, request, True)
        self._streams[stream_id] = stream
        self._open_exchange(stream, request, True)
        self.call_soon(self.start_exchanges)
        self.output.wake()

    def request_refused(self, stream: HTTP2Stream, error: ProtocolError) -> None:
        """Tell the owner of a request that is answered without an application."""
        self._owner.request_refused(stream.head, self._info, error)

    def exchange_ended(self, exchange: Exchange) -> None:
        """Record that an exchange has no stream any more; its call may run on."""
        self._calls.add(exchange)

    def response_sent(self, stream: HTTP2Stream) -> None:
        """Record that our side of a stream has ended, and have that written.

        At once if no other is under way, for which it could wait.
        """
        if not stream.may_receive:
            self._forget(stream)
        if self._streams:
            self.output.wake()
        else:
            self.output.flush()

    def break_off(self, stream: HTTP2Stream, code: ErrorCodes) -> None:
        """Reset a stream for a reason of ours."""
        self.writer.reset(stream, code)
        self._forget(stream)
        self.output.wake()

    # Private.

    def _note_push(self) -> None:
        """Note, once for all requests, whether responses may promise others."""
        self._can_push = (
            not self._is_peer_going
            and not self.is_draining
            and self._h2.peer_takes_push
        )
        offered = EXTENSIONS_WITH_PUSH if self._can_push else EXTENSIONS
        self.extensions: Mapping[str, dict[str, Any]] = offered

    def _open_exchange(
        self, stream: HTTP2Stream, request: Request, is_complete: bool
    ) -> None:
        length = request.content_length
        if request.refusal is not None:
            # Not raised: it may be kept, and would gather tracebacks.
            self._refuse(stream, request.refusal)
            return
        try:
            if length is not None and length > self._http.body_size_limit:
                raise content_too_large()
            exchange = self._owner.open_exchange(stream.head, self._info, stream)
        except ProtocolError as error:
            self._refuse(stream, error)
            return
        stream.start(exchange)
        self._starting.append(stream)

    def _refuse(self, stream: HTTP2Stream, error: ProtocolError) -> None:
        self._on_refusal()
        stream.refuse(error)

    def _count_calls(self) -> int:
        """Return how many application calls run for this connection."""
        self._calls = keep_running(self._calls)
        return len(self._streams) + len(self._calls)

    def _forget(self, stream: HTTP2Stream) -> None:
        """Drop a stream that has ended on both sides."""
        if self._streams.pop(stream.stream_id, None) is None:
            return
        self.ended_count += 1
        if stream.level is not None:
            self.output.discard(stream)
        stream.end()
        self._on_end()
