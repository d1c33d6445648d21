"""One HTTP/1.1 connection: keep-alive, pipelining, upgrade, limits and its end.

Requests are taken strictly one after the other (RFC 9112 section 9.3.2): while one is
answered, what the peer sends ahead waits as bytes, up to a bound, and then reading
pauses. So at any time there is at most one exchange, and this object is its stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.errors import ProtocolError
from djserve.protocols.http1.body import BodyDecoder, open_body
from djserve.protocols.http1.limits import (
    DISCARD_LIMIT,
    PIPELINE_LIMIT,
    HeadLimits,
    skip_empty_lines,
)
from djserve.protocols.http1.request import HeadParser
from djserve.protocols.http1.stream import HTTP1Stream
from djserve.protocols.http1.timeouts import HTTP1Timeouts
from djserve.protocols.http1.upgrade import UpgradedConnection

if TYPE_CHECKING:
    from djserve.conf.schema import HTTPConfig
    from djserve.interfaces import (
        ConnectionInfo,
        ConnectionOwner,
        Headers,
        Transport,
        WireProtocol,
    )
    from djserve.protocols.http1.response import ResponseDefaults


class HTTP1Connection(HTTP1Stream):
    """Turn a connection's bytes into exchanges, and answer what is no valid request."""

    __slots__ = (
        "_body",
        "_buffer",
        "_config",
        "_discarded",
        "_is_lost",
        "_is_processing",
        "_limits",
        "_parser",
        "_timeouts",
        "_upgraded",
        "body_size",
        "request_count",
    )

    def __init__(
        self,
        transport: Transport,
        info: ConnectionInfo,
        owner: ConnectionOwner,
        config: HTTPConfig,
        defaults: ResponseDefaults,
    ) -> None:
        super().__init__(transport, info, owner, defaults)
        self._config = config
        self._parser = HeadParser(config)
        self._limits = HeadLimits(config)
        self._timeouts = HTTP1Timeouts(config)
        self._buffer = b""
        self._body: BodyDecoder | None = None
        self._discarded = 0
        self._is_processing = False
        self._upgraded: WireProtocol | None = None
        self._is_lost = False
        self.request_count = 0
        self.body_size = 0

    # Upward: the transport calls these.

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self._body is not None:
            self._feed_body(data)
        elif self.is_lingering:
            return
        elif self._exchange is None:
            self._process(data)
        else:
            self._hold(data)

    def eof_received(self) -> None:
        """The peer is gone. Returns None, at which the loop closes the transport."""

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.is_writable = False
        self._timeouts.pauses += 1
        if self._exchange is not None:
            self._exchange.pause_writing()

    def resume_writing(self) -> None:
        """The transport takes more."""
        self.is_writable = True
        if self._exchange is not None:
            self._exchange.resume_writing()
        else:
            self.resume_reading()
            self._continue()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, for whatever reason.

        After an upgrade too: a transport of TLS names whom it will tell a turn of the
        loop before it does, and the upgrade may come in between. Told again, by the
        new protocol, it does nothing.
        """
        if self._is_lost:
            return
        self._is_lost = True
        self.is_lingering = True
        self._parser.close()
        if self._upgraded is not None:
            self._upgraded.connection_lost(exc)
        else:
            self._fail_exchange(exc)
        self._owner.connection_lost(self)

    # The server calls these.

    def tick(self, now: float) -> None:
        """Check every timeout at the monotonic time ``now``, in seconds."""
        if self._upgraded is not None:
            self.flush_upgraded(self._upgraded)
            self._upgraded.tick(now)
            return
        if self._exchange is not None:
            self._exchange.tick(now)
        self._timeouts.tick(self, now)

    def retire(self) -> None:
        """Let the next response be the last one, and wait for its request until then.

        An idle peer may be sending that already; a close now would look like a failure.
        """
        self._keep_alive = False
        self._is_draining = True

    def drain(self) -> None:
        """End soon: at once where idle, else after the response under way."""
        self.retire()
        if self._upgraded is not None:
            self._upgraded.drain()
        elif self._exchange is not None:
            self._exchange.drain()
        elif self._body is not None:
            self._linger()
        elif len(self._buffer) < 2 and not self.is_lingering:
            self._timeouts.end_idle(self)

    # For timeouts. A head under way has two bytes at least: one alone may be the first
    # half of an empty line, and a peer that sends nothing else must count as idle. A
    # peer that does not read its last response is the write timeout's affair.

    @property
    def is_idle(self) -> bool:
        """Whether neither a request nor a part of one is under way."""
        return self._is_between_requests() and len(self._buffer) < 2

    @property
    def idle_since(self) -> tuple[bool, float] | None:
        """Whether a request was ever made, and since when none is under way."""
        if not self.is_idle or self.is_lingering or self._upgraded is not None:
            return None
        since = self._timeouts.quiet_since(self)
        return None if since is None else (self.request_count > 0, since)

    @property
    def held_size(self) -> int:
        """Bytes that wait for the peer, or from it for who takes them."""
        receiver = self._exchange if self._upgraded is None else self._upgraded
        return (
            len(self._buffer)
            + self.get_write_buffer_size()
            + getattr(receiver, "held_size", 0)
        )

    def give_way(self) -> bool:
        """End if it is idle and its peer has sent nothing more."""
        if self.idle_since is None or self.has_input:
            return False
        self.retire()
        self.end()
        return True

    @property
    def is_upgraded(self) -> bool:
        """Whether the connection is another protocol's now."""
        return self._upgraded is not None

    @property
    def is_reading_head(self) -> bool:
        """Whether a part of a request head has come."""
        return self._is_between_requests() and len(self._buffer) > 1

    @property
    def is_reading_body(self) -> bool:
        """Whether the peer is expected to send content now."""
        return self._body is not None and not (
            self._is_reading_paused or self._awaits_continue
        )

    def refuse(self, error: ProtocolError) -> None:
        """Answer a request that cannot be served and close (RFC 9112 section 9.6)."""
        head = self._head
        is_dropping_content = self._body is not None and head is None
        was_answered = self._response is not None or is_dropping_content
        self._fail_exchange(None if was_answered else error)
        if was_answered:
            self.close()
            return
        self._owner.request_refused(head, self._info, error)
        self._write_refusal(error)
        self._linger()

    # Stream: what the exchange calls beside HTTP1Stream's.

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> Transport:
        """Switch protocols (RFC 9110 section 7.8) and hand the transport over."""
        self._write_upgrade(headers)
        self._upgraded = receiver
        self._exchange = None
        upgraded = UpgradedConnection(self, receiver, self._transport)
        self._transport.set_protocol(upgraded)
        self.resume_reading()
        return self._transport

    # Private.

    def _process(self, data: bytes) -> None:
        """Take requests from ``data`` until one is under way or more is needed.

        A peer that does not read its responses gets no further ones: each is small,
        yet together they would have no bound.
        """
        was_reading = False
        if self._buffer:
            was_reading = len(self._buffer) > 1
            data, self._buffer = self._buffer + data, b""
        self._is_processing = True
        try:
            while (
                data
                and self._exchange is None
                and self._body is None
                and self.is_writable
                and not self.is_lingering
                and self._upgraded is None
            ):
                data = self._take_request(data)
        except ProtocolError as error:
            self.refuse(error)
            return
        finally:
            self._is_processing = False
        if self._buffer and not was_reading and len(self._buffer) > 1:
            self.mark += 1
        if data and not self.is_lingering:
            self._hold(data)

    def _take_request(self, data: bytes) -> bytes:
        """Start the request at the beginning of ``data``; return what follows it."""
        if data[0] == 13:
            data = skip_empty_lines(data)
        end = data.find(b"\r\n\r\n") + 4
        if end == 3:
            if len(data) > 1:
                self._limits.check_partial(data)
            self._buffer = data
            return b""
        block = data if end == len(data) else data[:end]
        if end > self._limits.small:
            self._limits.check(block)
        head = self._parser.parse(block)
        self.request_count += 1
        self.mark += 1
        self._begin_response(head, self._parser.keep_alive)
        if head.has_body:
            self._body = open_body(head, self._config)
            self._awaits_continue = head.expects_continue
            self.body_size = 0
        exchange = self._owner.open_exchange(head, self._info, self)
        self._exchange = exchange
        rest = data[end:]
        if self._body is not None:
            if rest:
                self._feed_body(rest)
            rest = b""
        elif head.upgrade is None:
            exchange.eof_received()
        if self._exchange is exchange:
            exchange.start()
        if self._buffer:
            rest, self._buffer = self._buffer, b""
        return rest

    def _feed_body(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        self._awaits_continue = False
        self.body_size += len(data)
        try:
            chunks = body.feed(data)
        except ProtocolError as error:
            self.refuse(error)
            return
        if self._exchange is None:
            self._discard(len(data))
        else:
            for chunk in chunks:
                self._exchange.data_received(chunk)
        if not body.is_complete:
            return
        self._body = None
        self.mark += 1
        if self._exchange is not None:
            # In its place first: the end may be answered at once.
            if body.rest:
                self._hold(body.rest)
            self._exchange.eof_received()
        elif not self.is_lingering:
            self._buffer = body.rest
            self._continue()

    def _hold(self, data: bytes) -> None:
        """Keep what the peer sent ahead of its turn."""
        self._buffer += data
        if len(self._buffer) > PIPELINE_LIMIT:
            self.pause_reading()

    def _response_ended(self, close: bool) -> None:
        """The response is complete: go on to the next request, or end."""
        self._exchange = None
        self._response = None
        self._head = None
        self.mark += 1
        if close:
            self._linger() if self._body is not None else self.end()
            return
        # What is left of the content is dropped; the next request may follow.
        self._discarded = 0
        self.resume_reading()
        if self._body is None:
            self._continue()

    def _continue(self) -> None:
        """Take the next request from what was sent ahead, unless a loop below does."""
        if not self._is_processing and self._buffer:
            data, self._buffer = self._buffer, b""
            self._process(data)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > DISCARD_LIMIT and not self.is_lingering:
            self._linger()

    def _linger(self) -> None:
        """Close once the peer has had the time to read the response.

        With unread bytes in the socket, a close would reset the connection and the
        response might never be read (RFC 9112 section 9.6).
        """
        self._body = None
        self._buffer = b""
        self._end_sending()

    def _fail_exchange(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.connection_lost(exc)

    def flush_upgraded(self, receiver: WireProtocol) -> None:
        """Deliver what the peer sent before the switch."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            self.resume_reading()
            receiver.data_received(data)

    def _is_between_requests(self) -> bool:
        return self._exchange is None and self._body is None and self.is_writable
