"""Clients on many connections: the bytes they send first, and how they are opened."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from typing import TypeVar, cast

# More at once would overrun the smallest backlog among the servers (Twisted's 50).
OPEN_AT_ONCE = 32
PER_ADDRESS = 5000

OPEN_TIMEOUT = 100.0
"""Seconds for all of them; a load that cannot begin ends itself."""

ClientT = TypeVar("ClientT", bound="Client")


def websocket_request(port: int) -> bytes:
    """Return an opening handshake (RFC 6455 section 4.1)."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def http_request(port: int, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


class Client(asyncio.Protocol):
    """One connection: a request, its response's head, then ``body_received``."""

    status = b"HTTP/1.1 200"

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._head = b""
        self._is_open = False
        self.is_lost = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._is_open:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(self.status):
                raise SystemExit(f"Unexpected response: {head[:200]!r}")
            self._is_open = True
            self.opened.set_result(None)
        if data:
            self.body_received(data)

    def body_received(self, data: bytes) -> None:
        """Take what follows the response's head."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionResetError("closed early"))


async def open_clients(
    make: Callable[[], ClientT], port: int, count: int
) -> list[ClientT]:
    """Open connections, some at a time; return once each has its response's head.

    They come from 127.0.0.2 and up, so that ports never run out.
    """
    clients: list[ClientT] = []
    async with asyncio.timeout(OPEN_TIMEOUT):
        while len(clients) < count:
            batch = range(len(clients), min(count, len(clients) + OPEN_AT_ONCE))
            clients += await asyncio.gather(
                *(_open(make, port, number) for number in batch)
            )
    return clients


async def _open(make: Callable[[], ClientT], port: int, number: int) -> ClientT:
    _, client = await asyncio.get_running_loop().create_connection(
        make,
        "127.0.0.1",
        port,
        local_addr=(f"127.0.0.{2 + number // PER_ADDRESS}", 0),
    )
    await client.opened
    return client
