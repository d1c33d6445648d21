"""What a log wants to know of a request beyond its record: notes, and its trace.

The server puts a dictionary into the scope's extensions, if a log asks for it; what
serves the request writes into it, and the logs read it when the request has ended. A
server without such a log has none of this on the way of a request.

A trace is known to the logs whether or not OpenTelemetry is installed: everything else
about traces is in ``instrumentation.tracing``, imported only if tracing is on.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from djserve.instrumentation.events import RequestRecord
    from djserve.interfaces import Headers

EXTENSION = "djserve.notes"
"""The key in the scope's extensions, which routers and middleware pass on."""

REQUEST = "request"
RESPONSE = "response"


class Preparations:
    """Functions that wait to be called, once each."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def add(self, function: Callable[[], None]) -> None:
        """Have a function called at the next ``run``."""
        if function not in self._waiting:
            self._waiting.append(function)

    def run(self) -> None:
        """Call all that waits."""
        while self._waiting:
            self._waiting.pop(0)()


preparations = Preparations()
"""Called when notes are first wanted in this process."""

DJANGO_REQUEST = "djserve.request"
"""The key in the scope's extensions of Django's request, for the times of views."""

view_preparations = Preparations()
"""Called when the views of requests are first wanted in this process."""

current_trace_id: ContextVar[str] = ContextVar("djserve_trace_id", default="")
"""The trace, in hexadecimal digits, that the running code belongs to; "" for none."""

trace_preparations = Preparations()
"""Called when tracing begins in this process, if it ever does."""


def take_view(scope: MutableMapping[str, Any] | None) -> str:
    """Return the name of the view that a request has come to, "" for none.

    Called once, at the request's end: Django's request, which refers to the scope, is
    taken out of it.
    """
    if scope is None:
        return ""
    extensions = scope.get("extensions")
    request = extensions.pop(DJANGO_REQUEST, None) if extensions else None
    match = None if request is None else request.resolver_match
    return "" if match is None else str(match.view_name or match._func_path or "")


def take_notes(scope: MutableMapping[str, Any]) -> dict[str, Any]:
    """Put notes into a scope and return them."""
    notes: dict[str, Any] = {}
    scope["extensions"][EXTENSION] = notes
    return notes


def find_notes(scope: MutableMapping[str, Any] | None) -> dict[str, Any]:
    """Return a scope's notes, {} if none are taken."""
    if scope is None:
        return {}
    notes: dict[str, Any] = (scope.get("extensions") or {}).get(EXTENSION, {})
    return notes


def response_headers(record: RequestRecord) -> Headers:
    """Return the response's fields, as far as the application has given them."""
    headers: Headers = find_notes(record.scope).get(RESPONSE, [])
    return headers


def view_name(record: RequestRecord) -> str:
    """Return the name of the view that Django has found, "" for none.

    That of the URL pattern with its namespaces, else the function's.
    """
    request = find_notes(record.scope).get(REQUEST)
    match = getattr(request, "resolver_match", None)
    if match is None:
        return ""
    # None for a pattern without a name; _func_path is the dotted name of the view.
    return str(match.view_name or match._func_path or "")


def find_user(record: RequestRecord) -> tuple[str, str]:
    """Return the key and the name of the user whom Django has found, "" for none.

    Only what is in memory: a request whose user was not looked up has none here, and a
    log never asks a database.
    """
    request = find_notes(record.scope).get(REQUEST)
    user = getattr(request, "__dict__", {}).get("user")
    if user is not None and type(user).__name__ == "SimpleLazyObject":
        user = user.__dict__.get("_wrapped")
    meta = getattr(type(user), "_meta", None)
    if meta is None:
        # Anonymous, or not looked up.
        return "", ""
    values = user.__dict__
    key = values.get(meta.pk.attname)
    name = values.get(getattr(user, "USERNAME_FIELD", ""))
    return ("" if key is None else str(key)), ("" if name is None else str(name))
