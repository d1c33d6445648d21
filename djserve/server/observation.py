"""What is seen of requests: their logs, and what is put around the application.

Each part costs something for every request, so that only what is configured is there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from djserve.asgi.application import open_direct_lane
from djserve.conf.access_format import NAMED_FORMATS
from djserve.instrumentation.access_format import needs_notes
from djserve.instrumentation.board import Figure, Meter
from djserve.instrumentation.events import escape, request_target
from djserve.instrumentation.request_id import current_request_id, find_request_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djserve.asgi.application import ApplicationCalls, DirectLane
    from djserve.asgi.types import Application, Message, Receive, Scope, Send
    from djserve.conf.schema import LoggingConfig, MetricsConfig
    from djserve.conf.schema_process import WorkersConfig
    from djserve.instrumentation.board import Board
    from djserve.instrumentation.events import RequestLog, RequestRecord

slow_logger = logging.getLogger("djserve.slow")


def wants_figures(metrics: MetricsConfig, workers: WorkersConfig) -> bool:
    """Return whether anything reads what is counted."""
    return (
        has_metrics(metrics)
        or workers.control_socket is not None
        or workers.worker_max_requests is not None
    )


def has_metrics(metrics: MetricsConfig) -> bool:
    """Return whether metrics are asked for, or sent away."""
    return is_scraped(metrics) or is_published(metrics)


def is_scraped(metrics: MetricsConfig) -> bool:
    """Return whether Prometheus may ask for metrics."""
    return metrics.metrics_bind is not None or metrics.metrics_path is not None


def is_published(metrics: MetricsConfig) -> bool:
    """Return whether metrics are sent away."""
    return metrics.statsd is not None or metrics.metrics_otlp


def wants_notes(logging: LoggingConfig) -> bool:
    """Return whether a log asks for what only notes of a request tell."""
    line_format = logging.access_log_format
    if logging.log_json or line_format in NAMED_FORMATS:
        return False
    return needs_notes(line_format)


def open_logs(logging: LoggingConfig, board: Board | None) -> Iterator[RequestLog]:
    """Yield the logs other than the access log. Requests are counted on ``board``."""
    if board is not None:
        yield Meter(board)
    if logging.slow_request_time is not None:
        yield SlowLog(logging.slow_request_time)


def observe(
    application: Application, logging: LoggingConfig, board: Board | None
) -> Application:
    """Return the application with what observes it around it.

    The messages of WebSockets are counted on ``board``.
    """
    if board is not None:
        application = count_messages(application, board)
    if logging.request_id:
        application = name_context(application)
    return application


def count_messages(application: Application, board: Board) -> Application:
    """Count the messages of WebSockets."""
    return _MessageCounter(application, board)


class _MessageCounter:
    def __init__(self, application: Application, board: Board) -> None:
        self._application = application
        self._numbers = board.numbers

    def direct_lane(self, calls: ApplicationCalls) -> DirectLane | None:
        """Return the application's way without a task: HTTP is passed on as it is."""
        return open_direct_lane(self._application, calls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._application(scope, receive, send)
            return
        numbers = self._numbers

        async def counting_receive() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                numbers[Figure.MESSAGES_RECEIVED] += 1
            return message

        async def counting_send(message: Message) -> None:
            await send(message)
            if message["type"] == "websocket.send":
                numbers[Figure.MESSAGES_SENT] += 1

        await self._application(scope, counting_receive, counting_send)


def name_context(application: Application) -> Application:
    """Let log records know the request that they were written for."""

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            current_request_id.set(find_request_id(scope["headers"]) or "-")
        await application(scope, receive, send)

    return named


class SlowLog:
    """Warn of each HTTP request that took ``limit`` seconds or more; a RequestLog."""

    def __init__(self, limit: float) -> None:
        self._limit = limit

    def request_finished(self, record: RequestRecord) -> None:
        if record.duration < self._limit:
            return
        head = record.head
        name = find_request_id(head.headers)
        trace = f", trace {record.trace_id}" if record.trace_id else ""
        slow_logger.warning(
            "%s %s took %.3f seconds (status %s%s%s)",
            escape(head.method),
            request_target(head),
            record.duration,
            record.status or "-",
            f", request {name}" if name else "",
            trace,
        )

    def websocket_connecting(self, record: RequestRecord) -> None:
        """A WebSocket is meant to last."""

    websocket_accepted = websocket_connecting
    websocket_rejected = websocket_connecting
    websocket_closed = websocket_connecting
