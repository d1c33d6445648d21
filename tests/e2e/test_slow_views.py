"""No slow view holds up a fast one, a handshake or a probe; no traces are left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.conftest import ROOT, ServerProcess, StartServer, find_free_port

pytestmark = pytest.mark.e2e

PATIENCE = 120
MANAGE = (
    "import sys, tests.e2e.slow_site;"
    "from django.core.management import execute_from_command_line as manage;"
    "manage(sys.argv)"
)

Serve = Callable[..., ServerProcess]


@pytest.fixture
def serve(start_server: StartServer, tmp_path: Path) -> Serve:
    """Give ``serve(*options)``: the site of slow views, with its database."""
    env = {"SLOW_SITE": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", MANAGE, "migrate", "--verbosity=0"],
        cwd=ROOT,
        env={**os.environ, **env},
        check=True,
        timeout=PATIENCE,
    )

    def start(*options: str) -> ServerProcess:
        port = find_free_port()
        arguments = ["-c", MANAGE, "runasgi", "--bind", f"127.0.0.1:{port}"]
        return start_server(*arguments, *options, port=port, env=env)

    return start


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        content: bytes = response.read()
    return content


def open_socket(server: ServerProcess) -> Any:
    return connect(
        f"ws://127.0.0.1:{server.port}/ws/",
        open_timeout=PATIENCE,
        additional_headers={"Cookie": "sessionid=0123456789abcdef"},
    )


@pytest.mark.parametrize("options", [(), ("--threads", "4")])
def test_quick_views_and_handshakes_are_answered_beside_slow_ones(
    serve: Serve, options: tuple[str, ...]
) -> None:
    port = find_free_port()
    server = serve(*options, "--metrics-bind", f"127.0.0.1:{port}")
    with ThreadPoolExecutor(40) as clients:
        slow = [clients.submit(get, f"{server.url}/slow/?seconds=6") for _ in range(30)]
        if options:
            server.wait_for("holds 3 of at most 4 threads")
        assert get(f"{server.url}/quick/") == b"quick"
        with open_socket(server) as socket:
            socket.send("")
            assert json.loads(socket.recv(PATIENCE))["user"] is None
        assert get(f"http://127.0.0.1:{port}/healthz")
        assert not all(future.done() for future in slow)
        if options:
            # Seven rounds would take longer than this test likes to wait.
            server.process.kill()
            server.process.wait(PATIENCE)
        for future in slow:
            assert future.exception() is not None or future.result() == b"slow"


def test_event_streams_leave_threads_and_take_turns(serve: Serve) -> None:
    server = serve("--threads", "4")
    began = threading.Barrier(6, timeout=PATIENCE)

    def read(count: int) -> None:
        with urllib.request.urlopen(
            f"{server.url}/events/", timeout=PATIENCE
        ) as stream:
            for _ in range(count):
                assert stream.readline() == b"data: event\n"
                stream.readline()
            began.wait()

    with ThreadPoolExecutor(5) as clients:
        # More than may run at a time: each gets its events all the same.
        readers = [clients.submit(read, 3) for _ in range(5)]
        assert get(f"{server.url}/quick/") == b"quick"
        began.wait()
        for reader in readers:
            reader.result(PATIENCE)


def test_what_a_request_leaves_behind_reaches_nobody_else(serve: Serve) -> None:
    server = serve("--threads", "2")
    clean = json.loads(get(f"{server.url}/surroundings/"))
    for number in range(4):
        traces = json.loads(get(f"{server.url}/surroundings/?leave=user{number}"))
        assert traces["user"] == f"user{number}"
        assert (traces["language"], traces["debugging"]) == ("de", True)

        # Thread-locals stay in the threads of requests, as under any server.
        later = json.loads(get(f"{server.url}/surroundings/"))
        assert {**later, "user": None} == clean
        with open_socket(server) as socket:
            for _ in range(2):
                socket.send("")
                assert json.loads(socket.recv(PATIENCE)) == clean
