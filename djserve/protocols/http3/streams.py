"""The request streams of one connection: opened, found, counted and forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from djserve.instrumentation.limits import note_limit
from djserve.protocols.http2.errors import Allowance, HTTP2Error
from djserve.protocols.http3.errors import ErrorCode, HTTP3Error
from djserve.protocols.http3.qpack import FieldCodec
from djserve.protocols.http3.request import (
    WITH_SESSIONS,
    WITHOUT_SESSIONS,
    parse_priority,
)
from djserve.protocols.http3.sessions import SessionTable
from djserve.protocols.http3.stream import HTTP3Stream
from djserve.protocols.multiplexed.streams import (
    defer_drains,
    drain_streams,
    keep_running,
)
from djserve.protocols.multiplexed.timeouts import ResponseStalled

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from djserve.conf.schema import HTTP2Config, HTTPConfig
    from djserve.errors import ProtocolError
    from djserve.interfaces import (
        ConnectionInfo,
        ConnectionOwner,
        Exchange,
        Headers,
        MultiplexTransport,
        RequestHead,
    )
    from djserve.protocols.http3.response import ServerFields

# PRIORITY_UPDATE frames that may come before their request (RFC 9218 section 7.2).
_EARLY_PRIORITIES_LIMIT = 32

# Frames without effect that an honest peer may send for each request it makes.
_IDLE_FRAMES_PER_REQUEST = 3.0


@dataclass(frozen=True, slots=True)
class HTTP3Service:
    """What all HTTP/3 connections of a server have in common.

    ``limits`` are those of HTTP/2, which hold for each connection here too.
    ``webtransport``: clients may open sessions.
    """

    owner: ConnectionOwner
    http: HTTPConfig
    limits: HTTP2Config
    fields: ServerFields
    call_soon: Callable[[Callable[[], None]], object]
    webtransport: bool = False


class StreamTable:
    """Carry a connection's requests (stream.StreamOwner).

    ``on_end`` is called when a stream has ended.
    """

    __slots__ = (
        "_call_limit",
        "_calls",
        "_codec",
        "_early_priorities",
        "_idle_frames",
        "_info",
        "_late",
        "_new",
        "_on_end",
        "_owner",
        "_resets",
        "_streams",
        "_waiting",
        "call_soon",
        "ended_count",
        "fields",
        "http",
        "is_draining",
        "last_id",
        "protocols",
        "request_count",
        "sessions",
        "transport",
    )

    def __init__(
        self,
        transport: MultiplexTransport,
        codec: FieldCodec,
        info: ConnectionInfo,
        service: HTTP3Service,
        on_end: Callable[[], None],
    ) -> None:
        self.transport = transport
        self.http = service.http
        self.fields = service.fields
        self.call_soon = service.call_soon
        self.sessions: SessionTable | None = None
        self.protocols: Container[bytes] = WITHOUT_SESSIONS
        if service.webtransport:
            self.sessions = SessionTable(transport, self._is_unanswered)
            self.protocols = WITH_SESSIONS
        self._codec = codec
        self._info = info
        self._owner = service.owner
        self._on_end = on_end
        limits = service.limits
        self._call_limit = limits.http2_call_limit
        self._resets = Allowance(
            "resets", limits.http2_reset_limit, "HTTP2_RESET_LIMIT"
        )
        self._idle_frames = Allowance(
            "frames without content",
            limits.http2_control_frame_limit,
            "HTTP2_CONTROL_FRAME_LIMIT",
        )
        self._streams: dict[int, HTTP3Stream] = {}
        self._new: list[HTTP3Stream] = []
        # Streams whose head is not complete, with the time they were first seen so.
        self._late: dict[int, float] = {}
        self._early_priorities: dict[int, bytes] = {}
        self._waiting: set[HTTP3Stream] = set()
        # Exchanges whose stream has ended while their application call went on.
        self._calls: set[Exchange] = set()
        self.is_draining = False
        self.last_id = -4
        self.request_count = 0
        self.ended_count = 0

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def held_size(self) -> int:
        """Bytes that wait on all streams, either way."""
        size = sum(stream.held_size for stream in self._streams.values())
        return size if self.sessions is None else size + self.sessions.held_size

    # The connection calls these.

    def receive(self, stream_id: int, data: bytes, is_last: bool) -> None:
        """Take bytes of a stream, a new one included. Raises HTTP3Error."""
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = HTTP3Stream(self, stream_id)
            self._streams[stream_id] = stream
            self.last_id = max(self.last_id, stream_id)
        was_in_block = stream.is_in_block
        try:
            stream.receive(data, is_last)
        except HTTP3Error as error:
            if not error.is_of_stream:
                raise
            self._record(stream, error)
            self._spend(self._resets)
            self.break_off(stream, error.code)
            return
        if was_in_block and not stream.is_in_block:
            self._new.append(stream)
            early = self._early_priorities.pop(stream_id, None)
            if early is not None:
                self.transport.set_priority(stream_id, *parse_priority(early))

    def priority_updated(self, stream_id: int, value: bytes) -> None:
        """Order a stream by a PRIORITY_UPDATE, which counts more than its field."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.is_in_block:
            self.transport.set_priority(stream_id, *parse_priority(value))
        elif (stream is not None or stream_id > self.last_id) and len(
            self._early_priorities
        ) < _EARLY_PRIORITIES_LIMIT:
            self._early_priorities[stream_id] = value

    def start_exchanges(self) -> None:
        """Run the applications of the requests that came together."""
        new, self._new = self._new, []
        for stream in new:
            if stream.stream_id not in self._streams:
                continue
            self.request_count += 1
            self._idle_frames.earn(_IDLE_FRAMES_PER_REQUEST)
            if self._has_too_many_calls():
                # CVE-2023-44487: a stream that is reset no longer counts as open, but
                # its application call may run on.
                note_limit("HTTP2_CALL_LIMIT")
                self._spend(self._resets)
                self.break_off(stream, ErrorCode.REQUEST_REJECTED)
            elif stream.open():
                if stream.exchange is not None:
                    stream.exchange.start()
                if self.is_draining:
                    stream.drain()

    def stream_reset(self, stream_id: int, code: ErrorCode) -> None:
        """The peer has given a stream up: so do we."""
        stream = self._streams.get(stream_id)
        if stream is None:
            # Its first bytes were lost, or never sent. It is open until our side has
            # ended too, and counts among those that the peer may open.
            self.transport.reset_stream(stream_id, code)
            self.transport.forget_stream(stream_id)
            if self.sessions is None:
                # A session's streams may be reset as often as its client likes.
                self._spend(self._idle_frames)
            return
        self._spend(self._resets)
        self.break_off(stream, code)

    def reject(self, stream_id: int) -> None:
        """Refuse a stream that may be asked for again elsewhere."""
        self.transport.reset_stream(stream_id, ErrorCode.REQUEST_REJECTED)
        self.transport.stop_stream(stream_id, ErrorCode.REQUEST_REJECTED)
        self.transport.forget_stream(stream_id)

    def bytes_sent(self) -> None:
        """Resume the streams that wait for room, and forget those that are done."""
        if self.sessions is not None:
            self.sessions.bytes_sent()
        for stream in list(self._waiting):
            if stream.bytes_sent():
                self._waiting.discard(stream)
                self.check_ended(stream)

    def refill(self, seconds: float) -> None:
        """Give back what a peer may do in this time."""
        self._resets.refill(seconds)
        self._idle_frames.refill(seconds)

    def tick(self, now: float) -> None:
        """Check the timeouts of every stream."""
        for stream in list(self._streams.values()):
            stream.tick(now)
            overdue = self._find_overdue(stream, now)
            if isinstance(overdue, HTTP3Error | ResponseStalled):
                self._record(stream, overdue)
                self.break_off(stream, ErrorCode.EXCESSIVE_LOAD)
            elif overdue is not None:
                stream.refuse(overdue)
        self._late = {key: since for key, since in self._late.items() if key in self}
        self._count_calls()

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._streams

    def defer_drains(self) -> list[Callable[[], None]]:
        """Return what drains each upgraded stream; ``drain`` then leaves it alone."""
        return defer_drains(self._streams.values())

    def drain(self) -> None:
        """Ask every stream for its end, those that come later included."""
        self.is_draining = True
        drain_streams(self._streams.values())

    def fail(self, exc: Exception | None) -> None:
        """End every stream without a word on the wire."""
        streams, self._streams = self._streams, {}
        self._new.clear()
        self._waiting.clear()
        for stream in streams.values():
            stream.connection_lost(exc)

    # The streams call these (stream.StreamOwner).

    def encode_block(self, stream_id: int, fields: Headers) -> bytes:
        return self._codec.encode(stream_id, fields)

    def decode_block(self, stream_id: int, block: bytes) -> Headers:
        return self._codec.decode(stream_id, block)

    def open_exchange(self, stream: HTTP3Stream) -> Exchange:
        assert stream.head is not None
        return self._owner.open_exchange(stream.head, self._info, stream)

    def request_refused(
        self, stream: HTTP3Stream, head: RequestHead, error: ProtocolError
    ) -> None:
        self._owner.request_refused(head, self._info, error)

    def idle_frame_received(self) -> None:
        """Count a frame without effect. Raises HTTP3Error for too many."""
        self._spend(self._idle_frames)

    def exchange_ended(self, exchange: Exchange) -> None:
        self._calls.add(exchange)

    def stream_waits(self, stream: HTTP3Stream) -> None:
        self._waiting.add(stream)

    def check_ended(self, stream: HTTP3Stream) -> None:
        if stream.is_ended:
            self._forget(stream)
        elif stream.waiting_size:
            self._waiting.add(stream)

    def break_off(self, stream: HTTP3Stream, code: ErrorCode) -> None:
        self.transport.reset_stream(stream.stream_id, code)
        self.transport.stop_stream(stream.stream_id, code)
        self._forget(stream)

    # Private.

    def _is_unanswered(self, stream_id: int) -> bool:
        stream = self._streams.get(stream_id)
        return stream is not None and stream.is_unanswered

    def _find_overdue(self, stream: HTTP3Stream, now: float) -> ProtocolError | None:
        if not stream.is_in_block:
            return stream.find_overdue(now)
        since = self._late.setdefault(stream.stream_id, now)
        if now - since < self.http.header_timeout:
            return None
        return HTTP3Error(
            "A request's head is late",
            ErrorCode.EXCESSIVE_LOAD,
            is_of_stream=True,
            setting="HEADER_TIMEOUT",
        )

    def _record(self, stream: HTTP3Stream, error: ProtocolError) -> None:
        """Have a request that is broken off logged; an exchange logs it by itself."""
        if stream.is_handed_on:
            note_limit(error.setting)
        else:
            self._owner.request_refused(stream.head, self._info, error)

    def _spend(self, allowance: Allowance) -> None:
        try:
            allowance.spend()
        except HTTP2Error as error:
            raise HTTP3Error(
                error.reason, ErrorCode.EXCESSIVE_LOAD, setting=error.setting
            ) from error

    def _has_too_many_calls(self) -> bool:
        limit = self._call_limit
        if len(self._streams) + len(self._calls) <= limit:
            return False
        return self._count_calls() > limit

    def _count_calls(self) -> int:
        """Return how many application calls run for this connection."""
        self._calls = keep_running(self._calls)
        return len(self._streams) + len(self._calls)

    def _forget(self, stream: HTTP3Stream) -> None:
        """Drop a stream that has ended on both sides."""
        self._early_priorities.pop(stream.stream_id, None)
        if self._streams.pop(stream.stream_id, None) is None:
            return
        self.ended_count += 1
        self._waiting.discard(stream)
        self.transport.forget_stream(stream.stream_id)
        if self.sessions is not None:
            self.sessions.connect_ended(stream.stream_id)
        stream.end()
        self._on_end()
