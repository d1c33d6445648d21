"""Synchronous code of WebSockets: side by side, instead of all in one thread.

Without this, the synchronous consumers of all sockets of a process take turns in one
thread. Here each socket has a lease: its calls keep their order, those of different
sockets run in parallel, and an idle socket holds no thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.handlers.channels_connections import defer_connection_checks
from djserve.handlers.hops import enter_lease, inherits_threads, leave_lease
from djserve.handlers.runtime import make_lease, shared_pool

if TYPE_CHECKING:
    from djserve.asgi.types import Application, Receive, Scope, Send
    from djserve.handlers.threads import ThreadPool


def parallel_consumers(
    application: Application, pool: ThreadPool | None = None
) -> Application:
    """Return the application with a lease of ``pool`` for each WebSocket.

    Other scopes are passed on unchanged. ``pool`` is the process's own by default.
    """
    defer_connection_checks()

    async def with_lease(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket" or inherits_threads():
            await application(scope, receive, send)
            return
        token = enter_lease(make_lease(shared_pool() if pool is None else pool))
        try:
            await application(scope, receive, send)
        finally:
            leave_lease(token)

    return with_lease


def refuse_websockets(application: Application) -> Application:
    """Return an application without WebSockets that answers a handshake with 403.

    Django's handler raises: anyone could fill the log with its tracebacks.
    """

    async def with_refusal(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await application(scope, receive, send)

    return with_refusal
