"""Application calls and their exchanges, joined in one OpenTelemetry span each.

``open_tracing`` alone imports OpenTelemetry, if the configuration asks for it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from djserve.asgi.outcomes import is_disconnect, is_unrouted
from djserve.instrumentation.notes import trace_preparations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djserve.asgi.types import Application, Message, Receive, Scope, Send
    from djserve.conf.schema import TracingConfig
    from djserve.instrumentation.events import RequestRecord
    from djserve.instrumentation.tracing import ServerSpan

    StartSpan = Callable[[Scope], ServerSpan]

logger = logging.getLogger("djserve.error")

ENDED = "djserve.ended"
"""Put in the scope of an exchange that has ended before its application call began."""


@contextmanager
def open_tracing(config: TracingConfig, end_timeout: float) -> Iterator[Tracing | None]:
    """Return what traces this process's requests, None if that is not wanted.

    At the end, ``end_timeout`` seconds are left for the last spans. Raises ConfigError
    if OpenTelemetry is missing or set up wrongly.
    """
    if not config.tracing:
        yield None
        return
    from djserve.instrumentation.otel import Export

    export = Export()
    trace_preparations.run()
    tracing = create_tracing(export.tracer)
    try:
        yield tracing
    finally:
        # A collector that is away must not outlast the requests.
        export.close(end_timeout)


def create_tracing(tracer: Any) -> Tracing:
    """Return a Tracing whose spans a tracer of OpenTelemetry makes."""
    from djserve.instrumentation.tracing import ServerSpan

    return Tracing(lambda scope: ServerSpan(tracer, scope))


class Tracing:
    """Start a span for each application call, and end it with its exchange.

    Around the application it sees the call; as a RequestLog it is told of the end that
    the client has seen, the server's own answers included. Among several logs it comes
    first, since it gives the records their trace.
    """

    def __init__(self, start_span: StartSpan) -> None:
        self._start_span = start_span
        self._spans: dict[int, ServerSpan] = {}

    def put_around(self, application: Application) -> Application:
        """Trace this application's calls."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await application(scope, receive, send)
                return
            span = self._spans[id(scope)] = self._start_span(scope)
            span.enter()
            if ENDED in scope:
                self._end_early(span)

            async def noting_send(message: Message) -> None:
                span.sends_last = _is_last(message)
                await send(message)

            try:
                await application(scope, receive, noting_send)
            except BaseException as error:
                # A class of exceptions may have methods that raise: str() is one.
                with suppress(Exception):
                    if not _is_none_of_its_own(error) and not is_unrouted(scope, error):
                        span.record_fault(error)
                raise
            finally:
                self._release(span)

        return traced

    def request_finished(self, record: RequestRecord) -> None:
        span = self._find_ending(record)
        if span is None:
            return
        if record.status:
            span.set_status(record.status)
        if not span.sends_last and record.status < 400:
            span.record_disconnect()
        self._release(span)

    def websocket_connecting(self, record: RequestRecord) -> None:
        """Its application call begins later, and the span with it."""

    def websocket_accepted(self, record: RequestRecord) -> None:
        span = self._find(record)
        if span is not None:
            span.set_status(200 if record.head.http_version in ("2", "3") else 101)

    def websocket_rejected(self, record: RequestRecord) -> None:
        span = self._find_ending(record)
        if span is None:
            return
        if record.status:
            span.set_status(record.status)
        else:
            span.record_disconnect()
        self._release(span)

    def websocket_closed(self, record: RequestRecord) -> None:
        span = self._find(record)
        if span is not None:
            span.set_close_code(record.status)
            self._release(span)

    def _find(self, record: RequestRecord) -> ServerSpan | None:
        span = self._spans.get(id(record.scope))
        if span is not None:
            record.trace_id = span.trace_id
        return span

    def _find_ending(self, record: RequestRecord) -> ServerSpan | None:
        span = self._find(record)
        if span is None and record.scope is not None:
            # Its call may be about to begin all the same.
            record.scope[ENDED] = True
        return span

    def _end_early(self, span: ServerSpan) -> None:
        span.record_disconnect()
        self._release(span)

    def _release(self, span: ServerSpan) -> None:
        try:
            has_ended = span.release()
        except Exception:
            # A processor of the project's: the exchange ends all the same.
            logger.exception("A span could not be ended")
            has_ended = True
        if has_ended:
            self._spans.pop(id(span.scope), None)


def _is_last(message: Message) -> bool:
    """Return whether a message is meant to complete a response."""
    ends = ("http.response.body", "http.response.pathsend", "http.response.trailers")
    kind = message.get("type")
    if kind == "http.response.zerocopysend" or kind in ends:
        return not (message.get("more_body") or message.get("more_trailers"))
    return False


def _is_none_of_its_own(error: BaseException) -> bool:
    """Return whether a call raised only since it was of no use any more."""
    return isinstance(error, asyncio.CancelledError) or is_disconnect(error)
