"""Metrics and health as a probe sees them: over sockets, and over ASGI."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from djserve.asgi.application import ApplicationCalls, open_direct_lane
from djserve.asgi.types import Message, Receive, Scope, Send
from djserve.conf.schema import MetricsConfig
from djserve.errors import ConfigError, ListenError
from djserve.instrumentation.metrics import CONTENT_TYPE
from djserve.server.probes import (
    CONNECTION_LIMIT,
    ProbeServer,
    answer_health,
    answer_in_front,
)


class Health:
    """What a server knows of itself; the test says what it is."""

    def __init__(self, *, alive: bool = True, ready: bool = True) -> None:
        self.alive = alive
        self.ready = ready

    def metrics(self) -> bytes:
        return b"djserve_workers 1.0\n"

    def is_alive(self) -> bool:
        return self.alive

    def is_ready(self) -> bool:
        return self.ready


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def port(health: Health) -> Iterator[int]:
    server = ProbeServer("127.0.0.1:0", health)
    ((_, port),) = server.addresses
    yield port
    server.close()


def fetch(port: int, path: str, method: str = "GET") -> tuple[int, bytes, str | None]:
    """Return the status, the content and its type."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read(), response.getheader("Content-Type")
    finally:
        connection.close()


METRICS = MetricsConfig(metrics_path="/metrics")
HEALTH = MetricsConfig(health=True)


def ask_application(
    path: str, kind: str = "http", config: MetricsConfig = METRICS
) -> list[Any]:
    """Return what is sent by an application with the answers in front of it."""
    sent: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "from.application"})

    async def receive() -> Message:
        raise AssertionError("no content is read")

    async def send(message: Message) -> None:
        sent.append(message)

    async def read_metrics() -> bytes:
        return b"figures\n"

    answer = answer_in_front(application, config, Health(), read_metrics)
    scope: Scope = {"type": kind, "path": path}
    asyncio.run(answer(scope, receive, send))  # type: ignore[arg-type]
    return sent


@pytest.mark.parametrize(
    ("path", "alive", "ready", "status"),
    [
        ("/healthz", True, False, 200),
        ("/healthz", False, True, 503),
        ("/readyz", False, True, 200),
        ("/readyz", True, False, 503),
    ],
)
def test_health_is_a_status(path: str, alive: bool, ready: bool, status: int) -> None:
    assert answer_health(path, Health(alive=alive, ready=ready))[0] == status


@pytest.mark.e2e
def test_metrics_are_found_at_their_address(port: int) -> None:
    expected = (200, b"djserve_workers 1.0\n", CONTENT_TYPE)

    assert fetch(port, "/metrics") == fetch(port, "/metrics?all=1") == expected


@pytest.mark.e2e
def test_health_is_asked_anew_each_time(port: int, health: Health) -> None:
    assert fetch(port, "/readyz")[:2] == (200, b"ready\n")

    health.ready = False
    assert fetch(port, "/readyz")[:2] == (503, b"not ready\n")


@pytest.mark.e2e
def test_head_has_no_content(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b"HEAD /healthz HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))

    assert b"Content-Length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/", 404), ("POST", "/metrics", 501)],
)
def test_nothing_else_is_there(method: str, path: str, status: int, port: int) -> None:
    assert fetch(port, path, method)[0] == status


@pytest.mark.e2e
def test_silent_client_holds_up_nobody(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 60):
        assert fetch(port, "/healthz")[0] == 200


@pytest.mark.e2e
def test_unix_socket_is_answered_too(tmp_path: Path) -> None:
    server = ProbeServer(f"unix:{tmp_path}/metrics", Health())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(f"{tmp_path}/metrics")
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    server.close()

    assert answer.startswith(b"HTTP/1.0 200 ")
    assert answer.endswith(b"\r\n\r\nok\n")


@pytest.mark.e2e
def test_closed_server_answers_nobody() -> None:
    server = ProbeServer("127.0.0.1:0", Health())
    ((_, port),) = server.addresses
    server.close()

    with pytest.raises(ConnectionRefusedError):
        fetch(port, "/healthz")


@pytest.mark.e2e
def test_address_in_use_is_one_clear_error(port: int) -> None:
    with pytest.raises(ListenError):
        ProbeServer(f"127.0.0.1:{port}", Health())


def test_endpoint_is_refused() -> None:
    with pytest.raises(ConfigError, match="METRICS_BIND cannot be an endpoint"):
        ProbeServer("tcp:port=9000", Health())


@pytest.mark.parametrize(
    ("path", "content"),
    [("/metrics", b"figures\n"), ("/healthz", b"ok\n"), ("/readyz", b"ready\n")],
)
def test_paths_are_answered_in_front(path: str, content: bytes) -> None:
    start, body = ask_application(path)

    assert start["status"] == 200
    assert (b"content-length", b"%d" % len(content)) in start["headers"]
    assert body == {"type": "http.response.body", "body": content}


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "http"), ("/healthz/", "http"), ("/metrics", "websocket")]
)
def test_the_rest_is_the_applications(path: str, kind: str) -> None:
    assert ask_application(path, kind) == [{"type": "from.application"}]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_alone_is_answered_in_front(path: str) -> None:
    assert ask_application(path, config=HEALTH)[0]["status"] == 200


@pytest.mark.parametrize("path", ["/metrics", "/", "/healthz/"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_health_alone_answers_nothing_else(path: str, kind: str) -> None:
    sent = ask_application(path, kind, HEALTH)

    assert sent == [{"type": "from.application"}]


def test_without_both_settings_the_application_stays_as_it_is() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None: ...

    config = MetricsConfig(metrics_bind="127.0.0.1:9001")
    answer = answer_in_front(application, config, Health(), read_nothing)

    assert answer is application


class Lane:
    """What begins every call without a task."""

    def begin(self, exchange: Any) -> Any:
        return exchange


class Direct:
    """An application with a lane of its own."""

    def direct_lane(self, calls: ApplicationCalls) -> Lane:
        return Lane()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Exchange:
    def __init__(self, path: str) -> None:
        self.scope = {"path": path}


async def read_nothing() -> bytes:
    return b""


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_paths_in_front_do_not_reach_the_application_without_a_task_either(
    path: str,
) -> None:
    calls: Any = None
    answer = answer_in_front(Direct(), METRICS, Health(), read_nothing)
    lane = open_direct_lane(answer, calls)
    other = Exchange("/other")

    assert lane is not None
    assert lane.begin(Exchange(path)) is None
    assert lane.begin(other) is other  # type: ignore[comparison-overlap]


def test_no_way_without_a_task_where_the_application_has_none() -> None:
    calls: Any = None

    async def application(scope: Scope, receive: Receive, send: Send) -> None: ...

    answer = answer_in_front(application, METRICS, Health(), read_nothing)
    assert open_direct_lane(answer, calls) is None


@pytest.mark.e2e
def test_connections_that_wait_make_room_for_others(port: int) -> None:
    """None of many that ask nothing keeps a probe from its answer."""
    with ExitStack() as stack:
        waiting = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 60))
            for _ in range(CONNECTION_LIMIT + 20)
        ]
        for sock in waiting[:20]:
            assert sock.recv(100) == b""
        waiting[-1].sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert waiting[-1].recv(100).startswith(b"HTTP/1.0 200")
        assert fetch(port, "/healthz")[0] == 200
