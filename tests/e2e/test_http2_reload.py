"""Reloads under steady HTTP/2 load: what clients see of a rolling restart."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

from tests.e2e.workers import DEADLINE, Tally, start_workers, wait_for

pytestmark = pytest.mark.e2e

APPLICATION = """
import asyncio
import os

async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("no lifespan")
    await asyncio.sleep(0.01)
    body = b"%d" % os.getpid()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})
"""

CONCURRENCY = 8
GOAWAY = 7

Start = Callable[..., Any]


@pytest.fixture
def start(start_server: Start, tmp_path: Path, free_port: int) -> Start:
    """Give ``start(*options)``: two workers, all of them ready."""
    (tmp_path / "app.py").write_text(APPLICATION)
    return partial(start_workers, start_server, tmp_path, free_port)


class Session:
    """One connection of a client that heeds GOAWAY as RFC 9113 section 6.8 has it.

    h2 takes no frame after a GOAWAY; it is therefore kept from it.
    """

    def __init__(self, port: int, seen: Tally) -> None:
        self.seen = seen
        self.sock = socket.create_connection(("127.0.0.1", port), DEADLINE)
        # As on a slow link: a connection that has sent nothing yet is not idle.
        time.sleep(0.05)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration())
        self.h2.initiate_connection()
        self.rest = b""
        self.open: dict[int, bytes] = {}
        self.last_stream_id: int | None = None

    def ask(self) -> None:
        stream_id = self.h2.get_next_available_stream_id()
        fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", "/"),
        ]
        self.h2.send_headers(stream_id, fields, end_stream=True)
        self.open[stream_id] = b""

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def read(self) -> bool:
        """Take what comes; return whether the connection goes on."""
        data = self.sock.recv(65536)
        self.rest += data
        while (frame := self._take_frame()) is not None:
            if frame[3] == GOAWAY:
                self._heed(*struct.unpack_from(">LL", frame, 9))
            else:
                for event in self.h2.receive_data(frame):
                    self._note(event)
        return bool(data)

    def _take_frame(self) -> bytes | None:
        length = int.from_bytes(self.rest[:3], "big") + 9
        if len(self.rest) < 9 or len(self.rest) < length:
            return None
        frame, self.rest = self.rest[:length], self.rest[length:]
        return frame

    def _heed(self, last_stream_id: int, code: int) -> None:
        self.seen.note(f"goaway {code}")
        assert self.last_stream_id is None or last_stream_id <= self.last_stream_id
        self.last_stream_id = last_stream_id
        for stream_id in [number for number in self.open if number > last_stream_id]:
            # It was not processed, and is asked again on the next connection.
            del self.open[stream_id]
            self.seen.note("retried")

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.open[event.stream_id] += event.data
            self.h2.acknowledge_received_data(
                event.flow_controlled_length, event.stream_id
            )
        elif isinstance(event, h2.events.StreamEnded):
            assert self.open.pop(event.stream_id).isdigit()
            self.seen.note("answered")
        elif isinstance(event, h2.events.StreamReset):
            del self.open[event.stream_id]
            self.seen.note(f"reset {event.error_code}")


class Load:
    """A client that keeps so many requests under way, over as many connections."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen = Tally()
        self.is_over = False
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def wait_for_more(self, answers: int) -> None:
        enough = self.seen["answered"] + answers
        wait_for(lambda: self.seen["answered"] >= enough)

    def end(self) -> Counter[str]:
        self.is_over = True
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        return self.seen.counts()

    def _run(self) -> None:
        while not self.is_over:
            session = Session(self.port, self.seen)
            self.seen.note("connections")
            with session.sock:
                self._use(session)
            # Whatever is open now was promised and not answered.
            self.seen.note("lost", len(session.open))

    def _use(self, session: Session) -> None:
        while True:
            while (
                session.last_stream_id is None
                and len(session.open) < CONCURRENCY
                and not self.is_over
            ):
                session.ask()
            if not session.open:
                return
            try:
                session.flush()
                if not session.read():
                    return
            except OSError as error:
                self.seen.note(f"failed {error}")
                return


@pytest.fixture
def load(free_port: int) -> Iterator[Callable[[], Load]]:
    loads: list[Load] = []

    def begin() -> Load:
        loads.append(Load(free_port))
        return loads[-1]

    yield begin
    for one in loads:
        one.end()


def reload(server: Any, wait_for_more: Callable[[], None]) -> None:
    """Let a rolling restart go through under load, with some load behind it."""
    ended = server.output.count("has ended")
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: server.output.count("has ended") >= ended + 2)
    wait_for_more()


@pytest.mark.parametrize("idle_timeout", ["0", "1"])
def test_reload_fails_no_request_of_a_client_that_heeds_goaway(
    start: Start, load: Callable[[], Load], idle_timeout: str
) -> None:
    server = start("--drain-idle-timeout", idle_timeout)
    clients = load()
    clients.wait_for_more(100)
    for _ in range(2):
        reload(server, lambda: clients.wait_for_more(100))
    seen = clients.end()

    assert set(seen) <= {"answered", "connections", "goaway 0", "retried", "lost"}
    assert seen["lost"] == 0
    assert seen["goaway 0"] >= 2


def test_reload_fails_no_request_of_httpx(start: Start, free_port: int) -> None:
    server = start()
    statuses: Counter[int] = Counter()
    is_over = threading.Event()

    def ask() -> None:
        with httpx.Client(http1=False, http2=True, timeout=DEADLINE) as client:
            while not is_over.is_set():
                response = client.get(f"http://127.0.0.1:{free_port}/")
                statuses[response.status_code] += 1

    def wait_for_more() -> None:
        enough = statuses[200] + 20
        wait_for(lambda: statuses[200] >= enough or not thread.is_alive())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        wait_for_more()
        reload(server, wait_for_more)
        assert thread.is_alive()
    finally:
        is_over.set()
        thread.join(DEADLINE)

    assert set(statuses) == {200}
