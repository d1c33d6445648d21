"""A WebSocket that an application has no route for: the client's mistake, no fault.

Channels' routers and Django's handler raise ValueError for it, as if the application
were wrong, from below whatever stands around them. Any stranger could fill the log with
tracebacks.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from djserve.errors import ProtocolError
from djserve.instrumentation.events import escape, format_client

if TYPE_CHECKING:
    from djserve.asgi.types import Scope

logger = logging.getLogger("djserve.error")

_DJANGO = "Django can only handle ASGI/HTTP connections"
ROUTERS = {
    ("channels.routing", "URLRouter.__call__"): "No route found for path ",
    ("channels.routing", "ProtocolTypeRouter.__call__"): "No application configured",
    ("django.core.handlers.asgi", "ASGIHandler.__call__"): _DJANGO,
    ("djserve.handlers.handler", "ASGIHandler.__call__"): _DJANGO,
}
"""Who raises the ValueError, and how its message begins."""


def is_unrouted(scope: Scope, error: BaseException) -> bool:
    """Return whether the router itself, and nothing that it called, found no route."""
    if scope["type"] != "websocket" or not isinstance(error, ValueError):
        return False
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return False
    frame = place.tb_frame
    router = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname
    message = ROUTERS.get(router)
    return message is not None and str(error).startswith(message)


def log_unrouted(scope: Scope) -> ProtocolError:
    """Log it in one line; return what the client is to be told."""
    path, client = escape(scope["path"]), format_client(scope["client"])
    logger.warning("No route for a WebSocket to %s from %s", path, client)
    return ProtocolError("No route", 404)


def refusal_status(error: BaseException) -> int:
    """Return the status for a WebSocket that an exception has kept from opening."""
    if isinstance(error, ProtocolError):
        return error.status
    return 503 if isinstance(error, asyncio.CancelledError) else 500
