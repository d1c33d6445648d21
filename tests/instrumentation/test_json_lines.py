from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextvars import copy_context
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from djserve.instrumentation.events import RequestRecord
from djserve.instrumentation.json_lines import (
    JSONFormatter,
    format_json,
    format_time,
)
from djserve.instrumentation.notes import current_trace_id
from djserve.instrumentation.request_id import current_request_id
from djserve.interfaces import Headers, RequestHead


def make_log_record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("djserve", logging.ERROR, "", 0, message, args, None)


def format_record(record: logging.LogRecord) -> dict[str, Any]:
    line = JSONFormatter().format(record)
    assert "\n" not in line
    entry: dict[str, Any] = json.loads(line)
    return entry


def format_request(
    path: bytes = b"/",
    query: bytes = b"",
    headers: Headers | None = None,
    version: str = "1.1",
    **fields: Any,
) -> dict[str, Any]:
    head = RequestHead("GET", path, query, headers or [], version)
    client = fields.pop("client", None)
    record = RequestRecord(head, client, "http", **fields)
    line = format_json(record, "GET", "")
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    entry: dict[str, Any] = json.loads(line)
    return entry


def test_log_record_is_one_object() -> None:
    record = make_log_record("%d of %d", 1, 2)

    assert format_record(record) == {
        "time": format_time(record.created),
        "level": "ERROR",
        "logger": "djserve",
        "process": os.getpid(),
        "message": "1 of 2",
    }


def test_traceback_stays_in_its_line() -> None:
    record = make_log_record("first\nsecond")
    try:
        raise LookupError("lost")
    except LookupError:
        record.exc_info = sys.exc_info()
    entry = format_record(record)

    assert entry["message"] == "first\nsecond"
    assert entry["traceback"].startswith("Traceback")
    assert entry["traceback"].endswith("LookupError: lost")


def test_log_record_names_its_request() -> None:
    context = copy_context()
    context.run(current_request_id.set, "ab-1")

    entry = context.run(format_record, make_log_record("text"))
    assert entry["request_id"] == "ab-1"


def test_request_is_one_object() -> None:
    started = time.time()
    headers = [(b"user-agent", b"curl"), (b"referer", b"/b"), (b"x-request-id", b"a-1")]
    entry = format_request(
        b"/a",
        b"b=1",
        headers,
        client=("::1", 5),
        status=200,
        size=12,
        duration=0.12345678,
    )

    assert datetime.fromisoformat(entry.pop("time")).timestamp() >= started - 0.001
    assert entry == {
        "client": "::1",
        "method": "GET",
        "target": "/a?b=1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 12,
        "duration": 0.123457,
        "referer": "/b",
        "user_agent": "curl",
        "request_id": "a-1",
        "worker": os.getpid(),
    }


def test_what_is_not_known_is_null() -> None:
    entry = format_request()

    assert (entry["client"], entry["status"], entry["request_id"]) == (None, None, None)


@pytest.mark.parametrize(
    ("version", "protocol"),
    [
        ("1.0", "HTTP/1.0"),
        ("1.1", "HTTP/1.1"),
        ("2", "HTTP/2"),
        ("3", "HTTP/3"),
        ("4", "4"),
    ],
)
def test_protocol_has_its_name(version: str, protocol: str) -> None:
    assert format_request(version=version)["protocol"] == protocol


@pytest.mark.parametrize("data", [b'"}\n{"', b"\\", b"\x1b[2J", b"\xff\x85"])
def test_peer_cannot_forge_a_line(data: bytes) -> None:
    entry = format_request(data, headers=[(b"user-agent", data)])

    assert entry["target"] == entry["user_agent"] == data.decode("latin-1")


def test_time_is_in_utc_with_milliseconds() -> None:
    zone = timezone(timedelta(hours=2))
    seconds = datetime(2024, 2, 29, 1, 30, 0, 250_000, zone).timestamp()

    assert format_time(seconds) == "2024-02-28T23:30:00.250Z"
    assert format_time(0) == "1970-01-01T00:00:00.000Z"


def test_log_record_of_a_traced_request_tells_the_trace() -> None:
    def write() -> dict[str, Any]:
        current_trace_id.set("0af7")
        return format_record(make_log_record("a"))

    assert copy_context().run(write)["trace_id"] == "0af7"
    assert "trace_id" not in format_record(make_log_record("a"))


def test_traced_request_tells_its_trace() -> None:
    head = RequestHead("GET", b"/", b"", [], "1.1")
    record = RequestRecord(head, None, "http")
    record.trace_id = "0af7"

    assert json.loads(format_json(record, "GET", ""))["trace_id"] == "0af7"
    assert "trace_id" not in format_request()
