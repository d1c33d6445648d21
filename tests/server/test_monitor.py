"""What a server without a supervisor tells of itself."""

from __future__ import annotations

import asyncio
import http.client
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from djserve.asgi.types import Message, Receive, Scope, Send
from djserve.conf.parser import parse
from djserve.errors import ConfigError
from djserve.instrumentation.board import Figure
from djserve.net.twisted.reactor import Reactor
from djserve.server.lifecycle import Server
from djserve.server.monitor import BLOCKED_TIME, LocalMonitor
from tests.support.thread_figures import ThreadFigures

METRICS = {"METRICS_PATH": "/metrics"}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 418})
    await send({"type": "http.response.body", "body": b"tea"})


@pytest.fixture
def alone(reactor: Reactor) -> Iterator[LocalMonitor]:
    alone = LocalMonitor(
        parse(METRICS).metrics, reactor, lambda: ThreadFigures(4, 1, 0)
    )
    yield alone
    alone.board.close()


@pytest.fixture
def server(alone: LocalMonitor, reactor: Reactor) -> Server:
    """A server that has been announced to ``alone`` as ready."""
    server = Server(alone.put_around(application), parse(METRICS), reactor)
    alone.start(server)
    return server


def request(alone: LocalMonitor, path: str) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def receive() -> Message:
        raise AssertionError("no content is read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "path": path}

    async def call() -> None:
        await alone.put_around(application)(scope, receive, send)

    asyncio.run(call())
    return sent[0]["status"], sent[1]["body"]


def test_server_is_ready_between_its_start_and_its_stop(
    alone: LocalMonitor, reactor: Reactor
) -> None:
    server = Server(application, parse(METRICS), reactor)
    assert request(alone, "/readyz")[0] == 503

    alone.start(server)
    assert request(alone, "/readyz")[0] == 200

    server.stop()
    assert request(alone, "/readyz")[0] == 503


def test_server_without_a_beat_for_long_is_not_alive(
    alone: LocalMonitor, server: Server
) -> None:
    assert request(alone, "/healthz")[0] == 200

    alone.board.numbers[Figure.HEARTBEAT] -= int(BLOCKED_TIME * 1e9)
    assert request(alone, "/healthz") == (503, b"blocked\n")


def test_metrics_are_those_of_this_process(alone: LocalMonitor, server: Server) -> None:
    status, content = request(alone, "/metrics")

    assert status == 200
    assert b"djserve_threads 4.0\n" in content
    assert b'djserve_loop_lag_seconds{worker="%d"}' % os.getpid() in content


def test_other_paths_are_the_applications(alone: LocalMonitor) -> None:
    assert request(alone, "/") == (418, b"tea")


def test_nothing_is_in_front_without_a_path_for_metrics(reactor: Reactor) -> None:
    alone = LocalMonitor(parse({"METRICS_BIND": "127.0.0.1:0"}).metrics, reactor, None)

    assert alone.put_around(application) is application
    alone.board.close()


def test_missing_library_is_told_at_the_start(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(ConfigError, match="prometheus-client"):
        LocalMonitor(parse(METRICS).metrics, reactor, None)


@pytest.mark.e2e
def test_metrics_have_an_address_of_their_own(
    start_server: Callable[..., Any], free_port: int, tmp_path: Path
) -> None:
    (tmp_path / "tea.py").write_text(
        "async def application(scope, receive, send):\n    raise ValueError\n"
    )
    bind = ["--bind", "127.0.0.1:0", "--metrics-bind", f"127.0.0.1:{free_port}"]
    start_server(
        "-m", "djserve", "tea:application", *bind, port=free_port, cwd=tmp_path
    )
    connection = http.client.HTTPConnection("127.0.0.1", free_port, timeout=60)
    connection.request("GET", "/metrics")
    content = connection.getresponse().read()
    connection.close()

    assert b"djserve_workers 1.0\n" in content
