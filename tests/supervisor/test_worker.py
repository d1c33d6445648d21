"""Real workers, forked or loaded by themselves, as their supervisor meets them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from djserve.instrumentation.board import Field
from djserve.net.channel import Channel, Message
from djserve.supervisor.processes import Loader, Worker

pytestmark = pytest.mark.e2e

Hear = Callable[[Channel], Message]
StartLoader = Callable[..., Loader]
Start = Callable[[], Loader]

FAILS_TO_START = """
async def application(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


@pytest.fixture
def start(start_loader: StartLoader, hear: Hear, worker: Worker) -> Start:
    """Give ``start()``: the loader that has forked ``worker``."""

    def start() -> Loader:
        loader = start_loader()
        hear(loader.channel)
        loader.make(worker, "fork")
        worker.handed_over()
        worker.pid = hear(loader.channel)["pid"]
        return loader

    return start


def test_worker_tells_its_process_and_loop_when_it_is_ready(
    start: Start, hear: Hear, worker: Worker
) -> None:
    start()
    message = hear(worker.channel)

    assert message["event"] == "ready"
    assert message["pid"] == worker.pid
    assert message["loop"] in ("uvloop", "asyncio")


def test_worker_beats_once_it_is_ready(
    start: Start, hear: Hear, worker: Worker
) -> None:
    began = time.monotonic_ns()
    start()
    hear(worker.channel)

    assert began < worker.board.numbers[Field.HEARTBEAT] < time.monotonic_ns()


def test_worker_that_is_told_to_stop_ends_well(
    start: Start, hear: Hear, worker: Worker
) -> None:
    loader = start()
    hear(worker.channel)
    worker.channel.send({"command": "stop"})

    assert hear(loader.channel)["code"] == 0


def test_signal_stops_a_worker_too(start: Start, hear: Hear, worker: Worker) -> None:
    loader = start()
    hear(worker.channel)
    worker.send_signal(signal.SIGTERM)

    assert hear(loader.channel)["code"] == 0


def test_worker_ends_with_its_supervisor(
    start: Start, hear: Hear, worker: Worker
) -> None:
    loader = start()
    hear(worker.channel)
    worker.channel.close()

    assert hear(loader.channel)["code"] == 0


def test_worker_writes_the_stacks_of_its_threads(
    start: Start, hear: Hear, worker: Worker
) -> None:
    start()
    hear(worker.channel)
    worker.ask_for_stacks()
    deadline = time.monotonic() + 120
    while "run_until_stopped" not in worker.read_stacks():
        assert time.monotonic() < deadline, worker.read_stacks()
        time.sleep(0.01)


def test_application_that_does_not_start_has_its_exit_code(
    start: Start, hear: Hear, project: Path
) -> None:
    (project / "app.py").write_text(FAILS_TO_START)
    loader = start()

    assert hear(loader.channel)["code"] == 3


def test_worker_that_cannot_load_by_itself_tells_why(
    start_loader: StartLoader, hear: Hear, worker: Worker, project: Path
) -> None:
    (project / "app.py").write_text("def broken(:\n")
    loader = start_loader("--no-preload")
    hear(loader.channel)
    loader.make(worker, "become")
    worker.handed_over()
    message = hear(worker.channel)

    assert message["event"] == "failed"
    assert "SyntaxError" in message["problems"][0]
    assert loader.process.wait(120) == 2


@pytest.mark.skipif(not os.path.exists("/proc"), reason="only Linux has /proc")
def test_worker_shows_its_number(start: Start, hear: Hear, worker: Worker) -> None:
    start()
    hear(worker.channel)
    name = Path(f"/proc/{worker.pid}/cmdline").read_text().strip("\0")

    assert name == "djserve: worker 7"


def test_worker_of_a_version_with_another_board_serves_and_beats(
    start: Start, hear: Hear, worker: Worker
) -> None:
    # As a version that had fewer figures and did not tell its layout.
    os.truncate(worker.board.descriptor, 64 * 8)
    os.pwrite(worker.board.descriptor, bytes(8), Field.LAYOUT * 8)
    began = time.monotonic_ns()
    start()

    assert hear(worker.channel)["event"] == "ready"
    data = os.pread(worker.board.descriptor, 8, Field.HEARTBEAT * 8)
    assert int.from_bytes(data, sys.byteorder) > began
