"""SIGTERM as each kind of client sees it: the table in docs/guides/operations.md."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
import websockets.sync.client

from tests.e2e.workers import DEADLINE, wait_for

pytestmark = pytest.mark.e2e

# What it prints goes to the server's log: the order there is the order of events.
APPLICATION = """
import asyncio
from pathlib import Path


async def events(send):
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            body = b"data: tick\\n\\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        print("event stream cancelled", flush=True)
        raise


async def slow(send):
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"slow"})


async def quick(send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"quick"})


async def lifespan(receive, send):
    while True:
        kind = (await receive())["type"]
        print(kind, flush=True)
        await send({"type": f"{kind}.complete"})


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
    print(f"WebSocket ended with {message['code']}", flush=True)


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        views = {"/events": events, "/slow": slow}
        await views.get(scope["path"], quick)(send)
"""


class Client:
    """A raw HTTP/1.1 connection that has sent one request."""

    def __init__(self, port: int, path: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self.ask(path)

    def ask(self, path: str) -> None:
        self._sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

    def read_until(self, end: bytes) -> bytes:
        """Return what comes, up to ``end``."""
        data = b""
        while not data.endswith(end):
            received = self._sock.recv(1)
            assert received, f"the connection ended after {data!r}"
            data += received
        return data

    def read_to_end(self) -> bytes:
        """Return all that comes until the server closes."""
        return b"".join(iter(lambda: self._sock.recv(65536), b""))

    def has_input(self) -> bool:
        """Whether anything has come, or the end."""
        self._sock.setblocking(False)
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        finally:
            self._sock.settimeout(DEADLINE)
        return True

    def close(self) -> None:
        self._sock.close()


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), DEADLINE).close()
    except ConnectionRefusedError:
        return True
    return False


class Guests:
    """A server with an event stream, a slow request, a WebSocket and an idle client."""

    def __init__(self, server: Any, folder: Path, stack: ExitStack) -> None:
        self.server = server
        self._folder = folder
        port = server.port
        self.events = Client(port, "/events")
        self.slow = Client(port, "/slow")
        self.idle = Client(port, "/quick")
        for client in (self.events, self.slow, self.idle):
            stack.callback(client.close)
        self.events.read_until(b"tick\n\n\r\n")
        self.idle.read_until(b"quick")
        url = f"ws://127.0.0.1:{port}/"
        self.websocket = stack.enter_context(
            websockets.sync.client.connect(url, open_timeout=DEADLINE)
        )
        self.websocket.send("text")
        assert self.websocket.recv(timeout=DEADLINE) == "text"

    def terminate(self) -> None:
        self.server.process.terminate()

    def finish_slow(self) -> None:
        """Let the slow request have its answer."""
        (self._folder / "go").touch()

    def lines(self, *wanted: str) -> list[str]:
        """Return the lines of the log that are wanted, in their order."""
        return [line for line in self.server.output.splitlines() if line in wanted]


@pytest.fixture
def receive_guests(
    start_server: Callable[..., Any],
    tmp_path: Path,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Guests]]:
    """Give ``receive_guests(*options)``: a worker under a supervisor, with guests."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    (tmp_path / "app.py").write_text(APPLICATION)
    with ExitStack() as stack:

        def receive(*options: str) -> Guests:
            words = ("-m", "djserve", "app:application", "--supervisor", "on")
            bind = ("--bind", f"127.0.0.1:{free_port}")
            server = start_server(*words, *bind, *options, port=free_port, cwd=tmp_path)
            server.wait_for("Supervisor")
            return Guests(server, tmp_path, stack)

        yield receive


def test_each_client_sees_its_own_end(receive_guests: Callable[..., Guests]) -> None:
    guests = receive_guests("--shutdown-timeout", "600")
    guests.terminate()

    wait_for(lambda: is_refused(guests.server.port))
    with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
        guests.websocket.recv(timeout=DEADLINE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012

    # Closed after the moment in which a request might have been on its way.
    assert guests.idle.read_to_end() == b""

    # The requests under way are waited for.
    assert not guests.slow.has_input()
    guests.finish_slow()
    answer = guests.slow.read_to_end()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert b"slow" in answer

    # An endless one goes on, until the second signal or SHUTDOWN_TIMEOUT.
    guests.events.read_until(b"tick\n\n\r\n")
    assert guests.server.process.poll() is None
    guests.terminate()
    assert not guests.events.read_to_end().endswith(b"0\r\n\r\n")
    assert guests.server.process.wait(DEADLINE) == 0
    order = (
        "lifespan.startup",
        "WebSocket ended with 1012",
        "event stream cancelled",
        "lifespan.shutdown",
    )
    assert guests.lines(*order) == list(order)


def test_shutdown_timeout_ends_what_does_not_end(
    receive_guests: Callable[..., Guests],
) -> None:
    guests = receive_guests("--shutdown-timeout", "0.5")
    guests.terminate()

    assert not guests.events.read_to_end().endswith(b"0\r\n\r\n")
    assert guests.slow.read_to_end().startswith(b"HTTP/1.1 503 ")
    assert guests.server.process.wait(DEADLINE) == 0
    order = ("event stream cancelled", "lifespan.shutdown")
    assert guests.lines(*order) == list(order)


def test_idle_connection_has_its_last_request_answered(
    receive_guests: Callable[..., Guests],
) -> None:
    guests = receive_guests("--shutdown-timeout", "600", "--drain-idle-timeout", "300")
    guests.terminate()
    wait_for(lambda: is_refused(guests.server.port))
    guests.idle.ask("/quick")
    answer = guests.idle.read_to_end()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer
    guests.terminate()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_application_that_blocks_the_signals_is_ended_by_them(
    start_server: Callable[..., Any], free_port: int, tmp_path: Path, workers: str
) -> None:
    (tmp_path / "blocking_app.py").write_text(
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])\n"
        + APPLICATION
    )
    words = ["-m", "djserve", "blocking_app:application", "--workers", workers]
    words += ["-b", f"127.0.0.1:{free_port}"]
    server = start_server(*words, port=free_port, cwd=tmp_path, env={"PYTHONPATH": "."})
    server.process.terminate()

    assert server.process.wait(DEADLINE) == 0


BLOCKED = """
import time


async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"on", "more_body": True})
        print("blocked", flush=True)
        time.sleep(3600)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("blocked", flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("place", ["view", "lifespan"])
def test_second_signal_ends_a_server_whose_loop_is_blocked(
    start_server: Callable[..., Any], free_port: int, tmp_path: Path, place: str
) -> None:
    (tmp_path / "blocked_app.py").write_text(BLOCKED)
    words = ["-m", "djserve", "blocked_app:application", "-b", f"127.0.0.1:{free_port}"]
    server = start_server(*words, port=free_port, cwd=tmp_path, env={"PYTHONPATH": "."})
    with socket.create_connection(("127.0.0.1", free_port), DEADLINE) as client:
        if place == "view":
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        else:
            server.process.terminate()
        server.wait_for("blocked")

        def terminate_again() -> bool:
            # Two that come at once are one to the process.
            server.process.terminate()
            return server.process.poll() is not None

        wait_for(terminate_again)

    assert server.process.returncode == 128 + 15
    assert "the event loop is blocked by the application" in server.output
