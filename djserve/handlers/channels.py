"""Channels next to the handler: consumers in threads, routers, database connections.

Without this, the synchronous consumers of all sockets of a process take turns in one
thread. Here each socket has a lease: its calls keep their order, those of different
sockets run in parallel, and an idle socket holds no thread.

Before it calls a handler, a consumer sends ``close_old_connections`` to the thread of
its synchronous code, although most handlers touch no database. Under a lease that is
put off until a call goes to a thread, and then done in that thread, before the call.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

from djserve.asgi.application import keep_context, open_direct_lane, takes_websockets
from djserve.asgi.handshake import HandshakeExchange
from djserve.asgi.outcomes import KINDS
from djserve.handlers.chain import may_be_made_twice
from djserve.handlers.cursors import close_unused_connections
from djserve.handlers.handler import ASGIHandler
from djserve.handlers.patches import OriginalHandler
from djserve.handlers.request_context import own_exchange
from djserve.handlers.runtime import make_lease, shared_pool
from djserve.handlers.threads.asgiref_compat import (
    current_lease,
    enter_lease,
    inherits_threads,
    leave_lease,
)
from djserve.handlers.threads.leases import CONSUMERS, Job, Lease

if TYPE_CHECKING:
    from djserve.asgi.application import ApplicationCalls, DirectLane
    from djserve.asgi.types import Application, Receive, Scope, Send
    from djserve.handlers.threads.pool import ThreadPool


HANDSHAKE = "WebSocket handshakes"
CONNECTED = "WebSocket consumers"
"""What the calls of sockets are counted as, next to the views."""


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
        if scope["type"] in KINDS:
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
        lease = _make_lease(pool, own_exchange(receive, HandshakeExchange))
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
    WebSockets, WebTransport sessions and what else answers HTTP than Django (consumers,
    a router's other applications): they would share the one of the process, with its
    user, tags and breadcrumbs.
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

    exchange: HandshakeExchange | None = None

    def post(self, job: Job) -> None:
        """Have ``job`` run after the earlier ones; it must not raise."""
        exchange = self.exchange
        if exchange is not None and not exchange.is_undecided():
            self.view = self.view_name = CONNECTED
            self.exchange = None
        super().post(job)


def _make_lease(pool: ThreadPool, exchange: HandshakeExchange | None) -> Lease:
    """Return the lease of a socket, whose server may be djserve itself."""
    lease = make_lease(pool, HANDSHAKE, HANDSHAKE, group=CONSUMERS, kind=_SocketLease)
    assert isinstance(lease, _SocketLease)
    if exchange is not None:
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


def replace_handler(application: Any) -> tuple[Any, bool]:
    """Return the application with djserve's handler instead of Django's.

    The second value says whether there was one to replace: the application is exactly
    Django's ``ASGIHandler``, or exactly a ``ProtocolTypeRouter`` whose "http" entry is.
    Subclasses and wrapped applications may rely on what Django's does and are left as
    they are. What is given is never changed.
    """
    if type(application) is OriginalHandler:
        return _replace(application), True
    http = find_http(application)
    if type(http) is not OriginalHandler:
        return application, False
    mapping = {**application.application_mapping, "http": _replace(http)}
    return type(application)(mapping), True


def _replace(handler: OriginalHandler) -> ASGIHandler:
    # It has made its middleware already.
    return ASGIHandler() if may_be_made_twice() else ASGIHandler.take_over(handler)


def find_http(application: Any) -> Any:
    """Return what answers HTTP requests: a router's entry, or the application itself.

    None if a router has no such entry.
    """
    # If nothing has imported channels.routing, nothing is a router.
    routing = sys.modules.get("channels.routing")
    if routing is None or type(application) is not routing.ProtocolTypeRouter:
        return application
    return application.application_mapping.get("http")


_NAME = "aclose_old_connections"
_MODULES = (
    "channels.db",
    "channels.consumer",
    "channels.generic.http",
    "channels.generic.websocket",
)

# Channels' own function; None until it is replaced, and for releases of Channels that
# have no such function, which make no such hop.
_with_hop: Any = None


async def aclose_old_connections() -> None:
    """Have connections that are broken or past their age closed before they are used.

    A hop for every message takes a third of its time (benchmark: channels_echo). It
    would even miss its aim: a lease that was idle may get another thread next time.
    A thread that no call goes to keeps its connections as it would under WSGI: they
    were looked at when it was last given back. Outside of a lease this is Channels' own
    function.
    """
    lease = current_lease()
    if lease is None:
        await _with_hop()
    else:
        lease.precede(close_unused_connections)


def defer_connection_checks() -> None:
    """Replace Channels' own function by the one above, wherever that is known.

    Modules that import it from ``channels.db`` later get it from there. Without
    Channels, an extra of the package, there is nothing to do.
    """
    global _with_hop
    found = getattr(_import_channels_db(), _NAME, None)
    if found is not aclose_old_connections:
        _with_hop = found
    for name in _MODULES:
        module = sys.modules.get(name)
        if _with_hop is not None and getattr(module, _NAME, None) is _with_hop:
            setattr(module, _NAME, aclose_old_connections)


def _import_channels_db() -> ModuleType | None:
    try:
        import channels.db
    except ModuleNotFoundError as error:
        if error.name != "channels":
            raise
        return None
    module: ModuleType = channels.db
    return module
