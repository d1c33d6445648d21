"""Requests to log records: the clock and the log, behind what an exchange tells."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from djserve.instrumentation.access_log import AccessLog
from djserve.instrumentation.events import RequestRecord
from djserve.instrumentation.notes import find_notes
from djserve.interfaces import RequestHead

if TYPE_CHECKING:
    from djserve.asgi.types import FinishRequest, Scope
    from djserve.instrumentation.events import RequestLog
    from djserve.interfaces import ConnectionInfo


def choose_finish(
    log: RequestLog | None, *, takes_notes: bool = False
) -> FinishRequest | None:
    """Return what logs a request's end; the access log alone needs no record."""
    if log is None:
        return None
    if takes_notes:
        return partial(_finish_noted, log)
    if isinstance(log, AccessLog) and log.is_combined:
        return log.http_finished
    return partial(_finish_record, log)


def _finish_noted(
    log: RequestLog,
    head: RequestHead,
    scope: Scope,
    started: float,
    status: int,
    size: int,
) -> None:
    _finish_record(log, head, scope, started, status, size)
    # Django's request refers to the scope again.
    find_notes(scope).clear()


def _finish_record(
    log: RequestLog,
    head: RequestHead,
    scope: Scope,
    started: float,
    status: int,
    size: int,
) -> None:
    duration = time.perf_counter() - started
    record = RequestRecord(
        head, scope["client"], scope["scheme"], status, size, duration
    )
    record.scope = scope
    log.request_finished(record)


class WebSocketEntry:
    """One WebSocket's lines in the log, from the handshake to its end."""

    __slots__ = ("_log", "_record", "_started")

    def __init__(self, log: RequestLog, head: RequestHead, scope: Scope) -> None:
        self._log = log
        scheme = "https" if scope["scheme"] == "wss" else "http"
        self._record = RequestRecord(head, scope["client"], scheme)
        self._record.scope = scope
        self._started = time.perf_counter()
        log.websocket_connecting(self._record)

    def accepted(self) -> None:
        """Log that the application has accepted."""
        self._update(101)
        self._log.websocket_accepted(self._record)

    def rejected(self, status: int) -> None:
        """Log a refusal with its status, 0 if the client went first."""
        self._update(status)
        self._log.websocket_rejected(self._record)

    def closed(self, code: int) -> None:
        """Log the end with its close code (RFC 6455 section 7.4)."""
        self._update(code)
        self._log.websocket_closed(self._record)

    def _update(self, status: int) -> None:
        self._record.status = status
        self._record.duration = time.perf_counter() - self._started


def record_refusal(
    log: RequestLog,
    head: RequestHead | None,
    info: ConnectionInfo,
    client: tuple[str, int] | None,
    status: int,
) -> None:
    """Log a request that no application has seen; "-" if it could not be read.

    ``client`` is the forwarded one behind a trusted proxy.
    """
    if head is None:
        head = RequestHead("-", b"-", b"", [], "1.1")
    scheme = "https" if info.tls is not None else "http"
    record = RequestRecord(head, client, scheme, status)
    if head.upgrade == b"websocket":
        log.websocket_rejected(record)
    else:
        log.request_finished(record)
