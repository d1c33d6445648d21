"""Requests to log records: the clock and the log, behind what an exchange tells."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from djserve.instrumentation.events import RequestRecord

if TYPE_CHECKING:
    from djserve.asgi.types import Scope
    from djserve.instrumentation.events import RequestLog
    from djserve.interfaces import RequestHead


class HTTPEntry:
    """One HTTP request's line in the log, written at its end."""

    __slots__ = ("_log", "_record", "_started")

    def __init__(self, log: RequestLog, head: RequestHead, scope: Scope) -> None:
        self._log = log
        self._record = RequestRecord(head, scope["client"], scope["scheme"])
        self._started = time.perf_counter()

    def finish(self, status: int, size: int) -> None:
        """Log the request; ``size`` is in bytes."""
        record = self._record
        record.status = status
        record.size = size
        record.duration = time.perf_counter() - self._started
        self._log.request_finished(record)
