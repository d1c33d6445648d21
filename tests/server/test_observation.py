from __future__ import annotations

import asyncio
from typing import Any

import pytest

from djserve.asgi.application import ApplicationCalls, open_direct_lane
from djserve.asgi.types import Application, Message, Receive, Scope, Send
from djserve.conf.parser import parse
from djserve.instrumentation.board import Board, Figure, Meter
from djserve.instrumentation.events import RequestRecord
from djserve.instrumentation.request_id import current_request_id
from djserve.interfaces import Headers, RequestHead
from djserve.server.observation import (
    SlowLog,
    count_messages,
    has_metrics,
    name_context,
    observe,
    open_logs,
    wants_figures,
)
from tests.support.logs import own_records


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send each message back, twice, until the client has gone."""
    while (message := await receive())["type"].endswith(".receive"):
        answer: Message = {"type": "websocket.send", "text": message["text"]}
        await send(answer)
        await send(answer)


def converse(application: Application, kind: str, texts: list[str]) -> list[Any]:
    """Run the application with a client that sends texts; return what it gets."""
    waiting: list[Message] = [
        {"type": f"{kind}.receive", "text": text} for text in texts
    ]
    sent: list[Any] = []

    async def receive() -> Message:
        return waiting.pop(0) if waiting else {"type": f"{kind}.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": kind, "headers": [(b"x-request-id", b"ab-1")]}
    asyncio.run(application(scope, receive, send))  # type: ignore[arg-type]
    return sent


@pytest.mark.parametrize(
    ("settings", "figures", "metrics"),
    [
        ({}, False, False),
        ({"METRICS_BIND": "127.0.0.1:9000"}, True, True),
        ({"METRICS_PATH": "/metrics"}, True, True),
        ({"CONTROL_SOCKET": "/run/djserve"}, True, False),
        ({"WORKER_MAX_REQUESTS": 10}, True, False),
        ({"WORKER_MAX_AGE": 10}, False, False),
    ],
    ids=["default", "bind", "path", "control", "requests", "age"],
)
def test_figures_are_kept_for_who_reads_them(
    settings: dict[str, Any], figures: bool, metrics: bool
) -> None:
    config = parse(settings)

    assert wants_figures(config.metrics, config.workers) is figures
    assert has_metrics(config.metrics) is metrics


def test_logs_are_those_that_are_configured(board: Board) -> None:
    slow = parse({"SLOW_REQUEST_TIME": 2}).logging

    assert list(map(type, open_logs(slow, board))) == [Meter, SlowLog]
    assert list(map(type, open_logs(slow, None))) == [SlowLog]
    assert list(open_logs(parse({}).logging, None)) == []


def test_nothing_is_put_around_the_application_by_default() -> None:
    assert observe(echo, parse({}).logging, None) is echo


def test_messages_are_counted_where_metrics_are_wanted(board: Board) -> None:
    application = observe(echo, parse({}).logging, board)
    sent = converse(application, "websocket", ["a", "b", "c"])

    assert [message["text"] for message in sent] == ["a", "a", "b", "b", "c", "c"]
    assert board.numbers[Figure.MESSAGES_RECEIVED] == 3
    assert board.numbers[Figure.MESSAGES_SENT] == 6


def test_messages_of_http_are_not_counted(board: Board) -> None:
    before = board.numbers.tolist()
    sent = converse(count_messages(echo, board), "http", ["a"])

    assert len(sent) == 2
    assert board.numbers.tolist() == before


def test_request_is_named_in_its_context() -> None:
    names = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        names.append(current_request_id.get())

    named = observe(application, parse({"REQUEST_ID": True}).logging, None)
    converse(named, "http", [])
    converse(name_context(application), "lifespan", [])
    assert names == ["ab-1", "-"]


class Lane:
    """What begins every call without a task."""

    def begin(self, exchange: Any) -> Any:
        return exchange


class Direct:
    """An application with a lane of its own."""

    lane = Lane()

    def direct_lane(self, calls: ApplicationCalls) -> Lane:
        return self.lane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


def test_http_passes_by_the_counter_without_a_task(board: Board) -> None:
    calls: Any = None

    assert open_direct_lane(count_messages(Direct(), board), calls) is Direct.lane
    assert open_direct_lane(count_messages(echo, board), calls) is None


def make_record(
    duration: float, *, status: int = 200, headers: Headers | None = None
) -> RequestRecord:
    head = RequestHead("GET", b"/report", b"year=1", headers or [], "1.1")
    return RequestRecord(head, None, "http", status=status, duration=duration)


def test_request_that_took_the_limit_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    SlowLog(1.5).request_finished(make_record(1.5))

    (record,) = own_records(caplog)
    assert (record.name, record.levelname) == ("djserve.slow", "WARNING")
    assert record.message == "GET /report?year=1 took 1.500 seconds (status 200)"


def test_fast_request_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    SlowLog(1.5).request_finished(make_record(1.499))

    assert own_records(caplog) == []


def test_request_without_a_response_has_no_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    SlowLog(1).request_finished(make_record(2, status=0))

    assert own_records(caplog)[0].message.endswith("(status -)")


def test_request_id_is_told(caplog: pytest.LogCaptureFixture) -> None:
    SlowLog(1).request_finished(make_record(2, headers=[(b"x-request-id", b"ab-1")]))

    assert own_records(caplog)[0].message.endswith("(status 200, request ab-1)")


def test_peer_cannot_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    record = make_record(2)
    record.head.raw_path = b"/\x1b[2J\nforged"
    SlowLog(1).request_finished(record)

    assert "/\\x1b[2J\\x0aforged" in own_records(caplog)[0].message


@pytest.mark.parametrize(
    "event",
    [
        "websocket_connecting",
        "websocket_accepted",
        "websocket_rejected",
        "websocket_closed",
    ],
)
def test_websocket_may_last(event: str, caplog: pytest.LogCaptureFixture) -> None:
    getattr(SlowLog(1), event)(make_record(3600, status=1000))

    assert own_records(caplog) == []


def test_trace_is_told(caplog: pytest.LogCaptureFixture) -> None:
    record = make_record(2)
    record.trace_id = "0af7"
    SlowLog(1).request_finished(record)

    assert own_records(caplog)[0].message.endswith("(status 200, trace 0af7)")
