"""Real workers as their supervisor meets them; and a worker's server in a thread."""

from __future__ import annotations

import http.client
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from djserve.conf.parser import parse
from djserve.instrumentation.board import Board, Figure
from djserve.net.channel import Channel, Message, open_pair
from djserve.net.twisted.reactor import Reactor
from djserve.server.lifecycle import ExitCode, Server, run_until_stopped
from djserve.supervisor import worker as worker_module
from djserve.supervisor.processes import Loader, Worker
from djserve.supervisor.program import Loaded, Program
from djserve.supervisor.worker import SupervisorLink
from tests.support.thread_figures import ThreadFigures

if TYPE_CHECKING:
    from djserve.asgi.types import Receive, Scope, Send


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
        loader.fork(worker)
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

    assert began < worker.board.numbers[Figure.HEARTBEAT] < time.monotonic_ns()


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
    loader.become(worker)
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
    os.pwrite(worker.board.descriptor, bytes(8), Figure.LAYOUT * 8)
    began = time.monotonic_ns()
    start()

    assert hear(worker.channel)["event"] == "ready"
    data = os.pread(worker.board.descriptor, 8, Figure.HEARTBEAT * 8)
    assert int.from_bytes(data, sys.byteorder) > began


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once, but /wait not at all, so that the call can be looked at."""
    if scope["type"] != "http":
        raise ValueError("HTTP only")
    if scope["path"] == "/wait":
        while (await receive())["type"] != "http.disconnect":
            continue
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"application"})


class Running:
    """A server with its link; ``channel`` is the supervisor's end."""

    def __init__(self, **settings: object) -> None:
        self.channel, theirs = open_pair()
        self.board = Board()
        self._theirs = theirs
        self._reactor = Reactor()
        config = parse({"BIND": ["127.0.0.1:0"], **settings})
        program = Program(
            load=lambda: Loaded(application),
            describe=lambda scope: f"view of {scope['path']}",
            thread_stats=lambda: ThreadFigures(4, 2, 1),
        )
        self.link = SupervisorLink(
            theirs,
            self.board,
            self._reactor.loop,
            program,
            metrics=config.metrics,
            has_control=config.workers.control_socket is not None,
        )
        self.server = Server(
            self.link.put_around(application),
            config,
            self._reactor,
            on_ready=self.link.server_ready,
        )
        self.exit_codes: queue.Queue[ExitCode] = queue.Queue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        code = run_until_stopped(self.server, self._reactor)
        self._reactor.dispose()
        self.exit_codes.put(code)

    def connect(self) -> http.client.HTTPConnection:
        address = self.server.urls[0].removeprefix("http://").rstrip("/")
        return http.client.HTTPConnection(address, timeout=60)

    def request(self, path: str) -> http.client.HTTPConnection:
        """Send a request, and leave the answer for later."""
        connection = self.connect()
        connection.request("GET", path)
        return connection

    def get(self, path: str) -> tuple[int, bytes]:
        return read(self.request(path))

    def end(self) -> None:
        # The end of the supervisor ends the server, where it has not ended before.
        self.channel.close()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._theirs.close()
        self.board.close()


def read(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


Run = Callable[..., Running]


@pytest.fixture
def run(hear: Hear) -> Iterator[Run]:
    """Give ``run(**settings)``: a server that has told that it is ready."""
    started: list[Running] = []

    def run(**settings: object) -> Running:
        started.append(Running(**settings))
        assert hear(started[-1].channel)["event"] == "ready"
        return started[-1]

    yield run
    for running in started:
        running.end()


def test_ready_server_tells_its_process_and_loop(hear: Hear) -> None:
    running = Running()
    message = hear(running.channel)
    running.end()

    assert message["event"] == "ready"
    assert message["pid"] == os.getpid()
    assert message["loop"] in ("uvloop", "asyncio")


def test_ready_server_beats_with_the_figures_of_the_program(run: Run) -> None:
    numbers = run().board.numbers

    assert 0 < numbers[Figure.HEARTBEAT] <= time.monotonic_ns()
    assert (numbers[Figure.THREADS], numbers[Figure.THREADS_QUEUED]) == (4, 1)


def test_order_to_stop_ends_the_server(run: Run) -> None:
    running = run()
    running.channel.send({"command": "stop"})

    assert running.exit_codes.get(timeout=60) is ExitCode.OK


def test_end_of_the_supervisor_ends_the_server(run: Run) -> None:
    running = run()
    running.channel.close()

    assert running.exit_codes.get(timeout=60) is ExitCode.OK


def test_metrics_are_those_that_the_supervisor_tells(
    run: Run, hear: Hear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "ANSWER_TIMEOUT", 120.0)
    running = run(METRICS_PATH="/metrics")
    connection = running.request("/metrics")
    assert hear(running.channel) == {"event": "metrics"}
    running.channel.send({"command": "metrics", "text": "figures 1\n"})

    assert read(connection) == (200, b"figures 1\n")


def test_metrics_that_the_supervisor_does_not_tell_are_an_error(
    run: Run, hear: Hear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "ANSWER_TIMEOUT", 0.1)
    running = run(METRICS_PATH="/metrics")
    assert running.get("/metrics")[0] == 500
    hear(running.channel)
    # An answer that is late disturbs nobody.
    running.channel.send({"command": "metrics", "text": "late\n"})

    assert running.get("/other") == (200, b"application")


@pytest.mark.parametrize("settings", [{"METRICS_PATH": "/metrics"}, {"HEALTH": True}])
def test_server_that_serves_is_ready(run: Run, settings: dict[str, Any]) -> None:
    running = run(**settings)

    assert running.get("/readyz") == (200, b"ready\n")
    assert running.get("/healthz") == (200, b"ok\n")


def test_without_a_path_the_application_has_all_of_them(run: Run) -> None:
    assert run().get("/readyz") == (200, b"application")


def test_report_names_the_calls_that_run(run: Run, hear: Hear) -> None:
    running = run(CONTROL_SOCKET="/nowhere/control")
    connection = running.request("/wait")
    calls: list[dict[str, Any]] = []
    while not calls:
        running.channel.send({"command": "report", "id": 5})
        message = hear(running.channel)
        calls = message["calls"]
    connection.close()

    assert (message["event"], message["id"]) == ("report", 5)
    assert (calls[0]["path"], calls[0]["view"]) == ("/wait", "view of /wait")


def test_answers_that_do_not_fit_at_once_follow_in_their_order(
    run: Run, hear: Hear
) -> None:
    running = run()
    numbers = list(range(3000))
    for number in numbers:
        running.channel.send({"command": "report", "id": number})

    assert [hear(running.channel)["id"] for _ in numbers] == numbers
