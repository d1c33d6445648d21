"""The map on one page: what each layer calls on its neighbours.

Upward, bytes and events arrive by the methods of ``Receiver``; the same five serve
for a connection on its transport, for a request on its stream, and for a WebSocket on
either. Downward, ``Transport`` takes bytes and ``Stream`` takes a response.
Everything here is synchronous; no method blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from djserve.errors import ProtocolError

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Field lines in order; names in lower case once they are inside djserve."""


# The close codes of RFC 6455 section 7.4 that the server itself uses.
CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_NO_STATUS = 1005
CLOSE_ABNORMAL = 1006
CLOSE_INVALID_DATA = 1007
CLOSE_POLICY_VIOLATION = 1008
CLOSE_TOO_BIG = 1009
CLOSE_INTERNAL_ERROR = 1011
CLOSE_SERVICE_RESTART = 1012


class ThreadStats(Protocol):
    """Figures of the threads that run synchronous code (a handlers.PoolStats)."""

    @property
    def threads(self) -> int: ...

    @property
    def running(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    @property
    def parked(self) -> int: ...

    @property
    def queued(self) -> int: ...

    @property
    def oldest_wait(self) -> float: ...

    @property
    def by_view(self) -> Mapping[str, tuple[int, int]]:
        """Threads of each view, and its calls that wait."""


class ConnectionInfo:
    """What is known of a connection before its first byte: one for each connection.

    ``client`` and ``server`` are as in the ASGI scope: ``(host, port)``, or for unix
    sockets ``None`` and ``(path, None)``. ``tls`` is the scope's TLS extension (ASGI
    TLS 0.2) or None on a cleartext connection. ``is_unix`` marks a unix-socket peer.
    ``alpn`` is the protocol negotiated by TLS (RFC 7301), "" if there is none.
    ``is_proxied`` marks one whose peer, a trusted proxy, has named the client by the
    PROXY protocol.
    """

    __slots__ = ("alpn", "client", "is_proxied", "is_unix", "server", "tls")

    def __init__(
        self,
        client: tuple[str, int] | None,
        server: tuple[str, int | None] | None,
        tls: dict[str, Any] | None = None,
        is_unix: bool = False,
        alpn: str = "",
        is_proxied: bool = False,
    ) -> None:
        self.alpn = alpn
        self.client = client
        self.is_proxied = is_proxied
        self.server = server
        self.tls = tls
        self.is_unix = is_unix


class Repetition:
    """What a head that came again, byte for byte, on one connection keeps.

    ``described`` is for what describes requests: when, with what status and size, and
    what was made of them, the line and the fields. ``scope`` is what its scopes are
    copies of, if it has had one.
    """

    __slots__ = ("described", "scope")

    def __init__(self) -> None:
        self.described: tuple[str, int, int, bytes] = ("", 0, 0, b"")
        self.scope: dict[str, Any] | None = None


class RequestHead:
    """One request's head, parsed and checked once; nothing is serialised again.

    ``method`` is in upper case as received. ``raw_path`` and ``query`` are the target's
    bytes (absolute-form already reduced). ``http_version`` is "1.0", "1.1", "2" or
    "3". ``content_length`` is None if the length is not known; ``has_body``
    says whether any content may follow. ``upgrade`` is the protocol asked for, in lower
    case (b"websocket", b"webtransport"), or None. ``field_lines`` are the bytes that
    ``headers`` were made of, if the next request is likely to have the same ones, else
    b"": what is made of them may be kept. A head with a ``repetition`` stands for all
    requests of the same bytes, so that nothing of it may be changed, nor handed to an
    application that may.
    """

    __slots__ = (
        "content_length",
        "expects_continue",
        "field_lines",
        "has_body",
        "headers",
        "http_version",
        "method",
        "query",
        "raw_path",
        "repetition",
        "upgrade",
    )

    def __init__(
        self,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: Headers,
        http_version: str,
    ) -> None:
        self.method = method
        self.raw_path = raw_path
        self.query = query
        self.headers = headers
        self.http_version = http_version
        self.content_length: int | None = None
        self.has_body = False
        self.expects_continue = False
        self.field_lines = b""
        self.repetition: Repetition | None = None
        self.upgrade: bytes | None = None

    def copy(self, headers: Headers) -> RequestHead:
        """Return the same head, which has no content, with other headers."""
        head = RequestHead(
            self.method, self.raw_path, self.query, headers, self.http_version
        )
        head.field_lines = self.field_lines
        head.repetition = self.repetition
        return head


class Transport(Protocol):
    """The way down for bytes: a socket's transport, or an upgraded stream.

    ``write`` never blocks; when its buffer is full the receiver's ``pause_writing`` is
    called. ``close`` sends what is buffered first; ``abort`` drops it. Both lead to
    ``connection_lost``, once, later.
    """

    def write(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def can_write_eof(self) -> bool: ...
    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def set_protocol(self, receiver: Receiver, /) -> None:
        """Hand all that comes up from now on to another receiver."""


class MultiplexTransport(Protocol):
    """The way down for a connection of many streams, each with flow control (QUIC).

    Nothing is sent before the caller's turn of the loop ends, or ``flush``.
    """

    def open_stream(self, is_unidirectional: bool = True, /) -> int:
        """Return the number of a new stream; a unidirectional one has no answer."""

    def send_datagram(self, data: bytes, /) -> None:
        """Send bytes once, which may get lost (RFC 9221)."""

    def write_stream(self, stream_id: int, data: bytes, is_last: bool, /) -> None: ...
    def reset_stream(self, stream_id: int, code: int, /) -> None:
        """End our side of a stream at once."""

    def stop_stream(self, stream_id: int, code: int, /) -> None:
        """Ask the peer to end its side of a stream."""

    def acknowledge(self, stream_id: int, size: int, /) -> None:
        """Give the peer credit for bytes that have been used."""

    def forget_stream(self, stream_id: int, /) -> None:
        """Deliver nothing more of a stream; all that it sent counts as used."""

    def set_priority(
        self, stream_id: int, urgency: int, is_incremental: bool, /
    ) -> None:
        """Order a stream among those that have something to send (RFC 9218)."""

    def is_blocked(self, stream_id: int, /) -> bool:
        """Return whether a stream of ours waits until the peer lets it begin."""

    def has_begun(self, stream_id: int, /) -> bool:
        """Return whether a stream of the peer's has given its first bytes, or its end.

        So has one that is over. Bytes of one stream may come before those of another
        that was opened earlier.
        """

    def waiting_size(self, stream_id: int, /) -> int:
        """Return the bytes of a stream that have not been sent for the first time."""

    def sent_size(self, stream_id: int, /) -> int:
        """Return the bytes of a stream that have been sent at least once."""

    def ping(self) -> None:
        """Ask the peer for a sign of life; ``ping_acknowledged`` follows."""

    @property
    def unacknowledged_size(self) -> int:
        """Bytes of all streams that the peer has not confirmed."""

    def flush(self) -> None: ...
    def end(self, code: int, reason: str, /) -> None:
        """Close the connection at once, with a code; ``connection_lost`` follows."""

    def abort(self) -> None: ...


class StreamReceiver(Protocol):
    """Who gets the streams of a connection; ``batch_received`` after each datagram."""

    def stream_received(
        self, stream_id: int, data: bytes, is_last: bool, /
    ) -> None: ...
    def stream_reset(self, stream_id: int, code: int, /) -> None:
        """The peer has ended its side of a stream before its end."""

    def stream_stopped(self, stream_id: int, code: int, /) -> None:
        """The peer takes no more of a stream, which has been reset."""

    def datagram_received(self, data: bytes, /) -> None:
        """Take a datagram (RFC 9221)."""

    def batch_received(self) -> None: ...
    def ping_acknowledged(self) -> None: ...
    def bytes_sent(self) -> None:
        """Some of what waited has been sent."""

    def connection_lost(self, exc: Exception | None, /) -> None: ...


class Receiver(Protocol):
    """The way up: who gets the bytes of a transport, or the body of a request.

    ``data_received`` gets a non-empty chunk. ``eof_received`` tells the regular end (of
    a request's body, or of the peer's sending side). ``pause_writing`` and
    ``resume_writing`` tell when the way down is full and when it takes more again.
    ``connection_lost`` comes once, last, at every end but the completed exchange.
    """

    def data_received(self, data: bytes, /) -> None: ...
    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None, /) -> None: ...


class WireProtocol(Receiver, Protocol):
    """What the server keeps for a connection, and a connection for a request.

    ``tick`` is called by the sweep about once a second with a monotonic time in
    seconds; every timeout hangs on it. ``drain`` asks for a soon end: finish what runs,
    take nothing new, then close.
    """

    def tick(self, now: float, /) -> None: ...
    def drain(self) -> None: ...


class Ticking(Protocol):
    """Something with timeouts that belongs to no connection."""

    def tick(self, now: float, /) -> None: ...


class ReadBuffer(Protocol):
    """Memory that a transport may read into; a loop's connections share it."""

    view: memoryview


class BufferedReceiver(WireProtocol, Protocol):
    """A receiver that can read its bytes where the transport has put them.

    ``buffer_updated`` tells how many bytes are new, from the buffer's beginning; it is
    called instead of ``data_received``. None: there is no such buffer.
    """

    read_buffer: ReadBuffer | None

    def buffer_updated(self, size: int, /) -> None: ...


class Connection(WireProtocol, Protocol):
    """A wire protocol on its own transport, which ``abort_transport`` drops.

    ``mark`` changes with what happens on it; it is 0 while its peer has begun nothing.
    """

    mark: int

    def abort_transport(self) -> None: ...

    @property
    def idle_since(self) -> tuple[bool, float] | None:
        """Whether a request was ever made, and since when none is under way.

        By the time of the ticks; None for a connection that is in use, is ending, or
        was used since the last tick.
        """

    @property
    def held_size(self) -> int:
        """Bytes in memory that wait for the peer, or from it for what takes them."""

    def give_way(self) -> bool:
        """End if it is idle, to make room for others; return whether it does."""


class Exchange(WireProtocol, Protocol):
    """One request's conversation with the application.

    ``start`` runs the application; a connection calls it once, after it has delivered
    the content that came together with the head. ``is_running`` tells whether its
    application call has not ended, which may be long after the exchange itself.
    """

    @property
    def is_running(self) -> bool: ...

    def start(self) -> None: ...


class ConnectionOwner(Protocol):
    """What a connection asks of the server that owns it."""

    def open_exchange(
        self, head: RequestHead, info: ConnectionInfo, stream: Stream, /
    ) -> Exchange:
        """Return who gets the request's content and answers it.

        Raises ProtocolError to refuse the request before any application sees it.
        """

    def request_refused(
        self, head: RequestHead | None, info: ConnectionInfo, error: ProtocolError, /
    ) -> None:
        """Record a request that the connection answered by itself."""

    def change_to_http2(
        self, connection: Connection, transport: Transport, info: ConnectionInfo, /
    ) -> WireProtocol | None:
        """Return what takes the place of a connection whose peer speaks HTTP/2.

        None if this peer may not begin with HTTP/2 here: it is refused as HTTP/1.1.
        """

    def connection_lost(self, connection: Connection, /) -> None:
        """Forget a connection that has ended."""

    def has_input(self, transport: Transport, /) -> bool:
        """Return whether the peer has sent what has not come up yet."""

    def reset_transport(self, transport: Transport, /) -> None:
        """Abort a transport so that its peer sees a reset, and nothing stays behind."""

    def read_later(self, proceed: Callable[[], None], /) -> None:
        """Call ``proceed`` in a later turn of the loop: it takes long to read on."""


class OpenConnection(Protocol):
    """Called by a listener for each connection that is ready (TLS handshake done).

    What it returns gets the connection's bytes and its end.
    """

    def __call__(self, transport: Transport, info: ConnectionInfo, /) -> Receiver: ...


class Stream(Protocol):
    """The way down for one request: how its exchange answers.

    The framing (length, chunks, no content for HEAD, 204, 304) is up to the stream.
    Methods raise ApplicationError if what is sent contradicts what was promised.
    After the response's end or ``connection_lost`` the exchange calls nothing more.
    """

    @property
    def is_writable(self) -> bool:
        """False between ``pause_writing`` and ``resume_writing``."""

    @property
    def extensions(self) -> Mapping[str, dict[str, Any]]:
        """The ASGI HTTP extensions that work on this stream, for the scope."""

    def send_informational(self, status: int, headers: Headers) -> None:
        """Send an interim response (RFC 9110 section 15.2), if the peer knows it."""

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        """Send the head and the first part of the content; ``more``: more follows."""

    def send_data(self, data: bytes, more: bool) -> None:
        """Send the next part of the content."""

    def send_trailers(self, headers: Headers) -> None:
        """End the response with a trailer section (RFC 9110 section 6.5)."""

    def push(self, path: str, headers: Headers) -> None:
        """Serve a request that the peer did not make (RFC 9113 section 8.4).

        Called only if ``extensions`` names it; nothing happens if the peer takes
        none any more.
        """

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> Transport:
        """Accept the upgrade (101; 200 to an extended CONNECT), hand the bytes over.

        What the peer already sent after its request reaches ``receiver`` later, with
        the next bytes or tick, never before this returns.
        """

    def request_content(self) -> None:
        """Say that the application reads: answers Expect: 100-continue, once."""

    def pause_reading(self) -> None:
        """Deliver no more content until ``resume_reading``."""

    def resume_reading(self) -> None:
        """Deliver content again."""

    def abort(self) -> None:
        """Abort the response so that the peer can tell that it is not complete."""


class SessionStream(Stream, Protocol):
    """The stream of a request that asks for a WebTransport session."""

    def open_session(
        self, headers: Headers, observer: WebTransportObserver, /
    ) -> WebTransport:
        """Accept a WebTransport session (200 to an extended CONNECT).

        What the peer has sent in it already reaches ``observer`` later.
        """


class WebSocketObserver(Protocol):
    """Who gets an open WebSocket's messages and its end."""

    def message_received(self, data: str | bytes, /) -> None:
        """Take a message: text is str, binary is bytes."""

    def closed(self, code: int, reason: str, /) -> None:
        """Note that no message comes any more and none can be sent; called once.

        The code is that of the first Close frame, whichever side sent it: 1005 if it
        had none, 1006 if the connection ended without one.
        """

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class WebSocket(WireProtocol, Protocol):
    """An open WebSocket, as its observer uses it."""

    def attach(self, transport: Transport) -> None:
        """Begin on the transport that ``Stream.upgrade`` returned."""

    def send_text(self, text: str) -> int:
        """Send a text message; return how many bytes were compressed for that."""

    def send_binary(self, data: bytes) -> int:
        """Send a binary message; return how many bytes were compressed for that."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; nothing happens if it has been started.

        Raises ValueError for a code that a Close frame must not carry.
        """

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class WebTransportObserver(Protocol):
    """Who gets what comes in a WebTransport session, and its end."""

    @property
    def takes_streams(self) -> bool:
        """Whether the peer may open one more."""

    def stream_received(self, stream_id: int, data: bytes, is_last: bool, /) -> None:
        """Take bytes of a stream, the first of a new one included."""

    def stream_reset(self, stream_id: int, code: int, /) -> None:
        """Note that the peer has ended its side of a stream before its end."""

    def stream_stopped(self, stream_id: int, code: int, /) -> None:
        """Note that the peer takes no more of a stream."""

    def stream_writable(self, stream_id: int, /) -> None:
        """Note that a stream that was not writable is again."""

    def stream_ended(self, stream_id: int, /) -> None:
        """Note that a stream is over: both sides have ended, and all is taken."""

    def datagram_received(self, data: bytes, /) -> None: ...
    def closed(self, code: int | None, reason: str, /) -> None:
        """Note the end of the session; None: the connection was lost."""


class WebTransport(Protocol):
    """An open WebTransport session, as its observer uses it.

    Codes are the application's, of 32 bits; ValueError is raised for others.
    """

    def open_stream(self, is_unidirectional: bool, /) -> int: ...
    def send(self, stream_id: int, data: bytes, is_last: bool, /) -> None:
        """Send on a stream. Raises ApplicationError if our side has ended.

        If the peer has ended it, what is sent is dropped.
        """

    def is_writable(self, stream_id: int, /) -> bool: ...
    def reset_stream(self, stream_id: int, code: int, /) -> None:
        """End our side of a stream at once, if it is open."""

    def stop_stream(self, stream_id: int, code: int, /) -> None:
        """Ask the peer to end its side of a stream, if it is open."""

    def consumed(self, stream_id: int, size: int, is_last: bool, /) -> None:
        """Give the peer credit for bytes that the application has taken.

        ``is_last``: it has also taken the end of the stream, or its reset.
        """

    def send_datagram(self, data: bytes, /) -> None:
        """Send a datagram. Raises ApplicationError if it is too large."""

    def close(self, code: int, reason: str, /) -> None: ...


SettingsT_contra = TypeVar("SettingsT_contra", contravariant=True)


class OpeningHandshake(Protocol[SettingsT_contra]):
    """What a client asks for, before it is answered."""

    def accept(
        self,
        observer: WebSocketObserver,
        config: SettingsT_contra,
        *,
        subprotocol: str | None,
        headers: Iterable[tuple[bytes, bytes]],
        write_timeout: float,
    ) -> tuple[Headers, WebSocket]:
        """Return the fields of the response and the WebSocket to upgrade to.

        Raises ApplicationError for a subprotocol that was not offered and for fields
        that cannot be sent.
        """
