"""A WebSocket that Channels has no route for: the client's mistake, not a fault.

Channels' ``URLRouter`` raises ValueError for it, as if the application were wrong. Any
stranger could fill the log with tracebacks.
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

MODULE = "channels.routing"
FUNCTION = "URLRouter.__call__"
MESSAGE = "No route found for path "


def is_unrouted(scope: Scope, error: BaseException) -> bool:
    """Return whether the router itself, and nothing that it called, found no route."""
    if scope["type"] != "websocket" or not isinstance(error, ValueError):
        return False
    if not str(error).startswith(MESSAGE):
        return False
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return False
    frame = place.tb_frame
    module = frame.f_globals.get("__name__")
    return module == MODULE and frame.f_code.co_qualname == FUNCTION


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
