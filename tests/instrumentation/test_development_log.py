from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from django.core.management.color import make_style

from djserve.instrumentation.development_log import (
    DevelopmentLog,
    development_line,
    find_role,
    websocket_line,
)
from djserve.instrumentation.events import RequestRecord
from djserve.interfaces import RequestHead
from tests.support.logs import own_records

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT = ("127.0.0.1", 54321)


def record(
    path: bytes = b"/path",
    query: bytes = b"",
    status: int = 200,
    client: tuple[str, int] | None = CLIENT,
) -> RequestRecord:
    head = RequestHead("GET", path, query, [], "1.1")
    return RequestRecord(head, client, "http", status, duration=0.0149)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("djserve.development")
    with caplog.at_level(logging.INFO, logger.name):
        yield caplog


def test_request_line_is_the_one_that_users_know() -> None:
    line = development_line(record(b"/path", b"q=1"))

    assert line == "HTTP GET /path?q=1 200 [0.01, 127.0.0.1:54321]"


def test_request_line_of_an_unread_request_has_dashes() -> None:
    request = record(b"", status=0, client=None)
    request.head.method = ""

    assert development_line(request) == "HTTP -  - [0.01, -]"


def test_websocket_line_leaves_the_query_out() -> None:
    line = websocket_line(record(b"/ws/", b"token=secret"), "CONNECT")

    assert line == "WebSocket CONNECT /ws/ [127.0.0.1:54321]"


def test_control_bytes_do_not_reach_the_terminal() -> None:
    request = record(b"/\x1b[2J\r\nHTTP GET /")

    assert development_line(request).startswith(
        "HTTP GET /\\x1b[2J\\x0d\\x0aHTTP GET /"
    )
    assert "\x1b" not in websocket_line(request, "CONNECT")


@pytest.mark.parametrize(
    ("status", "role", "level"),
    [
        (101, "HTTP_INFO", logging.INFO),
        (200, "HTTP_SUCCESS", logging.INFO),
        (204, "HTTP_SUCCESS", logging.INFO),
        (302, "HTTP_REDIRECT", logging.INFO),
        (304, "HTTP_NOT_MODIFIED", logging.INFO),
        (400, "HTTP_BAD_REQUEST", logging.WARNING),
        (404, "HTTP_NOT_FOUND", logging.WARNING),
        (500, "HTTP_SERVER_ERROR", logging.ERROR),
        (0, "HTTP_SERVER_ERROR", logging.ERROR),
        (999, "HTTP_SERVER_ERROR", logging.ERROR),
    ],
)
def test_status_decides_on_colour_and_level(status: int, role: str, level: int) -> None:
    assert find_role(status) == (role, level)


@pytest.mark.parametrize("status", [101, 200, 302, 304, 400, 404, 500])
def test_request_has_the_colour_of_its_status(
    status: int, lines: pytest.LogCaptureFixture
) -> None:
    style = make_style("dark")
    request = record(status=status)
    DevelopmentLog(style).request_finished(request)
    paint = getattr(style, find_role(status)[0])

    assert lines.messages == [paint(development_line(request))]


def test_log_without_style_is_plain(lines: pytest.LogCaptureFixture) -> None:
    DevelopmentLog().request_finished(record(status=404))

    assert lines.messages == ["HTTP GET /path 404 [0.01, 127.0.0.1:54321]"]


def test_percent_signs_in_a_path_are_kept(lines: pytest.LogCaptureFixture) -> None:
    DevelopmentLog().request_finished(record(b"/100%25s"))

    assert lines.messages == ["HTTP GET /100%25s 200 [0.01, 127.0.0.1:54321]"]


def test_request_below_the_level_is_not_formatted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "djserve.development"):
        DevelopmentLog().request_finished(record())

    assert own_records(caplog) == []


def test_each_step_of_a_websocket_has_a_line(
    lines: pytest.LogCaptureFixture,
) -> None:
    log, request = DevelopmentLog(), record(b"/ws/")
    log.websocket_connecting(request)
    log.websocket_accepted(request)
    log.websocket_rejected(request)
    log.websocket_closed(request)

    assert lines.messages == [
        f"WebSocket {action} /ws/ [127.0.0.1:54321]"
        for action in ("HANDSHAKING", "CONNECT", "REJECT", "DISCONNECT")
    ]
