"""Requests that took long, one warning each on "djserve.slow"."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from djserve.instrumentation.events import escape, request_target
from djserve.instrumentation.request_id import find_request_id

if TYPE_CHECKING:
    from djserve.instrumentation.events import RequestRecord

logger = logging.getLogger("djserve.slow")


class SlowLog:
    """Log each HTTP request that took ``limit`` seconds or more; a RequestLog."""

    def __init__(self, limit: float) -> None:
        self._limit = limit

    def request_finished(self, record: RequestRecord) -> None:
        if record.duration < self._limit:
            return
        head = record.head
        name = find_request_id(head.headers)
        trace = f", trace {record.trace_id}" if record.trace_id else ""
        logger.warning(
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
