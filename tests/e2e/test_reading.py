"""What takes long to read is read in parts, with turns for all others in between."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from djserve.protocols.http2 import frames
from djserve.testing.live import LiveServer
from tests.e2e.clients import connect, read_all
from tests.protocols.http2.conftest import Wire

pytestmark = pytest.mark.e2e

PARTS = 50_000
# A turn may see the end of one read and the beginning of the next.
MOST_IN_A_TURN = 4096


class Upload:
    """Content that comes a byte at a time, and what the application saw of it."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        more = True
        while more:
            message = await receive()
            self.sizes.append(len(message["body"]))
            more = message["more_body"]
        headers = [(b"connection", b"close")] if scope["http_version"] == "1.1" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"thanks"})


@pytest.fixture(params=["uvloop", "asyncio"])
def _loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)


def send_ahead(sock: socket.socket, data: bytes) -> None:
    """Send all of it at once, as far as the kernel takes it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
    sock.sendall(data)


@pytest.mark.usefixtures("_loop")
def test_tiny_chunks_leave_turns_to_others() -> None:
    upload = Upload()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with LiveServer(upload) as server, connect(server.port) as sock:
        send_ahead(sock, head + b"1\r\nx\r\n" * PARTS + b"0\r\n\r\n")
        response = read_all(sock)

    assert response.endswith(b"thanks")
    assert sum(upload.sizes) == PARTS
    assert max(upload.sizes) <= MOST_IN_A_TURN


@pytest.mark.usefixtures("_loop")
def test_tiny_frames_leave_turns_to_others() -> None:
    upload = Upload()
    wire = Wire()
    data = frames.PREFACE + wire.frame(frames.SETTINGS, 0, 0)
    data += wire.frame(frames.SETTINGS, frames.ACK, 0) + wire.headers(1, end=False)
    data += wire.data(1, b"x") * PARTS + wire.data(1, end=True)
    # The client's GOAWAY ends the connection after the response.
    data += wire.frame(frames.GOAWAY, 0, 0, bytes(8))
    settings = {"HTTP2_CLEARTEXT": "on", "KEEP_ALIVE_TIMEOUT": 0}
    with LiveServer(upload, settings=settings) as server, connect(server.port) as sock:
        send_ahead(sock, data)
        response = read_all(sock)

    assert b"thanks" in response
    assert sum(upload.sizes) == PARTS
    assert max(upload.sizes) <= MOST_IN_A_TURN
