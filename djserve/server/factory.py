"""Connections to protocols, request heads to exchanges: who talks to whom.

The only module that knows the wire protocols, the ASGI side and their settings all.
HTTP/2 and WebSocket are imported with the first connection that speaks them, or by
``load_protocols``: they are a quarter of a server's start.
"""

# The order of what a request meets
#
# Here the parts are put together, and nowhere else: a wire protocol knows no settings
# but its own, and the application's side does not know which wire it is on. What a
# request passes is therefore decided in ``open_exchange``, in an order that matters:
#
# 1. Its id, first, so that everything below logs the same one.
# 2. Fields that are added to every response, around the stream: outermost, so that
#    files have them as well.
# 3. What a trusted proxy says of the client. The scope and the log have that address;
#    whether the proxy is trusted goes by the connection's own.
# 4. A WebSocket, with its handshake and its origin, before a scope is made for HTTP.
# 5. Paths that only the application may name (FILES_INTERNAL): refused before anything
#    could answer them.
# 6. Static files, without the application and, if nothing asks for it, without a scope.
# 7. The application, inside the filters of its responses (private files, compression).
#    The notes for the logs are taken of what the filters send.
#
# A connection is admitted before it has a protocol. One too many gets a protocol all
# the same, whose owner (``_Refusal``) answers 503: a client can read that, and a load
# balancer reacts to it, while a connection that is closed without a word looks like a
# broken network. Only if there are too many of those as well are they reset.
#
# During a drain new connections are still opened and retired at once: they were
# accepted before the listener was closed, and their first request is on its way.

from __future__ import annotations

import asyncio
import logging
import time
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

from djserve.asgi.forwarded import ProxyHeaders, TrustedProxies
from djserve.asgi.http import HTTPExchange
from djserve.asgi.origin import OriginCheck
from djserve.asgi.websocket import WebSocketExchange
from djserve.dates import http_date
from djserve.errors import ProtocolError
from djserve.files.exchange import FileExchange, FileService
from djserve.instrumentation.events import format_client
from djserve.instrumentation.limits import note_limit
from djserve.instrumentation.notes import take_notes
from djserve.instrumentation.request_id import name_request
from djserve.net.sockets import has_input, reset_connection, shorten_queues
from djserve.protocols.http1.connection import HTTP1Connection, HTTP1Service
from djserve.protocols.http1.response import PartTiming, ResponseDefaults
from djserve.responses import open_filters
from djserve.server.admission import Admission, Verdict, default_limit
from djserve.server.draining import Drain
from djserve.server.memory import ClientMemory
from djserve.server.observation import wants_notes
from djserve.server.reading import ReadingQueue
from djserve.server.records import WebSocketEntry, choose_finish, record_refusal
from djserve.server.redirect import Redirect, RedirectExchange
from djserve.server.streams import AddedFields, NotedStream
from djserve.system import descriptor_limit, open_file_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.asgi.application import ApplicationCalls
    from djserve.asgi.forwarded import Forwarded
    from djserve.asgi.origin import OriginPolicy
    from djserve.asgi.scope import ScopeBuilder
    from djserve.asgi.types import Scope
    from djserve.conf.schema import HTTP2Config, ProxyConfig, ServerConfig
    from djserve.files.table import File, FileTable
    from djserve.instrumentation.events import RequestLog
    from djserve.interfaces import (
        Connection,
        ConnectionInfo,
        ConnectionOwner,
        Exchange,
        MultiplexTransport,
        RequestHead,
        SessionStream,
        Stream,
        StreamReceiver,
        Transport,
        WireProtocol,
    )
    from djserve.protocols.http2.streams import HTTP2Service
    from djserve.protocols.http3.streams import HTTP3Service
    from djserve.protocols.websocket.masking import SharedBuffer
    from djserve.protocols.websocket.turns import Turns

logger = logging.getLogger("djserve")


def load_protocols(*, websocket: bool = True) -> None:
    """Import HTTP/2, and WebSocket, before a connection waits for them."""
    import djserve.protocols.http2.connection

    if websocket:
        import djserve.protocols.websocket.handshake  # noqa: F401


class ConnectionFactory:
    """Make a protocol for each connection and an exchange for each request; own both.

    ``request_log`` is told of every request; without one nothing is recorded.
    ``origin_policy`` decides which pages may open a WebSocket; without one any may.
    ``files`` are answered without the application.
    """

    def __init__(
        self,
        config: ServerConfig,
        calls: ApplicationCalls,
        scopes: ScopeBuilder,
        request_log: RequestLog | None = None,
        origin_policy: OriginPolicy | None = None,
        files: FileTable | None = None,
    ) -> None:
        self._config = config
        self._calls = calls
        self._scopes = scopes
        self._log = request_log
        self._takes_notes = request_log is not None and wants_notes(config.logging)
        self._finish = choose_finish(request_log, takes_notes=self._takes_notes)
        self._origins = None if origin_policy is None else OriginCheck(origin_policy)
        hosts = None if origin_policy is None else origin_policy.allowed_hosts
        self._allowed_hosts = hosts
        self._proxy_headers = (
            ProxyHeaders(config.proxy) if config.proxy.proxy_headers else None
        )
        self._table = files
        self._files: FileService | None = None
        if files is not None:
            self._files = FileService(files, calls.loop, open_file_limit())
        self._filters = open_filters(config.files, config.compression, calls.loop)
        self._defaults = ResponseDefaults(config.http.server_name)
        self._date = b""
        self._http1 = self._start_http1(self)
        self._http2: HTTP2Service | None = None
        self._http3: HTTP3Service | None = None
        # The Alt-Svc field of responses on each port that has HTTP/3 beside it.
        self._alternatives: dict[int | None, AddedFields] = {}
        self._prior_knowledge = _trust_prior_knowledge(config.http2, config.proxy)
        headers = config.http.headers
        self._added = AddedFields(headers) if headers else None
        self._names_requests = config.logging.request_id
        self._request_timeout = config.http.request_timeout
        self._drain: Drain | None = None
        self._is_over = False
        self.connections: set[Connection] = set()
        limit = config.bounds.connection_limit
        if limit is None:
            limit = default_limit(descriptor_limit())
        self.admission = Admission(self.connections, limit)
        self.memory = ClientMemory(
            self.connections, config.bounds.client_memory_limit, calls.loop
        )
        self.read_later = ReadingQueue(calls.loop.call_soon).wait
        self.opened = 0
        self.redirect_to(None)
        self.tick(0.0)

    # net calls this.

    def open_connection(self, transport: Transport, info: ConnectionInfo) -> Connection:
        """Return the protocol for a connection that was accepted."""
        verdict = self.admission.decide()
        if verdict is not Verdict.SERVE:
            return self._refuse_connection(transport, info, verdict)
        connection: Connection
        if info.alpn == "h2":
            connection = self._open_http2(transport, info)
        else:
            connection = HTTP1Connection(transport, info, self._http1)
        if self._is_verbose:
            logger.debug("Connection from %s", info.client or "a unix socket")
        self.connections.add(connection)
        self.opened += 1
        if self._drain is not None:
            # Accepted before the listener stopped: its request may be on its way.
            self._drain.retire(connection)
            if self._is_over:
                connection.abort_transport()
        return connection

    def open_streams(
        self, transport: MultiplexTransport, info: ConnectionInfo
    ) -> StreamReceiver:
        """Return the protocol for an HTTP/3 connection that is established."""
        from djserve.protocols.http3.connection import HTTP3Connection

        verdict = self.admission.decide()
        if verdict is not Verdict.SERVE:
            connection = HTTP3Connection(
                transport, info, self._start_http3(_Refusal(self))
            )
            connection.retire()
            self.connections.add(connection)
            self.admission.refuse(connection)
            if verdict is Verdict.DROP:
                connection.abort_transport()
            return connection
        if self._http3 is None:
            self._http3 = self._start_http3(self)
        connection = HTTP3Connection(transport, info, self._http3)
        logger.debug("Connection from %s, by QUIC", info.client)
        self.connections.add(connection)
        self.opened += 1
        if self._drain is not None:
            self._drain.retire(connection)
        return connection

    def offer_http3(self, port: int) -> None:
        """Tell clients on a TLS port of the HTTP/3 beside it (RFC 7838)."""
        self._alternatives[port] = AddedFields([f'Alt-Svc: h3=":{port}"; ma=86400'])

    def _start_http3(self, owner: ConnectionOwner) -> HTTP3Service:
        from djserve.protocols.http3.response import ServerFields
        from djserve.protocols.http3.streams import HTTP3Service

        fields = ServerFields(self._config.http.server_name)
        fields.set_date(self._date)
        return HTTP3Service(
            owner,
            self._config.http,
            self._config.http2,
            fields,
            asyncio.get_running_loop().call_soon,
            self._config.http3.webtransport,
        )

    def _refuse_connection(
        self, transport: Transport, info: ConnectionInfo, verdict: Verdict
    ) -> Connection:
        """Have one more connection than there is room for answered with 503."""
        connection: Connection
        owner = _Refusal(self)
        if info.alpn == "h2":
            from djserve.protocols.http2.connection import HTTP2Connection

            service = self._start_http2(owner)
            connection = http2 = HTTP2Connection(transport, info, service)
            http2.retire()
        else:
            connection = HTTP1Connection(transport, info, self._start_http1(owner))
        self.connections.add(connection)
        self.admission.refuse(connection)
        if verdict is Verdict.DROP:
            connection.abort_transport()
        return connection

    def _start_http1(self, owner: ConnectionOwner) -> HTTP1Service:
        timing = PartTiming(self._calls.loop.call_soon)
        return HTTP1Service(owner, self._config.http, self._defaults, timing)

    def _open_http2(self, transport: Transport, info: ConnectionInfo) -> Connection:
        from djserve.protocols.http2.connection import HTTP2Connection

        if self._http2 is None:
            self._http2 = self._start_http2(self)
        shorten_queues(transport)
        return HTTP2Connection(transport, info, self._http2)

    def _start_http2(self, owner: ConnectionOwner) -> HTTP2Service:
        from djserve.protocols.http2.response import ServerFields
        from djserve.protocols.http2.streams import HTTP2Service

        fields = ServerFields(self._config.http.server_name)
        fields.set_date(self._date)
        return HTTP2Service(
            owner,
            self._config.http,
            self._config.http2,
            fields,
            asyncio.get_running_loop().call_soon,
        )

    def open_redirecting(
        self, transport: Transport, info: ConnectionInfo
    ) -> Connection:
        """Return the protocol for a connection of REDIRECT_HTTP."""
        verdict = self.admission.decide()
        if verdict is not Verdict.SERVE:
            return self._refuse_connection(transport, info, verdict)
        connection = HTTP1Connection(transport, info, self._redirecting)
        self.connections.add(connection)
        self.opened += 1
        if self._drain is not None:
            self._drain.retire(connection)
        return connection

    def redirect_to(self, port: int | None) -> None:
        """Have ``open_redirecting`` name this port of https."""
        redirect = Redirect(self._allowed_hosts, port, self._config.acme)
        self._redirecting = self._start_http1(_Redirecting(self, redirect))

    # Connections call these, and ``read_later`` (interfaces.ConnectionOwner).

    has_input = staticmethod(has_input)
    reset_transport = staticmethod(reset_connection)

    def open_exchange(
        self, head: RequestHead, info: ConnectionInfo, stream: Stream
    ) -> Exchange:
        """Return the exchange that carries a request to the application."""
        if self._names_requests:
            if head.repetition is not None:
                head = head.copy(head.headers.copy())
            name_request(head.headers)
        if self._added is not None:
            stream = self._added.around(stream)
        if self._alternatives and info.tls is not None and info.alpn != "h3":
            alternative = self._alternatives.get(info.server[1] if info.server else 0)
            if alternative is not None:
                stream = alternative.around(stream)
        forwarded = None
        if self._proxy_headers is not None:
            forwarded = self._proxy_headers.apply(head, info)
        if head.upgrade is not None:
            if head.upgrade == b"webtransport":
                return self._open_webtransport(head, info, stream, forwarded)
            return self._open_websocket(head, info, stream, forwarded)
        if self._filters is not None:
            self._filters.check_request(head)
        if self._table is not None:
            file = self._table.find(head.raw_path)
            if file is not None:
                return self._open_file(file, head, info, stream, forwarded)
        scope = self._scopes.build_http(head, info, stream, forwarded)
        timeout = self._request_timeout
        if self._takes_notes:
            stream = NotedStream(stream, take_notes(scope))
        if self._filters is None:
            return HTTPExchange(head, scope, stream, self._calls, timeout, self._finish)
        outer, inner = self._filters.open(head, scope, stream, self._finish)
        finish = None if self._finish is None else inner.finish
        inner.connect(HTTPExchange(head, scope, inner, self._calls, timeout, finish))
        return outer

    def _open_file(
        self,
        file: File,
        head: RequestHead,
        info: ConnectionInfo,
        stream: Stream,
        forwarded: Forwarded | None,
    ) -> Exchange:
        assert self._files is not None
        finish = None
        # The scope refuses what lies outside of the root path, too.
        if self._finish is not None or self._config.proxy.root_path:
            scope = self._scopes.build_http(head, info, stream, forwarded)
            if self._finish is not None:
                finish = partial(self._finish, head, scope)
        exchange = FileExchange(self._files, file, head, stream, finish)
        if self._takes_notes and finish is not None:
            exchange.note_fields(take_notes(scope))
        return exchange

    def request_refused(
        self, head: RequestHead | None, info: ConnectionInfo, error: ProtocolError
    ) -> None:
        """Log a request that the server itself has answered."""
        note_limit(error.setting)
        forwarded = None
        if head is not None and self._proxy_headers is not None:
            forwarded = self._proxy_headers.apply(head, info)
        client = info.client
        if forwarded is not None and forwarded.client is not None:
            client = forwarded.client
        logger.info(
            "Refused a request from %s: %s%s",
            format_client(client),
            error.reason,
            f" (setting {error.setting})" if error.setting else "",
        )
        if self._log is not None and not error.is_recorded:
            record_refusal(self._log, head, info, client, error.status)

    def record_redirect(
        self, head: RequestHead, info: ConnectionInfo, status: int
    ) -> None:
        """Log a request that was redirected, or refused instead."""
        if self._log is not None:
            record_refusal(self._log, head, info, info.client, status)

    def change_to_http2(
        self, connection: Connection, transport: Transport, info: ConnectionInfo
    ) -> WireProtocol | None:
        """Have HTTP/2 take a cleartext connection over from HTTP/1.1."""
        trusted = self._prior_knowledge
        if trusted is None or info.tls is not None:
            return None
        if not info.is_proxied and not trusted.trusts_peer(info):
            return None
        self.connections.discard(connection)
        successor = self._open_http2(transport, info)
        self.connections.add(successor)
        if self._drain is not None:
            self._drain.retire(successor)
        return successor

    def connection_lost(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self.connections.discard(connection)
        self.admission.connection_lost(connection)
        if self._drain is not None:
            self._drain.connection_lost()

    def _open_websocket(
        self,
        head: RequestHead,
        info: ConnectionInfo,
        stream: Stream,
        forwarded: Forwarded | None,
    ) -> Exchange:
        from djserve.protocols.websocket.handshake import check_handshake

        handshake = check_handshake(
            head, self._read_buffer, self._turns, self.reset_transport
        )
        scope = self._scopes.build_websocket(
            head, info, handshake.subprotocols, forwarded
        )
        self._check_origin(handshake.origin, scope)
        entry = None if self._log is None else WebSocketEntry(self._log, head, scope)
        return WebSocketExchange(
            scope,
            head,
            handshake,
            stream,
            self._config.websocket,
            write_timeout=self._config.http.write_timeout,
            calls=self._calls,
            entry=entry,
        )

    def _open_webtransport(
        self,
        head: RequestHead,
        info: ConnectionInfo,
        stream: Stream,
        forwarded: Forwarded | None,
    ) -> Exchange:
        """Return the exchange of a session, which only HTTP/3's streams can carry."""
        from djserve.asgi.webtransport import WebTransportExchange

        scope = self._scopes.build_webtransport(head, info, forwarded)
        origins = [value for name, value in head.headers if name == b"origin"]
        if origins:
            self._check_origin(b", ".join(origins).decode("latin-1"), scope)
        return WebTransportExchange(
            scope,
            head,
            cast("SessionStream", stream),
            self._calls,
            self._config.websocket.websocket_connect_timeout,
            self._finish,
        )

    @cached_property
    def _read_buffer(self) -> SharedBuffer | None:
        from djserve.protocols.websocket.masking import open_read_buffer

        return open_read_buffer()

    @property
    def websocket_waits(self) -> int:
        """How often a WebSocket was read on in a later turn."""
        return self._turns.waits if "_turns" in self.__dict__ else 0

    @cached_property
    def _turns(self) -> Turns:
        from djserve.protocols.websocket.turns import Turns

        limit = self._config.websocket.websocket_frame_rate_limit
        return Turns(self._calls.loop, limit)

    def _check_origin(self, origin: str | None, scope: Scope) -> None:
        if self._origins is None or origin is None:
            return
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        is_secure = scope["scheme"] in ("https", "wss")
        self._origins.check(origin, host.decode("latin-1"), is_secure)

    # The server calls these.

    def tick(self, now: float) -> None:
        """Renew the Date field (RFC 9110 section 6.6.1) and what else may go stale."""
        # For each connection it would be one of the dearer questions.
        self._is_verbose = logger.isEnabledFor(logging.DEBUG)
        # First: what fails below would leave every response an old date.
        self._date = http_date(time.time())
        self._defaults.set_date(self._date)
        if self._http2 is not None:
            self._http2.fields.set_date(self._date)
        if self._http3 is not None:
            self._http3.fields.set_date(self._date)
        self.admission.tick()
        self.memory.tick()
        if self._table is not None:
            self._table.tick()

    async def drain(self, count_opening: Callable[[], int] = lambda: 0) -> None:
        """Ask every connection for its end and wait until the last has gone.

        ``count_opening`` returns how many connections were accepted and are still to
        come here.
        """
        self._drain = Drain(
            self.connections,
            self._config.drain,
            self._config.lifecycle.shutdown_timeout,
        )
        await self._drain.run(count_opening)

    def abort(self) -> int:
        """Drop every connection, and those to come; return how many there were."""
        self._is_over = True
        connections = list(self.connections)
        for connection in connections:
            connection.abort_transport()
        return len(connections)


class _Refusal:
    """The owner of a connection that is not served (interfaces.ConnectionOwner)."""

    has_input = staticmethod(has_input)
    reset_transport = staticmethod(reset_connection)

    def __init__(self, factory: ConnectionFactory) -> None:
        self.request_refused = factory.request_refused
        self.connection_lost = factory.connection_lost
        self.read_later = factory.read_later

    def open_exchange(
        self, head: RequestHead, info: ConnectionInfo, stream: Stream
    ) -> Exchange:
        """Refuse the request."""
        raise ProtocolError(
            "The server has too many connections (CONNECTION_LIMIT)",
            status=503,
            headers=[(b"retry-after", b"1")],
        )

    def change_to_http2(
        self, connection: Connection, transport: Transport, info: ConnectionInfo
    ) -> None:
        """Stay with HTTP/1.1: the refusal is all that is sent."""


class _Redirecting:
    """The owner of a connection of REDIRECT_HTTP (interfaces.ConnectionOwner)."""

    has_input = staticmethod(has_input)
    reset_transport = staticmethod(reset_connection)

    def __init__(self, factory: ConnectionFactory, redirect: Redirect) -> None:
        self._factory = factory
        self._redirect = redirect
        self.request_refused = factory.request_refused
        self.connection_lost = factory.connection_lost
        self.read_later = factory.read_later

    def open_exchange(
        self, head: RequestHead, info: ConnectionInfo, stream: Stream
    ) -> Exchange:
        """Return what answers the request, without the application."""
        finish = partial(self._factory.record_redirect, head, info)
        return RedirectExchange(self._redirect.answer(head), stream, finish)

    def change_to_http2(
        self, connection: Connection, transport: Transport, info: ConnectionInfo
    ) -> None:
        """Stay with HTTP/1.1: a redirect from http is all that is sent."""


def _trust_prior_knowledge(
    http2: HTTP2Config, proxy: ProxyConfig
) -> TrustedProxies | None:
    """Return whose cleartext connections may begin with HTTP/2; None: none do."""
    policy = http2.http2_cleartext
    if policy == "off" or not http2.http2:
        return None
    if policy == "on":
        return TrustedProxies(["*"])
    local = ("127.0.0.0/8", "::1/128", "unix")
    return TrustedProxies([*local, *proxy.trusted_proxies])
