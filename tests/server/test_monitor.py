"""The heartbeat of a server, and what one without a supervisor tells of itself."""

from __future__ import annotations

import asyncio
import http.client
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from djserve.asgi.types import Message, Receive, Scope, Send
from djserve.conf.parser import parse
from djserve.errors import ConfigError
from djserve.instrumentation.board import Board, Figure
from djserve.instrumentation.spooled import note_refusal
from djserve.net.twisted.reactor import Reactor
from djserve.server import monitor
from djserve.server.lifecycle import Server
from djserve.server.monitor import BLOCKED_TIME, INTERVAL, Heartbeat, LocalMonitor
from tests.support.thread_figures import ThreadFigures
from tests.support.virtual_time import VirtualTimeLoop

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
def test_health_alone_needs_no_library(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    alone = LocalMonitor(parse({"HEALTH": True}).metrics, reactor, None)
    server = Server(application, parse({"HEALTH": True}), reactor)
    alone.start(server)

    assert request(alone, "/healthz") == (200, b"ok\n")
    assert request(alone, "/readyz") == (200, b"ready\n")
    assert request(alone, "/metrics") == (418, b"tea")
    alone.board.close()


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


@pytest.fixture
def beating(reactor: Reactor) -> Server:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("not called")

    return Server(application, parse({}), reactor)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualTimeLoop]:
    """A loop by whose clock the hearts beat."""
    loop = VirtualTimeLoop()
    monkeypatch.setattr(monitor, "time", SimpleNamespace(monotonic=loop.time))
    yield loop
    loop.close()


def run_until_next_beat(board: Board, loop: VirtualTimeLoop) -> None:
    before = board.numbers[Figure.HEARTBEAT]
    for _ in range(20):
        loop.run_until_complete(asyncio.sleep(INTERVAL / 10))
        if board.numbers[Figure.HEARTBEAT] != before:
            return
    pytest.fail("The heart has stopped")


def test_first_beat_is_at_once(board: Board, beating: Server, reactor: Reactor) -> None:
    before = time.monotonic()
    Heartbeat(board, beating).start(reactor.loop)

    assert before <= board.numbers[Figure.HEARTBEAT] / 1e9 <= time.monotonic()


def test_beats_go_on_with_the_loop(
    board: Board, beating: Server, loop: VirtualTimeLoop
) -> None:
    Heartbeat(board, beating).start(loop)
    first = board.numbers[Figure.HEARTBEAT]
    run_until_next_beat(board, loop)

    elapsed = board.numbers[Figure.HEARTBEAT] - first
    assert elapsed == pytest.approx(INTERVAL * 1e9)


def test_beat_in_time_has_no_lag(
    board: Board, beating: Server, loop: VirtualTimeLoop
) -> None:
    Heartbeat(board, beating).start(loop)
    lags = [board.numbers[Figure.LOOP_LAG]]
    for _ in range(3):
        run_until_next_beat(board, loop)
        lags.append(board.numbers[Figure.LOOP_LAG])

    assert lags == [0, 0, 0, 0]


def test_blocked_loop_is_a_late_beat(
    board: Board, beating: Server, loop: VirtualTimeLoop
) -> None:
    Heartbeat(board, beating).start(loop)
    loop.call_soon(loop.block, INTERVAL + 0.3)
    run_until_next_beat(board, loop)

    assert board.numbers[Figure.LOOP_LAG] == pytest.approx(0.3e9)
    assert board.numbers[Figure.LOOP_LAG_WORST] == board.numbers[Figure.LOOP_LAG]


def test_worst_lag_is_kept(
    board: Board, beating: Server, loop: VirtualTimeLoop
) -> None:
    board.numbers[Figure.LOOP_LAG_WORST] = 10**15
    Heartbeat(board, beating).start(loop)

    assert board.numbers[Figure.LOOP_LAG_WORST] == 10**15


def test_stop_is_seen_at_the_next_beat(
    board: Board, beating: Server, loop: VirtualTimeLoop
) -> None:
    Heartbeat(board, beating).start(loop)
    assert board.numbers[Figure.IS_DRAINING] == 0

    beating.stop()
    run_until_next_beat(board, loop)
    assert board.numbers[Figure.IS_DRAINING] == 1


def test_last_beat_has_what_came_since_the_one_before(
    board: Board, beating: Server, loop: VirtualTimeLoop
) -> None:
    heartbeat = Heartbeat(board, beating)
    heartbeat.start(loop)
    beating.stop()
    heartbeat.stop()
    assert board.numbers[Figure.IS_DRAINING] == 1

    last = board.numbers[Figure.HEARTBEAT]
    loop.run_until_complete(asyncio.sleep(INTERVAL * 3))
    assert board.numbers[Figure.HEARTBEAT] == last


def test_heart_that_never_beat_has_no_last_beat(board: Board, beating: Server) -> None:
    Heartbeat(board, beating).stop()

    assert board.numbers[Figure.HEARTBEAT] == 0


def test_threads_are_told_where_there_are_any(
    board: Board, beating: Server, loop: VirtualTimeLoop
) -> None:
    figures = ThreadFigures(8, 5, 2, 3, 1, 0.5, {"slow": (4, 2)})
    Heartbeat(board, beating, lambda: figures).start(loop)

    assert board.numbers[Figure.THREADS] == 8
    assert board.numbers[Figure.THREADS_RUNNING] == 5
    assert board.numbers[Figure.THREADS_QUEUED] == 2
    assert board.numbers[Figure.THREADS_WAITING] == 3
    assert board.numbers[Figure.THREADS_PARKED] == 1
    assert board.numbers[Figure.THREAD_WAIT] == 500_000_000
    assert board.views() == {"slow": (4, 2)}


def test_refused_content_is_told(
    board: Board, beating: Server, loop: VirtualTimeLoop
) -> None:
    Heartbeat(board, beating).start(loop)
    late, full = (
        board.numbers[f] for f in (Figure.BODIES_LATE, Figure.UPLOADS_REFUSED)
    )
    for status in (408, 408, 413, 503):
        note_refusal(status)
    run_until_next_beat(board, loop)

    assert board.numbers[Figure.BODIES_LATE] == late + 2
    assert board.numbers[Figure.UPLOADS_REFUSED] == full + 1
