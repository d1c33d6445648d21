"""What an exception out of an application's call is: a fault, a farewell, or not its.

A WebSocket that the application has no route for is the client's mistake and no fault.
Channels' routers and Django's handler raise ValueError for it, as if the application
were wrong, from below whatever stands around them: any stranger could fill the log with
tracebacks.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from djserve.errors import ClientDisconnected, ProtocolError
from djserve.instrumentation.events import escape, format_client
from djserve.system import is_real_interrupt

if TYPE_CHECKING:
    from types import TracebackType

    from djserve.asgi.types import Scope

logger = logging.getLogger("djserve.error")

# Raised by Python itself for a mistake in the code that handles a disconnect.
_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    TypeError,
)

KINDS = {"websocket": "WebSocket", "webtransport": "WebTransport session"}
"""What stays open after its request, by the scope's type."""

_DJANGO = "Django can only handle ASGI/HTTP connections"
ROUTERS = {
    ("channels.routing", "URLRouter.__call__"): "No route found for path ",
    ("channels.routing", "ProtocolTypeRouter.__call__"): "No application configured",
    ("django.core.handlers.asgi", "ASGIHandler.__call__"): _DJANGO,
    ("djserve.handlers.handler", "ASGIHandler.__call__"): _DJANGO,
}
"""Who raises the ValueError for a missing route, and how its message begins."""


def is_disconnect(error: BaseException) -> bool:
    """Return whether an exception says only that the client has gone.

    Frameworks turn the OSError of ``send`` into their own exceptions, and task
    groups put it into groups. A cause that is named counts always. A context counts
    if the exception was raised by the very function that had caught it: what fails
    in a clean-up is a fault all the same.
    """
    return _is_disconnect(error, {})


def _is_disconnect(error: BaseException, known: dict[int, bool]) -> bool:
    """Return the same; ``known`` has what was found, or is being looked for, by id.

    A group may hold an exception that the group itself is the cause of, and groups may
    share what they hold: each is looked at once.
    """
    path: list[int] = []
    current: BaseException | None = error
    found = False
    while current is not None:
        if id(current) in known:
            found = known[id(current)]
            break
        path.append(id(current))
        known[id(current)] = False
        if isinstance(current, ClientDisconnected):
            found = True
            break
        if isinstance(current, BaseExceptionGroup):
            found = all(_is_disconnect(inner, known) for inner in current.exceptions)
            break
        cause = current.__cause__
        current = _converted(current) if cause is None else cause
    known |= dict.fromkeys(path, found)
    return found


def _converted(error: BaseException) -> BaseException | None:
    """Return the exception that another one was raised instead of, if any."""
    context = error.__context__
    if context is None or isinstance(error, _MISTAKES):
        return None
    place = _innermost(error)
    caught = context.__traceback__
    while place is not None and caught is not None:
        if caught.tb_frame is place.tb_frame:
            return context
        caught = caught.tb_next
    return None


def _innermost(error: BaseException) -> TracebackType | None:
    """Return the place in which an exception was raised, None before it was."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place


def ends_the_loop(error: BaseException, task: asyncio.Task[None] | None) -> bool:
    """Return whether an exception in a call of ``task`` is none of the application's.

    A coroutine that is closed from outside (a loop that ends with calls in it) gets a
    GeneratorExit while its task does not run. A real Ctrl-C raises KeyboardInterrupt
    if nothing else handles the signal. ``task`` is None while its first step runs.
    """
    # By type(): isinstance() asks an exception that may raise, and no one answers yet.
    kind = type(error)
    if issubclass(kind, GeneratorExit):
        return task is not None and task is not _running_task()
    return issubclass(kind, KeyboardInterrupt) and is_real_interrupt()


def is_being_cancelled() -> bool:
    """Return whether somebody has asked for the end of the task that runs now.

    A CancelledError is the application's own if no one has.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _running_task() -> asyncio.Task[None] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def is_unrouted(scope: Scope, error: BaseException) -> bool:
    """Return whether the router itself, and nothing that it called, found no route."""
    if scope["type"] not in KINDS or not isinstance(error, ValueError):
        return False
    place = _innermost(error)
    if place is None:
        return False
    frame = place.tb_frame
    router = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname
    message = ROUTERS.get(router)
    return message is not None and str(error).startswith(message)


def log_unrouted(scope: Scope) -> ProtocolError:
    """Log a missing route in one line; return what the client is to be told."""
    path, client = escape(scope["path"]), format_client(scope["client"])
    kind = KINDS.get(scope.get("type", ""), "WebSocket")
    logger.warning("No route for a %s to %s from %s", kind, path, client)
    return ProtocolError("No route", 404)


def refusal_status(error: BaseException) -> int:
    """Return the status for what an exception has kept from opening."""
    if isinstance(error, ProtocolError):
        return error.status
    return 503 if isinstance(error, asyncio.CancelledError) else 500
