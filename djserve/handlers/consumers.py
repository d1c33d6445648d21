"""Synchronous code of WebSockets: side by side, instead of all in one thread.

Without this, the synchronous consumers of all sockets of a process take turns in one
thread. Here each socket has a lease: its calls keep their order, those of different
sockets run in parallel, and an idle socket holds no thread.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from djserve.asgi.application import keep_context, open_direct_lane, takes_websockets
from djserve.asgi.websocket import WebSocketExchange
from djserve.handlers.channels_connections import defer_connection_checks
from djserve.handlers.originals import OriginalHandler
from djserve.handlers.replace import find_http
from djserve.handlers.runtime import make_lease, shared_pool
from djserve.handlers.threads.hops import enter_lease, inherits_threads, leave_lease
from djserve.handlers.threads.leases import CONSUMERS, Job, Lease

if TYPE_CHECKING:
    from djserve.asgi.application import ApplicationCalls, DirectLane
    from djserve.asgi.types import Application, Receive, Scope, Send
    from djserve.handlers.threads.pool import ThreadPool


HANDSHAKE = "WebSocket handshakes"
CONNECTED = "WebSocket consumers"
"""What the calls of sockets are counted as, beside the views."""


def parallel_consumers(
    application: Application, pool: ThreadPool | None = None
) -> Application:
    """Return the application with a lease of ``pool`` for each WebSocket.

    Other scopes are passed on unchanged. ``pool`` is the process's own by default.
    """
    defer_connection_checks()
    return _ParallelConsumers(application, pool)


def refuse_websockets(application: Application) -> Application:
    """Return an application without WebSockets that answers a handshake with 403.

    Django's handler raises: anyone could fill the log with its tracebacks.
    """
    return _RefusedWebSockets(application)


class _PassesOn:
    """An application in front of another, which gets HTTP requests as they are."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def direct_lane(self, calls: ApplicationCalls) -> DirectLane | None:
        """Return the other's way without a task: there is nothing to do here."""
        return open_direct_lane(find_http(self._application), calls)


class _ParallelConsumers(_PassesOn):
    def __init__(self, application: Application, pool: ThreadPool | None) -> None:
        super().__init__(application)
        self._pool = pool
        # Sentry does it itself for Django's handler.
        self._isolates_http = not _is_handler(application)

    def takes_websockets(self) -> bool:
        """Return whether the other may."""
        return takes_websockets(self._application)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            with _isolate():
                await self._serve(scope, receive, send)
        elif scope["type"] == "http" and self._isolates_http:
            with _isolate():
                await self._application(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if inherits_threads():
            await self._application(scope, receive, send)
            return
        pool = shared_pool() if self._pool is None else self._pool
        lease = _make_lease(pool, getattr(receive, "__self__", None))
        token = enter_lease(lease)
        try:
            await self._application(scope, receive, send)
        finally:
            leave_lease(token)
            lease.release()


def _is_handler(application: Application) -> bool:
    """Return whether Django's handler gets all HTTP requests, with nothing around."""
    if type(application) is _RefusedWebSockets:
        application = application._application
    return isinstance(find_http(application), OriginalHandler)


def _isolate() -> AbstractContextManager[Any]:
    """Keep what Sentry records of one client apart from all others.

    Its SDK opens an isolation scope for each HTTP request of Django's, and none for
    WebSockets and for what else answers HTTP beside Django (consumers, a router's other
    applications): they would share the one of the process, with its user, tags and
    breadcrumbs.
    """
    isolation_scope = getattr(sys.modules.get("sentry_sdk"), "isolation_scope", None)
    return nullcontext() if isolation_scope is None else _Isolation(isolation_scope())


class _Isolation:
    """The scope of one call; a fault is logged in it, although that comes after."""

    def __init__(self, scope: AbstractContextManager[Any]) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self, kind: object, error: BaseException | None, place: object
    ) -> None:
        if error is not None:
            keep_context(error)
        self._scope.__exit__(None, None, None)


class _SocketLease(Lease):
    """A lease whose calls count apart for handshakes and for what follows.

    However many consumers are slow, those of a handshake are not among them.
    """

    exchange: WebSocketExchange | None = None

    def post(self, job: Job) -> None:
        """Have ``job`` run after the earlier ones; it must not raise."""
        exchange = self.exchange
        if exchange is not None and not exchange.is_undecided():
            self.view = self.view_name = CONNECTED
            self.exchange = None
        super().post(job)


def _make_lease(pool: ThreadPool, exchange: object) -> Lease:
    """Return the lease of a socket, whose server may be djserve itself."""
    lease = make_lease(pool, HANDSHAKE, HANDSHAKE, group=CONSUMERS, kind=_SocketLease)
    assert isinstance(lease, _SocketLease)
    if type(exchange) is WebSocketExchange:
        lease.exchange = exchange
        exchange.waiting_time = lease.waiting_time
    else:
        lease.view = lease.view_name = CONNECTED
    return lease


class _RefusedWebSockets(_PassesOn):
    """An application for HTTP requests alone."""

    def takes_websockets(self) -> bool:
        """Return False: the server need not prepare for any."""
        return False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await self._application(scope, receive, send)
