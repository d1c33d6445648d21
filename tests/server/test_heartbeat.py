"""Beats of a real server on a loop that is blocked where a test needs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from djserve.asgi.types import Receive, Scope, Send
from djserve.conf.parser import parse
from djserve.instrumentation.board import Board, Figure
from djserve.instrumentation.spooled import note_refusal
from djserve.net.twisted.reactor import Reactor
from djserve.server import heartbeat
from djserve.server.heartbeat import INTERVAL, Heartbeat
from djserve.server.lifecycle import Server
from tests.support.thread_figures import ThreadFigures
from tests.support.virtual_time import VirtualTimeLoop


@pytest.fixture
def server(reactor: Reactor) -> Server:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("not called")

    return Server(application, parse({}), reactor)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualTimeLoop]:
    """A loop by whose clock the hearts beat."""
    loop = VirtualTimeLoop()
    monkeypatch.setattr(heartbeat, "time", SimpleNamespace(monotonic=loop.time))
    yield loop
    loop.close()


def run_until_next_beat(board: Board, loop: VirtualTimeLoop) -> None:
    before = board.numbers[Figure.HEARTBEAT]
    for _ in range(20):
        loop.run_until_complete(asyncio.sleep(INTERVAL / 10))
        if board.numbers[Figure.HEARTBEAT] != before:
            return
    pytest.fail("The heart has stopped")


def test_first_beat_is_at_once(board: Board, server: Server, reactor: Reactor) -> None:
    before = time.monotonic()
    Heartbeat(board, server).start(reactor.loop)

    assert before <= board.numbers[Figure.HEARTBEAT] / 1e9 <= time.monotonic()


def test_beats_go_on_with_the_loop(
    board: Board, server: Server, loop: VirtualTimeLoop
) -> None:
    Heartbeat(board, server).start(loop)
    first = board.numbers[Figure.HEARTBEAT]
    run_until_next_beat(board, loop)

    elapsed = board.numbers[Figure.HEARTBEAT] - first
    assert elapsed == pytest.approx(INTERVAL * 1e9)


def test_beat_in_time_has_no_lag(
    board: Board, server: Server, loop: VirtualTimeLoop
) -> None:
    Heartbeat(board, server).start(loop)
    lags = [board.numbers[Figure.LOOP_LAG]]
    for _ in range(3):
        run_until_next_beat(board, loop)
        lags.append(board.numbers[Figure.LOOP_LAG])

    assert lags == [0, 0, 0, 0]


def test_blocked_loop_is_a_late_beat(
    board: Board, server: Server, loop: VirtualTimeLoop
) -> None:
    Heartbeat(board, server).start(loop)
    loop.call_soon(loop.block, INTERVAL + 0.3)
    run_until_next_beat(board, loop)

    assert board.numbers[Figure.LOOP_LAG] == pytest.approx(0.3e9)
    assert board.numbers[Figure.LOOP_LAG_WORST] == board.numbers[Figure.LOOP_LAG]


def test_worst_lag_is_kept(board: Board, server: Server, loop: VirtualTimeLoop) -> None:
    board.numbers[Figure.LOOP_LAG_WORST] = 10**15
    Heartbeat(board, server).start(loop)

    assert board.numbers[Figure.LOOP_LAG_WORST] == 10**15


def test_stop_is_seen_at_the_next_beat(
    board: Board, server: Server, loop: VirtualTimeLoop
) -> None:
    Heartbeat(board, server).start(loop)
    assert board.numbers[Figure.IS_DRAINING] == 0

    server.stop()
    run_until_next_beat(board, loop)
    assert board.numbers[Figure.IS_DRAINING] == 1


def test_threads_are_told_where_there_are_any(
    board: Board, server: Server, loop: VirtualTimeLoop
) -> None:
    figures = ThreadFigures(8, 5, 2, 3, 1, 0.5, {"slow": (4, 2)})
    Heartbeat(board, server, lambda: figures).start(loop)

    assert board.numbers[Figure.THREADS] == 8
    assert board.numbers[Figure.THREADS_RUNNING] == 5
    assert board.numbers[Figure.THREADS_QUEUED] == 2
    assert board.numbers[Figure.THREADS_WAITING] == 3
    assert board.numbers[Figure.THREADS_PARKED] == 1
    assert board.numbers[Figure.THREAD_WAIT] == 500_000_000
    assert board.views() == {"slow": (4, 2)}


def test_refused_content_is_told(
    board: Board, server: Server, loop: VirtualTimeLoop
) -> None:
    Heartbeat(board, server).start(loop)
    late, full = (
        board.numbers[f] for f in (Figure.BODIES_LATE, Figure.UPLOADS_REFUSED)
    )
    for status in (408, 408, 413, 503):
        note_refusal(status)
    run_until_next_beat(board, loop)

    assert board.numbers[Figure.BODIES_LATE] == late + 2
    assert board.numbers[Figure.UPLOADS_REFUSED] == full + 1
