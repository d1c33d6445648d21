"""What arrived while the event loop was blocked has arrived in time.

The application blocks the loop until each client has sent what is waited for, and moves
the clock of the timeouts on by more than any of them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import h2.connection
import h2.events
import pytest
import trustme

from djserve.net.twisted import reactor
from djserve.testing.live import LiveServer
from tests.e2e.clients import HANDSHAKE, connect, read_head
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.e2e

AWAY = 10_000.0
"""Seconds for which the loop seems to be blocked."""
LENGTH = 3_000


class Blocker:
    """The application, and the clock that its blocking moves."""

    def __init__(self) -> None:
        self.offset = 0.0
        self.sweeps = 0
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def clock(self) -> float:
        self.sweeps += 1
        return time.monotonic() + self.offset

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        if scope["path"] == "/block":
            self.block()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d bytes" % size})

    def block(self) -> None:
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        # The timer of the sweep is due before anything can be read.
        time.sleep(1.2)
        self.offset += AWAY

    def wait_for_sweeps(self, count: int) -> None:
        """Have every connection looked at so often."""
        target = self.sweeps + count
        deadline = time.monotonic() + PATIENCE
        while self.sweeps < target:
            assert time.monotonic() < deadline
            time.sleep(0.01)


class Head:
    """A request's head, half of which comes while the loop is blocked."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.sendall(b"GET / HTTP/1.1\r\nHo")

    def send_rest(self) -> None:
        self.sock.sendall(b"st: x\r\nConnection: close\r\n\r\n")

    def check(self) -> None:
        assert b"200" in read_head(self.sock)


class Body(Head):
    """Content of which all but a byte comes while the loop is blocked."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nx" % LENGTH
        )

    def send_rest(self) -> None:
        self.sock.sendall(b"x" * (LENGTH - 1))


class Pong(Head):
    """A WebSocket that answers its Ping while the loop is blocked."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.sendall(b"GET / HTTP/1.1\r\n" + HANDSHAKE)
        read_head(sock)
        assert sock.recv(2) == b"\x89\x00"

    def send_rest(self) -> None:
        self.sock.sendall(b"\x8a\x80\0\0\0\0")

    def check(self) -> None:
        self.sock.sendall(b"\x81\x82\0\0\0\0hi")
        received = b""
        while not received.endswith(b"hi"):
            received += self.sock.recv(1)
            assert received[:1] != b"\x88", received


class HTTP2Body(Head):
    """Content over HTTP/2 of which all but a byte comes while the loop is blocked."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.h2 = h2.connection.H2Connection()
        self.h2.initiate_connection()
        self.h2.send_headers(
            1,
            [
                (":method", "POST"),
                (":path", "/"),
                (":scheme", "http"),
                (":authority", "x"),
            ],
        )
        self.h2.send_data(1, b"x")
        sock.sendall(self.h2.data_to_send())
        while not self.read(h2.events.SettingsAcknowledged):
            pass

    def read(self, kind: type[h2.events.Event]) -> list[Any]:
        data = self.sock.recv(65536)
        assert data
        events = self.h2.receive_data(data)
        self.sock.sendall(self.h2.data_to_send())
        return [event for event in events if isinstance(event, kind)]

    def send_rest(self) -> None:
        self.h2.send_data(1, b"x" * (LENGTH - 1), end_stream=True)
        self.sock.sendall(self.h2.data_to_send())

    def check(self) -> None:
        while not (events := self.read(h2.events.ResponseReceived)):
            pass
        assert dict(events[0].headers)[b":status"] == b"200"


class PartOfBody(Head):
    """Content of which more than the system buffers is to come after the blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nx" % LENGTH
        )

    def send_rest(self) -> None:
        self.sock.sendall(b"x" * 1000)

    def check(self) -> None:
        self.sock.sendall(b"x" * (LENGTH - 1001))
        super().check()


class HTTP2PartOfBody(HTTP2Body):
    """The same over HTTP/2."""

    def send_rest(self) -> None:
        self.h2.send_data(1, b"x" * 1000)
        self.sock.sendall(self.h2.data_to_send())

    def check(self) -> None:
        self.h2.send_data(1, b"x" * (LENGTH - 1001), end_stream=True)
        self.sock.sendall(self.h2.data_to_send())
        super().check()


class HTTP2Ping(HTTP2Body):
    """A PING that is answered while the loop is blocked."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        # h2 answers in receive_data(); its answer is kept back.
        while True:
            events = self.h2.receive_data(sock.recv(65536))
            if any(isinstance(event, h2.events.PingReceived) for event in events):
                break
            sock.sendall(self.h2.data_to_send())

    def send_rest(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def check(self) -> None:
        self.h2.send_data(1, b"x" * (LENGTH - 1), end_stream=True)
        self.sock.sendall(self.h2.data_to_send())
        super().check()


KINDS = {
    "head": Head,
    "body": Body,
    "part of a body": PartOfBody,
    "pong": Pong,
    "http2 body": HTTP2Body,
    "http2 part of a body": HTTP2PartOfBody,
    "http2 ping": HTTP2Ping,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("loop", ["installed", "asyncio"])
def test_what_came_while_the_loop_was_blocked_is_in_time(
    loop: str, tls: bool, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loop == "asyncio":
        monkeypatch.setattr(reactor, "new_event_loop", asyncio.new_event_loop)
    blocker = Blocker()
    settings: dict[str, Any] = {
        "WEBSOCKET_PING_INTERVAL": 0.5,
        "HTTP2_PING_INTERVAL": 0.5,
    }
    protocol = "h2" if kind.startswith("http2") else "http/1.1"
    if tls:
        settings |= certificate(tmp_path)
    with LiveServer(blocker, settings=settings) as server:
        assert server._server is not None
        server._server._sweep._clock = blocker.clock
        client = KINDS[kind](open_socket(server.port, tls, protocol))
        blocker.wait_for_sweeps(3)
        waker = open_socket(server.port, tls, "http/1.1")
        waker.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert blocker.begun.wait(PATIENCE)
        client.send_rest()
        blocker.may_end.set()
        assert b"200" in read_head(waker)
        blocker.wait_for_sweeps(2)
        client.check()
        client.sock.close()
        waker.close()


def certificate(folder: Path) -> dict[str, str]:
    issued = trustme.CA().issue_cert("localhost")
    pem = folder / "cert.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    return {"CERTFILE": str(pem), "KEYFILE": str(pem)}


def open_socket(port: int, tls: bool, protocol: str) -> socket.socket:
    sock = connect(port)
    if not tls:
        return sock
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context.wrap_socket(sock)
