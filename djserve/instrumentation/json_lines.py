"""Log records and requests as JSON, one object a line (``LOG_JSON``)."""

from __future__ import annotations

import json
import logging
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from djserve.instrumentation.notes import current_trace_id
from djserve.instrumentation.request_id import current_request_id, find_request_id

if TYPE_CHECKING:
    from djserve.instrumentation.events import RequestRecord

PROTOCOLS = {"1.0": "HTTP/1.0", "1.1": "HTTP/1.1", "2": "HTTP/2", "3": "HTTP/3"}


class JSONFormatter(logging.Formatter):
    """Write a log record with its time in UTC, level, logger, message and traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": format_time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        request_id = current_request_id.get()
        if request_id != "-":
            entry["request_id"] = request_id
        trace_id = current_trace_id.get()
        if trace_id:
            entry["trace_id"] = trace_id
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def format_json(record: RequestRecord, method: str, date: str) -> str:
    """Return a request's line for the access log; json.dumps escapes all it must."""
    head = record.head
    target = b"%b?%b" % (head.raw_path, head.query) if head.query else head.raw_path
    fields = {name: value for name, value in head.headers if name in _WANTED}
    entry: dict[str, object] = {
        "time": format_time(time.time()),
        "client": record.client[0] if record.client is not None else None,
        "method": method,
        "target": target.decode("latin-1"),
        "protocol": PROTOCOLS.get(head.http_version, head.http_version),
        "status": record.status or None,
        "bytes": record.size,
        "duration": round(record.duration, 6),
        "referer": fields.get(b"referer", b"").decode("latin-1"),
        "user_agent": fields.get(b"user-agent", b"").decode("latin-1"),
        "request_id": find_request_id(head.headers) or None,
        "worker": os.getpid(),
    }
    if record.trace_id:
        entry["trace_id"] = record.trace_id
    return json.dumps(entry) + "\n"


def format_time(seconds: float) -> str:
    """Return a time as RFC 3339 has it, in UTC with milliseconds."""
    time_in_utc = datetime.fromtimestamp(seconds, UTC)
    return time_in_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_WANTED = frozenset({b"referer", b"user-agent"})
