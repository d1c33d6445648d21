"""The demo while its Redis is away, and when it is back."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.conftest import find_free_port
from tests.e2e.conftest import serve_demo
from tests.e2e.demo_site import Prepared

pytestmark = pytest.mark.e2e


class Redis:
    """A Redis that can be stopped and started again at one address."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = find_free_port()
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1"]
        self._command += ["--save", ""]
        self._folder = folder
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, cwd=self._folder, stdout=subprocess.DEVNULL
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(120)


@pytest.fixture
def redis(require_program: Callable[..., str], tmp_path: Path) -> Iterator[Redis]:
    redis = Redis(require_program("redis-server"), tmp_path)
    yield redis
    redis.stop()


def open_lobby(port: int, session: str) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{port}/ws/rooms/lobby/",
        origin=Origin(f"http://127.0.0.1:{port}"),
        additional_headers={"Cookie": f"sessionid={session}"},
        open_timeout=120,
    )


def ask(socket: ClientConnection, command: dict[str, Any], answer: str) -> Any:
    """Send a command, and return the frame of a type that comes after it."""
    socket.send(json.dumps(command))
    return receive(socket, answer)


def receive(socket: ClientConnection, type: str) -> Any:
    while True:
        frame = json.loads(socket.recv(timeout=120))
        if frame["type"] == type:
            return frame


def hears(socket: ClientConnection, text: str) -> bool:
    """Return whether a message with the text comes within two seconds."""
    try:
        while text not in socket.recv(timeout=2):
            continue
    except TimeoutError:
        return False
    return True


def new_message(text: str) -> dict[str, Any]:
    nonce = str(uuid.uuid4())
    return {"type": "send", "nonce": nonce, "text": text, "attachments": []}


def test_outage_of_redis_is_two_lines_and_ends_no_connection(
    redis: Redis,
    prepared: Prepared,
    tmp_path: Path,
    start_server: Callable[..., Any],
    free_port: int,
) -> None:
    data = prepared.copy(tmp_path / "data")
    url = f"redis://127.0.0.1:{redis.port}/0"
    server = serve_demo(start_server, data, free_port, REDIS_URL=url)
    ana = open_lobby(free_port, prepared.sessions["ana"])
    ben = open_lobby(free_port, prepared.sessions["ben"])
    with ana, ben:
        version = receive(ben, "welcome")["version"]
        quiet = len(server.output)
        redis.stop()
        server.wait_for("The channel layer cannot be reached")
        assert ask(ana, new_message("Is it off?"), "accepted")
        # No event told of the message; the ping does, and the page asks for it.
        assert ask(ben, {"type": "ping"}, "pong")["version"] == version + 1
        with open_lobby(free_port, prepared.sessions["chen"]) as chen:
            assert receive(chen, "welcome")["version"] == version + 1
        redis.start()
        # Sending, if only to find out, is tried again after a pause.
        deadline = time.monotonic() + 120
        while "The channel layer is back" not in server.output:
            assert time.monotonic() < deadline, server.output[quiet:]
            ask(ana, {"type": "ping"}, "pong")
            time.sleep(0.5)
        ask(ben, {"type": "ping"}, "pong")
        # The receiving connection is back a little later than the sending one.
        while not hears(ben, "It is back."):
            assert time.monotonic() < deadline, server.output[quiet:]
            ask(ana, new_message("It is back."), "accepted")

    assert server.output[quiet:].count("\n") == 2, server.output[quiet:]
