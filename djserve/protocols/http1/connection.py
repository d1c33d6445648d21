"""One HTTP/1.1 connection: keep-alive, pipelining, upgrade, limits and its end.

Requests are taken strictly one after the other (RFC 9112 section 9.3.2): while one is
answered, what the peer sends ahead waits as bytes, up to a bound, and then reading
pauses. So at any time there is at most one exchange, and this object is its stream.
The states and the timeouts are described in ``timeouts``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from djserve.errors import ApplicationError, ProtocolError
from djserve.instrumentation.limits import note_limit
from djserve.protocols.closing import close_transport
from djserve.protocols.http1.body import BodyDecoder, open_body
from djserve.protocols.http1.request import (
    HeadLimits,
    HeadParser,
    HeadReader,
    skip_empty_lines,
)
from djserve.protocols.http1.response import EXTENSIONS, ResponseWriter
from djserve.protocols.http1.timeouts import ConnectionState, HTTP1Timeouts, Overdue
from djserve.protocols.http1.upgrade import UpgradedConnection
from djserve.protocols.limits import DISCARD_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djserve.conf.schema import HTTPConfig
    from djserve.interfaces import (
        ConnectionInfo,
        ConnectionOwner,
        Exchange,
        Headers,
        Transport,
        WireProtocol,
    )
    from djserve.protocols.http1.response import PartTiming, ResponseDefaults

# What clients with prior knowledge of HTTP/2 send first (RFC 9113 section 3.4).
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Bytes that a peer may send ahead of its turn; nginx keeps about as much.
PIPELINE_LIMIT = 64 * 1024

AT_ONCE_LIMIT = 32
"""Requests sent ahead that are answered within their start, in one turn of the loop.

Applications and files have such a bound as well, for all connections together.
"""

# An enum's members cost a descriptor each time (Python 3.11), and every request
# compares some (benchmark: http1_hello).
_IDLE = ConnectionState.IDLE
_READING_HEAD = ConnectionState.READING_HEAD
_AWAITING_CONTINUE = ConnectionState.AWAITING_CONTINUE
_RECEIVING = ConnectionState.RECEIVING
_ANSWERING = ConnectionState.ANSWERING
_DISCARDING = ConnectionState.DISCARDING
_LINGERING = ConnectionState.LINGERING
_UPGRADED = ConnectionState.UPGRADED
_CLOSED = ConnectionState.CLOSED

_TAKING_REQUESTS = (_IDLE, _READING_HEAD)
_ENDED = (_LINGERING, _CLOSED)


class HTTP1Service:
    """What all connections of one server, or of one owner in it, share."""

    __slots__ = ("config", "defaults", "limits", "owner", "reader", "timing")

    def __init__(
        self,
        owner: ConnectionOwner,
        config: HTTPConfig,
        defaults: ResponseDefaults,
        timing: PartTiming,
    ) -> None:
        self.owner = owner
        self.config = config
        self.defaults = defaults
        self.limits = HeadLimits(config)
        self.reader = HeadReader()
        self.timing = timing


class HTTP1Connection:
    """Turn a connection's bytes into exchanges, and answer invalid requests.

    It is the transport's receiver, the server's ``Connection`` and the exchange's
    ``Stream`` (interfaces).
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_discarded",
        "_exchange",
        "_info",
        "_is_draining",
        "_is_processing",
        "_is_waiting",
        "_parser",
        "_service",
        "_state",
        "_timeouts",
        "_transport",
        "_upgraded",
        "_writer",
        "body_size",
        "extensions",
        "is_put_off",
        "is_reading_paused",
        "is_writable",
        "mark",
        "pauses",
        "request_count",
    )

    def __init__(
        self,
        transport: Transport,
        info: ConnectionInfo,
        service: HTTP1Service,
    ) -> None:
        self._transport = transport
        self._info = info
        self._service = service
        self._parser = HeadParser(service.config, service.reader)
        self._writer = ResponseWriter(transport.write, service.defaults, service.timing)
        # Made at the first tick: many connections end before.
        self._timeouts: HTTP1Timeouts | None = None
        self._state: ConnectionState = _IDLE
        self._buffer = b""
        self._body: BodyDecoder | None = None
        self._exchange: Exchange | None = None
        self._upgraded: UpgradedConnection | None = None
        # The next response is the last one.
        self._is_draining = False
        # A loop over the requests runs below in the stack: none is to begin another.
        self._is_processing = False
        # What has come takes long to read: the rest of it has its turn later.
        self._is_waiting = False
        # What the timeouts ask (timeouts.Facts).
        self.mark = 0
        self.pauses = 0
        self.request_count = 0
        self.body_size = 0
        self.is_writable = True
        self.is_reading_paused = False
        self.is_put_off = False

    # Upward: the transport calls these.

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self._state in _TAKING_REQUESTS:
            self._process(data)
        elif self._body is not None:
            self._feed_body(data)
        elif self._state not in _ENDED:
            self._hold(data)

    def eof_received(self) -> None:
        """The peer is gone. Returns None, at which the loop closes the transport."""

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.is_writable = False
        self.pauses += 1
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
        if self._state is _CLOSED:
            return
        self._enter(_CLOSED)
        if self._upgraded is not None:
            upgraded, self._upgraded = self._upgraded, None
            upgraded.receiver.connection_lost(exc)
        elif self._exchange is not None:
            self._writer.drop()
            self._fail_exchange(exc)
        self._service.owner.connection_lost(self)

    # The server calls these (interfaces.Connection).

    def tick(self, now: float) -> None:
        """Check every timeout at the monotonic time ``now``, in seconds."""
        if self._upgraded is not None:
            self._upgraded.tick(now)
            return
        if self._exchange is not None:
            self._exchange.tick(now)
        timeouts = self._timeouts
        if timeouts is None:
            timeouts = self._timeouts = HTTP1Timeouts(self._service.config)
        overdue = timeouts.check(self._state, self, now)
        if overdue is not None:
            self._ACTIONS[overdue](self)

    def retire(self) -> None:
        """Let the next response be the last one, and wait for its request until then.

        An idle peer may be sending that already; a close now would look like a failure.
        """
        self._is_draining = True

    def drain(self) -> None:
        """End soon: at once if idle, else after the response under way."""
        self.retire()
        if self._upgraded is not None:
            self._upgraded.receiver.drain()
        elif self._exchange is not None:
            self._exchange.drain()
        elif self._state is _DISCARDING:
            self._linger()
        elif self._state is _IDLE and len(self._buffer) < 2:
            self._end_idle()

    @property
    def idle_since(self) -> tuple[bool, float] | None:
        """Whether a request was ever made, and since when none is under way."""
        if self._timeouts is None or self._state is not _IDLE or not self.is_writable:
            return None
        if self._is_waiting:
            return None  # A request has come, and has its turn later.
        since = self._timeouts.quiet_since(self.mark)
        return None if since is None else (self.request_count > 0, since)

    @property
    def held_size(self) -> int:
        """Bytes that wait for the peer, or from it for their receiver."""
        receiver = self._exchange if self._upgraded is None else self._upgraded
        return (
            len(self._buffer)
            + (0 if self._body is None else self._body.held_size)
            + self.get_write_buffer_size()
            + getattr(receiver, "held_size", 0)
        )

    def give_way(self) -> bool:
        """End if it is idle and its peer has sent nothing more."""
        if self.idle_since is None or self._has_input():
            return False
        self.retire()
        self._end()
        return True

    def abort_transport(self) -> None:
        """Drop the connection, with what is buffered."""
        self._service.owner.reset_transport(self._transport)

    @property
    def is_upgraded(self) -> bool:
        """Whether the connection is another protocol's now."""
        return self._state is _UPGRADED

    def get_write_buffer_size(self) -> int:
        """Return the bytes that the transport has not yet sent."""
        return self._transport.get_write_buffer_size()

    # Downward: the exchange calls these (interfaces.Stream).

    def send_informational(self, status: int, headers: Headers) -> None:
        """Send an interim response."""
        self._writer.send_informational(status, headers)

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        """Send the head and the first part of the content."""
        # Whether content follows a final response that came without "100 Continue" is
        # the client's to choose, so that nothing after it has a sure beginning.
        keep_alive = (
            self._parser.keep_alive
            and not self._is_draining
            and self._state is not _AWAITING_CONTINUE
        )
        self._writer.send_response(status, headers, data, more, keep_alive)
        if not more:
            self._response_ended()

    def send_data(self, data: bytes, more: bool) -> None:
        """Send a further part of the content."""
        self._writer.send_data(data, more)
        if not more:
            self._response_ended()

    def find_direct_socket(self) -> Any:
        """Return the socket, if what is written to it is content, as it stands.

        None with TLS, and for a transport that the loop has not made. Write to it only
        while ``get_write_buffer_size`` is 0, and pass the size to ``skip_content``.
        """
        find = getattr(self._transport, "get_extra_info", None)
        if find is None or find("sslcontext") is not None:
            return None
        return find("socket") if self._writer.sends_length else None

    def skip_content(self, size: int) -> None:
        """Take content of this size for sent."""
        self._writer.skip_content(size)

    def send_trailers(self, headers: Headers) -> None:
        """End the response with a trailer section."""
        self._writer.send_trailers(headers)
        self._response_ended()

    def push(self, path: str, headers: Headers) -> None:
        raise ApplicationError("HTTP/1.1 has no server push")

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> Transport:
        """Switch protocols (RFC 9110 section 7.8) and hand the transport over."""
        self._writer.send_upgrade(headers)
        early, self._buffer = self._buffer, b""
        self._upgraded = UpgradedConnection(
            receiver, self.connection_lost, early, self._transport
        )
        self._exchange = None
        self._enter(_UPGRADED)
        self._transport.set_protocol(self._upgraded)
        self.resume_reading()
        return self._transport

    def request_content(self) -> None:
        """Answer Expect: 100-continue, once the application reads (RFC 9110 10.1.1)."""
        if self._state is _AWAITING_CONTINUE:
            self._enter(_RECEIVING)
            self._writer.send_continue()

    def pause_reading(self) -> None:
        """Deliver no more content for now."""
        if not self.is_reading_paused:
            self.is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver content again."""
        if self.is_reading_paused:
            self.is_reading_paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Abort the response: the peer sees that it is not complete."""
        if self._writer.ends_by_close:
            # A regular end would look like the content's end (RFC 9112 section 8).
            self._service.owner.reset_transport(self._transport)
        else:
            self._writer.send_waiting()
            close_transport(self._transport)

    # Private: the state.

    def _enter(self, state: ConnectionState) -> None:
        """Change the state; nothing else does."""
        self._state = state
        self.mark += 1

    def _has_input(self) -> bool:
        """Return whether the peer has sent what has not come up yet."""
        return self._service.owner.has_input(self._transport)

    # Private: from bytes to exchanges.

    def _process(self, data: bytes) -> None:
        """Take requests from ``data`` until one is under way or more is needed.

        A peer that does not read its responses gets no further ones: each is small,
        yet together they would have no bound.
        """
        if self._buffer:
            if self._is_waiting:
                self._hold(data)
                return
            data, self._buffer = self._buffer + data, b""
        self._is_processing = True
        try:
            if self.is_writable and self._state in _TAKING_REQUESTS:
                data = self._take_request(data)
            if data:
                data = self._take_ahead(data)
        except ProtocolError as error:
            # No request of HTTP/1.1 begins so: who speaks it pays nothing for this.
            if not self._begins_http2(data) or not self._change_to_http2(data):
                self._refuse(error)
            return
        finally:
            self._is_processing = False
        if data and self._state not in _ENDED:
            self._hold(data)

    def _take_ahead(self, data: bytes) -> bytes:
        """Take what was sent ahead: so many requests now, others in a later turn.

        An exchange that answers at once gives the loop no turn in between.
        """
        left = AT_ONCE_LIMIT - 1
        while data and self.is_writable and self._state in _TAKING_REQUESTS:
            if not left:
                self._wait_for_turn()
                break
            left -= 1
            data = self._take_request(data)
        return data

    def _take_request(self, data: bytes) -> bytes:
        """Start the request at the beginning of ``data``; return what follows it."""
        if data[0] == 13:
            data = skip_empty_lines(data)
        end = data.find(b"\r\n\r\n") + 4
        if end == 3:
            self._keep_partial(data)
            return b""
        block, rest = (data, b"") if end == len(data) else (data[:end], data[end:])
        service = self._service
        if end > service.limits.small:
            service.limits.check(block)
        head = self._parser.parse(block)
        self.request_count += 1
        self._writer.request = head
        self.extensions: Mapping[str, dict[str, Any]] = EXTENSIONS[head.http_version]
        state = _ANSWERING
        if head.has_body:
            self._body = open_body(head, service.config)
            self.body_size = 0
            state = _AWAITING_CONTINUE if head.expects_continue else _RECEIVING
        exchange = service.owner.open_exchange(head, self._info, self)
        self._exchange = exchange
        self._enter(state)
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

    def _begins_http2(self, data: bytes) -> bool:
        return not self.request_count and HTTP2_PREFACE.startswith(data[:24])

    def _change_to_http2(self, data: bytes) -> bool:
        """Hand the transport and what has come over to HTTP/2, if the owner lets it."""
        receiver = self._service.owner.change_to_http2(
            self, self._transport, self._info
        )
        if receiver is None:
            return False
        self._upgraded = UpgradedConnection(receiver, self.connection_lost)
        self._enter(_UPGRADED)
        self._transport.set_protocol(receiver)
        receiver.data_received(data)
        return True

    def _keep_partial(self, data: bytes) -> None:
        """Keep the beginning of a head. Raises ProtocolError if it cannot be one."""
        if len(data) > 1:
            self._service.limits.check_partial(data)
            if self._state is _IDLE:
                self._enter(_READING_HEAD)
        self._buffer = data

    def _feed_body(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        if self._state is _AWAITING_CONTINUE:
            self._enter(_RECEIVING)
        self.body_size += len(data)
        try:
            chunks = body.feed(data)
        except ProtocolError as error:
            self._refuse(error)
            return
        if self._exchange is None:
            self._discard(len(data))
        else:
            if body.is_spent:
                # They are tiny, and each of them would cost an exchange a call.
                chunks = [b"".join(chunks)]
            for chunk in chunks:
                self._exchange.data_received(chunk)
        if body.is_spent:
            self._wait_for_turn()
        elif body.is_complete and self._state not in _ENDED:
            self._end_body(body.rest)

    def _wait_for_turn(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._transport.pause_reading()
            self._service.owner.read_later(self._read_on)

    def _read_on(self) -> None:
        self._is_waiting = False
        if self._body is not None and self._state not in _ENDED:
            self._feed_body(b"")
        elif self._state in _TAKING_REQUESTS:
            self._continue()
        if not (self._is_waiting or self.is_reading_paused or self._state is _CLOSED):
            self._transport.resume_reading()

    def _end_body(self, rest: bytes) -> None:
        """Go on from a request's complete content."""
        self._body = None
        if self._exchange is not None:
            self._enter(_ANSWERING)
            # In its place first: the end may be answered at once.
            if rest:
                self._hold(rest)
            self._exchange.eof_received()
        else:
            self._enter(_IDLE)
            self._buffer = rest
            self._continue()

    def _hold(self, data: bytes) -> None:
        """Keep what the peer sent ahead of its turn."""
        if self._upgraded is not None:
            self._upgraded.hold(data)
        else:
            self._buffer += data
            if len(self._buffer) > PIPELINE_LIMIT:
                self.pause_reading()

    def _continue(self) -> None:
        """Take the next request from what was sent ahead, unless a loop below does."""
        if self._buffer and not (self._is_processing or self._is_waiting):
            data, self._buffer = self._buffer, b""
            self._process(data)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > DISCARD_LIMIT:
            self._linger()

    def _response_ended(self) -> None:
        """The response is complete: take the next request, or end."""
        self._exchange = None
        if self._writer.must_close or self._is_draining:
            self._linger() if self._body is not None else self._end()
            return
        self._enter(_IDLE if self._body is None else _DISCARDING)
        if self.is_reading_paused:
            self.resume_reading()
        if self._body is not None:
            self._discarded = 0  # of the content's bytes
        elif self._buffer:
            self._continue()

    # Private: refusals, timeouts and the end.

    def _refuse(self, error: ProtocolError) -> None:
        """Answer a request that cannot be served and close (RFC 9112 section 9.6)."""
        writer = self._writer
        was_answered = writer.is_started or self._state is _DISCARDING
        self._fail_exchange(None if was_answered else error)
        if was_answered:
            self._close()
            return
        self._service.owner.request_refused(writer.request, self._info, error)
        writer.send_refusal(error)
        self._linger()

    def _refuse_head(self) -> None:
        self._refuse(
            ProtocolError("The request head is late", 408, setting="HEADER_TIMEOUT")
        )

    def _refuse_content(self) -> None:
        self._refuse(
            ProtocolError("The content is too slow", 408, setting="BODY_MIN_RATE")
        )

    def _end_idle(self) -> None:
        """Close an idle connection; at the next tick if its peer has sent something.

        To a peer, a close that meets its request looks like a failure. The response to
        that is the last one; bytes that are not a request put off the end only once.
        """
        self.retire()
        # What waits for its turn has come, too.
        if not self._is_waiting and (self.is_put_off or not self._has_input()):
            self._end()
        self.is_put_off = True

    def _end(self) -> None:
        """Close between requests; on the server's own accord only our side at first.

        What the peer sends until it sees that is dropped. At a full close a reset would
        answer it, and might destroy what the peer has yet to read (RFC 9112 section
        9.6). A transport of TLS cannot end one side alone: it closes, and on uvloop it
        waits for the peer's end by itself.
        """
        if self._is_draining and self._transport.can_write_eof():
            self._end_sending()
        else:
            self._close()

    def _linger(self) -> None:
        """Close once the peer has had the time to read the response.

        With unread bytes in the socket, a close would reset the connection and the
        response might never be read (RFC 9112 section 9.6).
        """
        self._body = None
        self._buffer = b""
        self._end_sending()

    def _end_sending(self) -> None:
        """Say that nothing more comes; over TLS, the response alone has to say it.

        To close there would answer what is on its way to us with a reset, and the peer
        might never read the response.
        """
        self._enter(_LINGERING)
        if self._transport.can_write_eof():
            # asyncio's raises if the peer has reset; the loop is about to tell that.
            with suppress(OSError):
                self._transport.write_eof()
        self.resume_reading()

    def _close(self) -> None:
        """Close the transport after what is buffered; take nothing more."""
        self._enter(_LINGERING)
        self._body = None
        self._writer.send_waiting()
        close_transport(self._transport)

    def _abort_stalled(self) -> None:
        note_limit("WRITE_TIMEOUT")
        self.abort_transport()

    def _close_lingering(self) -> None:
        close_transport(self._transport)

    def _fail_exchange(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.connection_lost(exc)

    _ACTIONS: ClassVar[dict[Overdue, Callable[[HTTP1Connection], None]]] = {
        Overdue.READING: _abort_stalled,
        Overdue.REQUEST: _end_idle,
        Overdue.HEAD: _refuse_head,
        Overdue.CONTENT: _refuse_content,
        Overdue.END: _close_lingering,
    }
