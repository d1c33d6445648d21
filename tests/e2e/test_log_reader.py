"""A collector of logs that stops reading holds neither the server nor its end up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.clients import read_all
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})
"""
# Each is a line of the log; together they are more than a pipe holds.
REFUSED = 700
ASK = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def connect(port: int) -> socket.socket:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), PATIENCE)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def exchange(port: int, data: bytes) -> bytes:
    with connect(port) as sock:
        sock.sendall(data)
        return read_all(sock)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("log", ["none", "-"])
def test_log_that_is_not_read_stops_nothing(
    tmp_path: Path, free_port: int, workers: str, log: str
) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    reader, writer = os.pipe()
    words = ["-m", "djserve", "site_app:app", "-b", f"127.0.0.1:{free_port}"]
    words += ["--workers", workers, "--access-log", log]
    server = subprocess.Popen(
        [sys.executable, *words],
        cwd=tmp_path,
        stdout=writer,
        stderr=writer,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), "."])},
    )
    os.close(writer)
    try:
        for _ in range(REFUSED):
            exchange(free_port, b"BAD\0" + b"a" * 150 + b"\r\n\r\n")
        assert exchange(free_port, ASK).endswith(b"hello")
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0
    finally:
        server.kill()
        server.wait()
        os.close(reader)
