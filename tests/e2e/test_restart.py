"""Restarts under load: no request fails, WebSockets are told to come back (1012)."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
import websockets.exceptions
import websockets.sync.client

from tests.e2e.workers import DEADLINE, Tally, start_workers, wait_for

pytestmark = pytest.mark.e2e

APPLICATION = """
import os

async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    elif scope["type"] == "http":
        body = VERSION + b" %d" % os.getpid()
        headers = [(b"content-length", b"%d" % len(body))]
        await send(
            {"type": "http.response.start", "status": 200, "headers": headers}
        )
        await send({"type": "http.response.body", "body": body})
    else:
        raise ValueError("no lifespan")

VERSION = b"one"
"""
# Of another length: Python would take what it has compiled of a file of the same length
# that was written in the same second.
SECOND = APPLICATION.replace('b"one"', 'b"two and more"')

Start = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


@pytest.fixture
def start(start_server: Start, folder: Path, free_port: int) -> Start:
    """Give ``start(*options)``: two workers, all of them ready."""

    drain = ("--websocket-drain-time", "0.5")
    return partial(start_workers, start_server, folder, free_port, *drain)


class Load:
    """Clients in threads that count what they see."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen = Tally()
        self._is_over = threading.Event()
        clients = [self._keep_alive, self._keep_alive, self._fresh]
        clients += [self._websocket, self._websocket]
        self._threads = [threading.Thread(target=client) for client in clients]
        for thread in self._threads:
            thread.start()

    def wait_for_more(self, answers: int) -> None:
        """Return after so many more answers, with both WebSockets open."""
        enough = self.seen["status 200"] + answers
        wait_for(lambda: self.seen["status 200"] >= enough)
        wait_for(lambda: self.seen["opened"] == 2 + self.seen["closed 1012"])

    def end(self) -> Counter[str]:
        self._is_over.set()
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        return self.seen.counts()

    def _keep_alive(self) -> None:
        """One request after the other, on one connection as long as it is kept."""
        client = self._connect()
        while not self._is_over.is_set():
            self._request(client)
        client.close()

    def _fresh(self) -> None:
        while not self._is_over.is_set():
            client = self._connect()
            self._request(client)
            client.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def _request(self, client: http.client.HTTPConnection) -> None:
        try:
            client.request("GET", "/")
            response = client.getresponse()
            response.read()
            self.seen.note(f"status {response.status}")
        except (OSError, http.client.HTTPException) as error:
            self.seen.note(f"failed {type(error).__name__}")
            client.close()
        time.sleep(0.002)

    def _websocket(self) -> None:
        while not self._is_over.is_set():
            try:
                self._echo()
            except websockets.exceptions.ConnectionClosed as error:
                code = error.rcvd.code if error.rcvd else "none"
                self.seen.note(f"closed {code}")
            except (OSError, websockets.exceptions.WebSocketException) as error:
                self.seen.note(f"failed {type(error).__name__}")

    def _echo(self) -> None:
        url = f"ws://127.0.0.1:{self.port}/"
        with websockets.sync.client.connect(url, open_timeout=DEADLINE) as client:
            self.seen.note("opened")
            while not self._is_over.is_set():
                client.send("text")
                assert client.recv(timeout=DEADLINE) == "text"
                time.sleep(0.01)


@pytest.fixture
def load(start: Start) -> Iterator[Callable[..., tuple[Any, Load]]]:
    """Give ``load(*options)``: a server, and clients that keep it busy."""
    loads: list[Load] = []

    def begin(*options: str) -> tuple[Any, Load]:
        # However long a client takes for its next request, it is waited for.
        patience = ("--drain-idle-timeout", "300", "--shutdown-timeout", "600")
        server = start(*patience, *options)
        loads.append(Load(server.port))
        wait_for(lambda: loads[-1].seen["opened"] == 2)
        return server, loads[-1]

    yield begin
    for one in loads:
        one.end()


def failures(seen: Counter[str]) -> dict[str, int]:
    expected = {"status 200", "opened", "closed 1012"}
    return {what: count for what, count in seen.items() if what not in expected}


def test_reloads_under_load_fail_nothing(load: Callable[..., Any]) -> None:
    server, clients = load()
    for number in range(1, 4):
        server.process.send_signal(signal.SIGHUP)
        wait_for(
            lambda: server.output.count("All workers run the new code") >= number  # noqa: B023
        )
        clients.wait_for_more(40)
    wait_for(lambda: clients.seen["closed 1012"] >= 4)
    seen = clients.end()

    assert failures(seen) == {}
    assert seen["closed 1012"] >= 4
    assert seen["status 200"] > 100


def test_more_and_fewer_workers_under_load_fail_nothing(
    load: Callable[..., Any],
) -> None:
    server, clients = load()
    server.process.send_signal(signal.SIGTTIN)
    wait_for(lambda: "of workers is now 3" in server.output)
    wait_for(lambda: server.output.count("is ready") == 3)
    clients.wait_for_more(200)
    server.process.send_signal(signal.SIGTTOU)
    wait_for(lambda: "of workers is now 2" in server.output)
    wait_for(lambda: "has ended" in server.output)
    clients.wait_for_more(200)
    seen = clients.end()

    assert failures(seen) == {}


def test_recycling_under_load_fails_nothing(load: Callable[..., Any]) -> None:
    server, clients = load("--worker-max-requests", "200")
    wait_for(lambda: server.output.count("it has answered") >= 3)
    seen = clients.end()

    assert failures(seen) == {}


def test_killed_worker_fails_what_it_had_and_nothing_else(
    load: Callable[..., Any],
) -> None:
    server, clients = load()
    for number in range(3):
        pids = re.findall(r"process (\d+)\) is ready", server.output)
        os.kill(int(pids[number]), signal.SIGKILL)
        wait_for(lambda: server.output.count("is ready") == len(pids) + 1)  # noqa: B023
    wait_for(lambda: clients.seen["status 200"] > 100)
    seen = clients.end()

    # Three clients with a request each, two WebSockets, three kills.
    assert sum(failures(seen).values()) <= 3 * 5
    assert seen["status 200"] > 100


def test_http2_streams_survive_reloads(
    start: Start, folder: Path, require_program: Callable[..., str]
) -> None:

    curl = require_program("curl")
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "a.pem"))
    server = start("--certfile", str(folder / "a.pem"))
    url = f"https://127.0.0.1:{server.port}/?[1-3000]"
    words = ["--http2", "--insecure", "--silent", "--parallel", "--parallel-max", "4"]
    seen = ["-o", os.devnull, "-w", "%{http_version} %{http_code}\n"]
    with subprocess.Popen(
        [curl, "--max-time", "120", *words, *seen, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as client:
        assert client.stdout is not None
        first = client.stdout.readline()
        server.process.send_signal(signal.SIGHUP)
        output = first + client.stdout.read()

    assert Counter(output.splitlines()) == {"2 200": 3000}
    wait_for(lambda: "All workers run the new code" in server.output)


def test_broken_code_is_told_and_service_goes_on(start: Start, folder: Path) -> None:
    server = start()
    (folder / "app.py").write_text("def broken(:\n")
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "the old workers stay" in server.output)
    assert "SyntaxError" in server.output
    assert fetch(server.port).startswith("one")

    (folder / "app.py").write_text(SECOND)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "All workers run the new code" in server.output)
    wait_for(lambda: fetch(server.port).startswith("two"))


def test_change_of_a_file_reloads(start: Start, folder: Path) -> None:
    server = start("--reload")

    def save() -> bool:
        # Nothing tells when the folder is watched: a change before is of no effect.
        (folder / "app.py").write_text(SECOND)
        return "Changed: app.py" in server.output

    wait_for(save, interval=0.2)
    server.wait_for("All workers run the new code")
    wait_for(lambda: fetch(server.port).startswith("two"))


def fetch(port: int) -> str:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    client.request("GET", "/", headers={"Connection": "close"})
    return client.getresponse().read().decode()


def test_idle_connection_may_send_one_more_request(start: Start) -> None:
    server = start("--drain-idle-timeout", "300", "--shutdown-timeout", "600")
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as client:
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        client.sendall(request)
        client.recv(65536)
        server.process.terminate()
        server.wait_for("1 connections with 0 application calls")
        client.sendall(request)
        answer = b"".join(iter(lambda: client.recv(65536), b""))

        assert b"connection: close" in answer.lower()
