"""A request's scope to an OpenTelemetry span, by the semantic conventions for HTTP.

Imports OpenTelemetry: to be imported only if tracing is on.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context, attach
from opentelemetry.propagate import extract
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    format_trace_id,
    set_span_in_context,
)

from djserve.instrumentation.notes import current_trace_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span, Tracer

    from djserve.interfaces import Headers

# Any other would let a client invent values without end; the conventions name these.
_METHODS = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
METHODS = frozenset((*_METHODS, "QUERY", "TRACE"))
OTHER_METHOD = "_OTHER"

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

DISCONNECTED = "djserve.errors.ClientDisconnected"
"""The ``error.type`` of a request whose client went before its response was sent."""

_current: ContextVar[ServerSpan | None] = ContextVar("djserve_span", default=None)


class ServerSpan:
    """The span of one request or WebSocket; made when its application call begins.

    It ends when both the call and the exchange with the client have ended.
    """

    def __init__(self, tracer: Tracer, scope: Mapping[str, Any]) -> None:
        # Kept alive: its identity is what this span is found by.
        self.scope = scope
        self.sends_last = False
        self._method = find_method(scope)
        self._waits_for = 2
        self._error_type = ""
        self._parent = extract(scope["headers"], Context(), FIELDS)
        self._span: Span = tracer.start_span(
            _name_of(self._method),
            context=self._parent,
            kind=SpanKind.SERVER,
            attributes=describe(scope, self._method),
        )
        context = self._span.get_span_context()
        self.trace_id = format_trace_id(context.trace_id) if context.is_valid else ""

    def enter(self) -> None:
        """Make it the current span of this task, for good: a call has its own."""
        attach(set_span_in_context(self._span, self._parent))
        _current.set(self)
        current_trace_id.set(self.trace_id)

    def set_route(self, route: str) -> None:
        """Name the span after the pattern that the path has matched."""
        self._span.update_name(f"{_name_of(self._method)} {route}")
        self._span.set_attribute("http.route", route)

    def set_status(self, status: int) -> None:
        """Note the status of the response; those from 500 on are the server's fault."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500 and not self._error_type:
            self._fail(str(status))

    def set_close_code(self, code: int) -> None:
        """Note how a WebSocket was closed."""
        self._span.set_attribute("djserve.websocket.close_code", code)

    def record_fault(self, error: BaseException) -> None:
        """Note what the application has raised."""
        self._span.record_exception(error)
        self._fail(_name_kind(error), str(error))

    def record_disconnect(self) -> None:
        """Note that the client disconnected first, which is not a fault."""
        if not self._error_type:
            self._error_type = DISCONNECTED
            self._span.set_attribute("error.type", DISCONNECTED)

    def release(self) -> bool:
        """Tell that one of the two has ended; ends the span, and is true, at both."""
        self._waits_for -= 1
        if not self._waits_for:
            self._span.end()
        return not self._waits_for

    def _fail(self, error_type: str, description: str | None = None) -> None:
        self._error_type = error_type
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR, description))


def current_span() -> ServerSpan | None:
    """Return the span of the request that the running code serves."""
    return _current.get()


def find_method(scope: Mapping[str, Any]) -> str:
    """Return the request's method; a WebSocket's scope does not have it."""
    if scope["type"] == "http":
        method: str = scope["method"]
        return method
    # RFC 8441: over HTTP/2 a WebSocket begins with an extended CONNECT.
    return "CONNECT" if scope["http_version"] in ("2", "3") else "GET"


def describe(scope: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return what is known of a request before it is served: a sampler may ask."""
    attributes = {
        "http.request.method": method if method in METHODS else OTHER_METHOD,
        "url.scheme": scope["scheme"],
        "url.path": scope["path"],
        "network.protocol.version": scope["http_version"],
    }
    if method not in METHODS:
        attributes["http.request.method_original"] = method
    if scope["client"] is not None:
        attributes["client.address"] = scope["client"][0]
    agent = FIELDS.get(scope["headers"], "user-agent")
    if agent:
        attributes["user_agent.original"] = agent[0]
    return attributes | _describe_server(scope)


def _describe_server(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the server's name and port as the client wrote them, else as bound."""
    host = FIELDS.get(scope["headers"], "host")
    if not host:
        name, port = scope["server"] or (None, None)
    else:
        name, separator, digits = host[0].rpartition(":")
        if separator and digits.isdigit():
            port = int(digits)
        else:
            # Without a port, or the last group of an IPv6 address in brackets.
            name, port = host[0], DEFAULT_PORTS.get(scope["scheme"])
        name = name.strip("[]")
    attributes = {"server.address": name, "server.port": port}
    return {key: value for key, value in attributes.items() if value is not None}


def _name_kind(error: BaseException) -> str:
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _name_of(method: str) -> str:
    return method if method in METHODS else "HTTP"


class _Fields(Getter["Headers"]):
    """How OpenTelemetry's propagators read header fields."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1")
        values = [value.decode("latin-1") for name, value in carrier if name == wanted]
        # Trace Context section 3.2: there is one traceparent, or none to be believed.
        if not values or (key == "traceparent" and len(values) > 1):
            return None
        return values

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


FIELDS = _Fields()
