"""One HTTP/2 connection: its streams, its limits and its end (RFC 9113)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from djserve.errors import ProtocolError
from djserve.protocols.http2.codec import WINDOW_LIMIT, FrameCodec
from djserve.protocols.http2.faults import HTTP2Error
from djserve.protocols.http2.output import Output
from djserve.protocols.http2.priority import parse_priority
from djserve.protocols.http2.request import Request, parse_request
from djserve.protocols.http2.stream import HTTP2Stream
from djserve.protocols.http2.timeouts import ConnectionTimeouts

if TYPE_CHECKING:
    from collections.abc import Callable

    from h2.stream import H2Stream

    from djserve.conf.schema import HTTP2Config, HTTPConfig
    from djserve.interfaces import (
        ConnectionInfo,
        ConnectionOwner,
        Exchange,
        Headers,
        RequestHead,
        Transport,
    )
    from djserve.protocols.http2.response import ServerFields

# After GOAWAY, what the peer still sends is dropped, up to here.
_DISCARD_LIMIT = 256 * 1024

# Control frames that an honest peer may send for each request it makes.
_CONTROLS_PER_REQUEST = 3.0

_DRAIN_PING = b"djserveD"
_ALIVE_PING = b"djserveA"

# PRIORITY_UPDATE frames that came before their stream (RFC 9218 section 7.1).
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


class HTTP2Connection:
    """Carry a connection's streams (interfaces.Connection, codec.StreamEvents)."""

    __slots__ = (
        "_calls",
        "_discarded",
        "_early_priorities",
        "_http",
        "_info",
        "_is_peer_going",
        "_owner",
        "_service",
        "_starting",
        "_streams",
        "_streams_ended",
        "_timeouts",
        "_transport",
        "awaits_drain",
        "awaits_settings",
        "call_soon",
        "codec",
        "fields",
        "is_draining",
        "is_lingering",
        "mark",
        "output",
        "request_count",
    )

    def __init__(
        self, transport: Transport, info: ConnectionInfo, service: HTTP2Service
    ) -> None:
        self._transport = transport
        self._info = info
        self._service = service
        self._owner = service.owner
        self._http = service.http
        self.fields = service.fields
        self.call_soon = service.call_soon
        self.codec = FrameCodec(self, service.http, service.http2)
        self.output = Output(self.codec, transport, service.call_soon)
        self._timeouts = ConnectionTimeouts(self, service.http, service.http2)
        self._streams: dict[int, HTTP2Stream] = {}
        self._starting: list[HTTP2Stream] = []
        # Exchanges whose stream has ended while their application call went on.
        self._calls: set[Exchange] = set()
        self._early_priorities: dict[int, bytes] = {}
        self._discarded = 0
        self._streams_ended = 0
        self._is_peer_going = False
        self.awaits_drain = False
        self.awaits_settings = True
        self.is_draining = False
        self.is_lingering = False
        self.request_count = 0
        # Counts the chunks that the peer sends, for the timeouts.
        self.mark = 0
        self.codec.start()
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
            self.codec.receive(data)
            self._start_exchanges()
        except HTTP2Error as error:
            self.fail(error)
        finally:
            self.output.release()
        if self.is_draining and not self._streams and not self.awaits_drain:
            self._linger()

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
            for stream in list(self._streams.values()):
                stream.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, for whatever reason."""
        self.is_lingering = True
        self._fail_streams(exc)
        self._owner.connection_lost(self)

    # The server calls these.

    def tick(self, now: float) -> None:
        """Check every timeout at the monotonic time ``now``, in seconds."""
        self.output.hold()
        try:
            self._timeouts.tick(now)
            for stream in list(self._streams.values()):
                stream.tick(now)
                overdue = stream.timeouts.check(stream, now, self._http)
                if overdue is not None and not stream.is_upgraded:
                    self._stop_stream(stream, overdue)
        finally:
            self.output.release()
        self._count_calls()

    def drain(self) -> None:
        """End soon, in two steps (RFC 9113 section 6.8).

        The first GOAWAY says that the end comes; streams that are on their way are
        still taken. The second, when the peer has seen the first, names the last one.
        """
        if self.is_draining or self.is_lingering:
            return
        self.is_draining = self.awaits_drain = True
        self.codec.go_away(ErrorCodes.NO_ERROR, last=WINDOW_LIMIT)
        self.codec.ping(_DRAIN_PING)
        for stream in list(self._streams.values()):
            stream.drain()
        self.output.wake()

    def abort_transport(self) -> None:
        """Drop the connection, with what is buffered."""
        self._transport.abort()

    # For the timeouts.

    @property
    def has_streams(self) -> bool:
        return bool(self._streams)

    @property
    def is_reading_head(self) -> bool:
        """Whether a part of a request's head, or of any frame, has come."""
        return self.codec.is_in_block or self.codec.is_in_frame

    def had_streams(self) -> bool:
        """Say whether any stream has ended since the last call."""
        ended, self._streams_ended = self._streams_ended, 0
        return ended > 0

    def refill(self, seconds: float) -> None:
        """Give back what the peer may do for nothing."""
        self.codec.resets.refill(seconds)
        self.codec.controls.refill(seconds)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self.codec.ping(_ALIVE_PING)

    def finish_drain(self) -> None:
        """Name the last stream that is taken; end when all have ended."""
        if self.awaits_drain:
            self.awaits_drain = False
            self.codec.go_away(ErrorCodes.NO_ERROR)
            self._end_drained()

    def fail(self, error: HTTP2Error) -> None:
        """End the connection for the peer's fault (RFC 9113 section 5.4.1)."""
        self._owner.request_refused(None, self._info, error)
        self._fail_streams(None)
        self.codec.go_away(error.code, error.reason)
        self._linger()

    def close(self) -> None:
        """End an idle connection."""
        self.codec.go_away(ErrorCodes.NO_ERROR)
        self._linger()

    def close_transport(self) -> None:
        """Close after what is buffered."""
        self._transport.close()

    # The codec calls these (codec.StreamEvents).

    def request_received(
        self, state: H2Stream, request: Request, is_complete: bool
    ) -> None:
        self.request_count += 1
        self.codec.controls.earn(_CONTROLS_PER_REQUEST)
        if (
            len(self._streams) + len(self._calls)
            >= self._service.http2.http2_call_limit
            and self._count_calls() >= self._service.http2.http2_call_limit
        ):
            # CVE-2023-44487: a stream that is reset no longer counts as open, but its
            # application call may run on.
            self.codec.fail_stream(state.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        stream = HTTP2Stream(self, state, request, is_complete)
        early = self._early_priorities.pop(state.stream_id, None)
        if early is not None:
            stream.priority = parse_priority(early)
        self._streams[state.stream_id] = stream
        self._open_exchange(stream, request, is_complete)

    def content_received(
        self, stream_id: int, data: bytes, credit: int, is_complete: bool
    ) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            self.codec.acknowledge(credit)
            return
        size = stream.received_size + len(data)
        if size > self._http.body_size_limit and stream.is_refusable:
            self.codec.acknowledge(credit)
            stream.refuse(ProtocolError("Request content is too large", 413))
            return
        stream.content_received(data, credit, is_complete)
        if stream_id not in self.codec.streams:
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
        if stream is not None and stream.size:
            self.output.add(stream)

    def priority_updated(self, stream_id: int, value: bytes) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            was_queued = stream.is_queued
            self.output.discard(stream)
            stream.priority = parse_priority(value)
            if was_queued:
                self.output.add(stream)
        elif (
            stream_id > self.codec.highest_inbound_stream_id
            and len(self._early_priorities) < _EARLY_PRIORITIES_LIMIT
        ):
            self._early_priorities[stream_id] = value

    def settings_changed(self) -> None:
        for stream in self._streams.values():
            if stream.size:
                self.output.add(stream)

    def settings_acknowledged(self) -> None:
        self.awaits_settings = False

    def ping_acknowledged(self, data: bytes) -> None:
        if data == _DRAIN_PING:
            self.finish_drain()

    def going_away(self) -> None:
        self._is_peer_going = True

    # The streams call these.

    def can_push(self, stream_id: int) -> bool:
        """Say whether a response on this stream may promise others."""
        return (
            stream_id % 2 == 1
            and not self._is_peer_going
            and not self.is_draining
            and bool(self.codec.remote_settings.enable_push)
        )

    def push(self, parent: HTTP2Stream, path: str, headers: Headers) -> None:
        """Promise a response and serve it, where the peer still takes any."""
        codec = self.codec
        pushed = sum(1 for stream_id in self._streams if stream_id % 2 == 0)
        if (
            not self.can_push(parent.stream_id)
            or parent.stream_id not in codec.streams
            or pushed >= codec.remote_settings.max_concurrent_streams
            or self._count_calls() >= self._service.http2.http2_call_limit
        ):
            return
        scheme = b"https" if self._info.tls is not None else b"http"
        fields = [
            (b":method", b"GET"),
            (b":scheme", scheme),
            (b":authority", parent.head.headers[0][1]),
            (b":path", path.encode("ascii")),
            *((bytes(name).lower(), bytes(value)) for name, value in headers),
        ]
        request = parse_request(fields, self._http)
        stream_id = codec.get_next_available_stream_id()
        codec.push_stream(parent.stream_id, stream_id, fields)
        stream = HTTP2Stream(self, codec.streams[stream_id], request, True)
        self._streams[stream_id] = stream
        self._open_exchange(stream, request, True)
        self.call_soon(self._start_exchanges)
        self.output.wake()

    def request_refused(self, head: RequestHead, error: ProtocolError) -> None:
        self._owner.request_refused(head, self._info, error)

    def exchange_ended(self, exchange: Exchange) -> None:
        """Note that an exchange has no stream any more; its call may go on."""
        self._calls.add(exchange)

    def response_sent(self, stream: HTTP2Stream) -> None:
        """Note that our side of a stream has ended."""
        if stream.stream_id in self.codec.streams:
            if stream.is_upgraded:
                return
            # RFC 9113 section 8.1: the rest of the request is not needed.
            self.codec.reset(stream.stream_id, ErrorCodes.NO_ERROR)
        self._forget(stream)

    def break_off(self, stream: HTTP2Stream, code: ErrorCodes) -> None:
        """Reset a stream for a reason of ours."""
        self.codec.reset(stream.stream_id, code)
        self._forget(stream)
        self.output.wake()

    # Private.

    def _open_exchange(
        self, stream: HTTP2Stream, request: Request, is_complete: bool
    ) -> None:
        length = request.content_length
        try:
            if request.refusal is not None:
                raise request.refusal
            if length is not None and length > self._http.body_size_limit:
                raise ProtocolError("Request content is too large", 413)
            exchange = self._owner.open_exchange(stream.head, self._info, stream)
        except ProtocolError as error:
            stream.refuse(error)
            return
        stream.exchange = exchange
        if is_complete:
            stream.content_received(b"", 0, True)
        self._starting.append(stream)

    def _start_exchanges(self) -> None:
        while self._starting:
            starting, self._starting = self._starting, []
            for stream in starting:
                # Its reset may have come together with its head.
                if stream.exchange is not None:
                    stream.exchange.start()

    def _count_calls(self) -> int:
        """Return how many application calls run for this connection."""
        self._calls = {exchange for exchange in self._calls if exchange.is_running}
        return len(self._streams) + len(self._calls)

    def _stop_stream(self, stream: HTTP2Stream, error: ProtocolError) -> None:
        if isinstance(error, HTTP2Error):
            self.break_off(stream, error.code)
        else:
            stream.refuse(error)

    def _forget(self, stream: HTTP2Stream) -> None:
        """Let go of a stream that has ended on both sides."""
        if self._streams.pop(stream.stream_id, None) is None:
            return
        self._streams_ended += 1
        self.output.discard(stream)
        self.codec.acknowledge(stream.take_unread())
        if stream.is_upgraded:
            # interfaces.Transport: connection_lost comes later, never within close().
            self.call_soon(lambda: stream.connection_lost(None))
        else:
            stream.connection_lost(None)
        self._end_drained()

    def _end_drained(self) -> None:
        if self.is_draining and not self.awaits_drain and not self._streams:
            self.output.wake()
            self.call_soon(self._linger)

    def _fail_streams(self, exc: Exception | None) -> None:
        streams, self._streams = self._streams, {}
        self._starting.clear()
        for stream in streams.values():
            self.output.discard(stream)
            self.codec.streams.pop(stream.stream_id, None)
            stream.connection_lost(exc)

    def _linger(self) -> None:
        """Send what is left and drop what still comes, so that GOAWAY arrives."""
        if not self.is_lingering:
            self.is_lingering = True
            self.output.wake()
            if self._transport.can_write_eof():
                self.call_soon(self._end_writing)
            else:
                self.call_soon(self._transport.close)

    def _end_writing(self) -> None:
        self.output.flush()
        self._transport.write_eof()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > _DISCARD_LIMIT:
            self._transport.abort()
