"""What the logs get to hear of requests and WebSockets."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from djserve.instrumentation.access_file import LineFile
from djserve.instrumentation.access_line import FORMATS
from djserve.instrumentation.access_log import AccessLog
from djserve.interfaces import ConnectionInfo, RequestHead
from djserve.server.records import WebSocketEntry, choose_finish, record_refusal

if TYPE_CHECKING:
    from djserve.asgi.types import Scope
    from djserve.instrumentation.events import RequestRecord

HEAD = RequestHead("GET", b"/a", b"b=c", [], "1.1")
SCOPE: Scope = {"client": ("192.0.2.1", 1), "scheme": "http"}
INFO = ConnectionInfo(("192.0.2.9", 1), None)


class Log:
    """Keeps each event with the values that its record has at that time."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, int]] = []
        self.records: list[RequestRecord] = []

    def _note(self, event: str, record: RequestRecord) -> None:
        self.events.append((event, record.status, record.size))
        self.records.append(record)

    def request_finished(self, record: RequestRecord) -> None:
        self._note("finished", record)

    def websocket_connecting(self, record: RequestRecord) -> None:
        self._note("connecting", record)

    def websocket_accepted(self, record: RequestRecord) -> None:
        self._note("accepted", record)

    def websocket_rejected(self, record: RequestRecord) -> None:
        self._note("rejected", record)

    def websocket_closed(self, record: RequestRecord) -> None:
        self._note("closed", record)


@pytest.fixture
def log() -> Log:
    return Log()


def test_request_is_logged_at_its_end(log: Log) -> None:
    finish = choose_finish(log)
    assert finish is not None
    started = time.perf_counter()
    assert log.events == []

    finish(HEAD, SCOPE, started, 200, 5)
    [record] = log.records
    assert log.events == [("finished", 200, 5)]
    assert (record.head, record.client, record.scheme) == (
        HEAD,
        SCOPE["client"],
        "http",
    )
    assert 0 <= record.duration < 60
    assert record.scope is SCOPE


@pytest.mark.parametrize("name", ["combined", "common", "json"])
def test_access_log_is_told_without_a_record_where_it_can_be(name: str) -> None:
    file = LineFile(os.devnull, lambda delay, call: None)
    log = AccessLog(file, FORMATS[name])
    finish = choose_finish(log)
    assert finish is not None
    finish(HEAD, SCOPE, time.perf_counter(), 200, 5)
    [line] = b"".join(file.pending).decode("ascii").splitlines()
    file.close()

    assert (finish == log.http_finished) is (name == "combined")
    assert "/a?b=c" in line


def test_websocket_is_logged_from_the_handshake_to_its_end(log: Log) -> None:
    entry = WebSocketEntry(log, HEAD, {**SCOPE, "scheme": "wss"})
    entry.accepted()
    entry.closed(1000)

    assert log.events == [
        ("connecting", 0, 0),
        ("accepted", 101, 0),
        ("closed", 1000, 0),
    ]
    assert {record.scheme for record in log.records} == {"https"}


def test_refused_websocket_is_logged_with_its_status(log: Log) -> None:
    WebSocketEntry(log, HEAD, {**SCOPE, "scheme": "ws"}).rejected(403)

    assert log.events == [("connecting", 0, 0), ("rejected", 403, 0)]


@pytest.mark.parametrize(("tls", "scheme"), [(None, "http"), ({}, "https")])
def test_refused_request_is_logged(
    log: Log, tls: dict[str, object] | None, scheme: str
) -> None:
    info = ConnectionInfo(("192.0.2.9", 1), None, tls)
    record_refusal(log, HEAD, info, ("203.0.113.9", 2), 413)

    assert log.events == [("finished", 413, 0)]
    assert (log.records[0].scheme, log.records[0].head) == (scheme, HEAD)
    assert log.records[0].client == ("203.0.113.9", 2)


def test_refused_request_that_could_not_be_read_is_logged(log: Log) -> None:
    record_refusal(log, None, INFO, INFO.client, 400)

    assert log.events == [("finished", 400, 0)]
    assert (log.records[0].head.method, log.records[0].head.raw_path) == ("-", b"-")


def test_refused_handshake_is_a_rejected_websocket(log: Log) -> None:
    head = RequestHead("GET", b"/ws", b"", [], "1.1")
    head.upgrade = b"websocket"
    record_refusal(log, head, INFO, INFO.client, 426)

    assert log.events == [("rejected", 426, 0)]
