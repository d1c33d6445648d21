"""A WebSocket load: connections that send a message and wait for its echo.

Frames are built once and answers are only counted, so that the load costs less than
the server that it measures: ``--self-test`` shows how fast it is against an echo of
raw bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import struct
import time
from typing import cast

import uvloop


def build_frame(size: int) -> bytes:
    """Return a masked text frame with ``size`` bytes (RFC 6455 section 5.2)."""
    if size < 126:
        head = struct.pack("!BB", 0x81, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x81, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x81, 0x80 | 127, size)
    mask = os.urandom(4)
    payload = (b"benchmark " * (size // 10 + 1))[:size]
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return head + mask + masked


class Client(asyncio.Protocol):
    """One connection: handshake, then ``depth`` messages on their way at any time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._pending = b""
        self._bytes = 0
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{self._load.port}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if not self._is_open:
            self._pending += data
            head, end, data = self._pending.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                raise SystemExit(f"No WebSocket: {head[:200]!r}")
            self._is_open = True
            self._transport.write(self._load.frame * self._load.depth)
        self._bytes += len(data)
        echoed, self._bytes = divmod(self._bytes, self._load.echo_size)
        if echoed:
            self._load.count += echoed
            self._transport.write(self._load.frame * echoed)


class Load:
    """All connections of one run, and what they have counted."""

    def __init__(self, port: int, size: int, depth: int) -> None:
        self.port = port
        self.depth = depth
        self.frame = build_frame(size)
        # What a server sends is not masked.
        self.echo_size = len(self.frame) - 4
        self.count = 0

    async def run(self, connections: int, seconds: float) -> float:
        """Return echoes a second, after a short time to warm up."""
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(lambda: Client(self), "127.0.0.1", self.port)
            for _ in range(connections)
        ]
        await asyncio.sleep(min(0.5, seconds / 4))
        started, before = time.perf_counter(), self.count
        await asyncio.sleep(seconds)
        rate = (self.count - before) / (time.perf_counter() - started)
        for transport, _ in opened:
            transport.abort()
        return rate


class RawEcho(asyncio.Protocol):
    """The cheapest server there can be: it unmasks nothing and answers bytes."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._bytes = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._bytes < 0:
            self._bytes = 0
            self._transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            return
        self._bytes += len(data)
        frames, self._bytes = divmod(self._bytes, len(self._load.frame))
        self._transport.write(bytes(self._load.echo_size) * frames)


async def serve_raw_echo(load: Load) -> asyncio.Server:
    """Start the raw echo on a port of the system's choice, and aim the load at it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: RawEcho(load), "127.0.0.1", 0)
    load.port = server.sockets[0].getsockname()[1]
    return server


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--size", type=int, default=64, help="bytes in a message")
    parser.add_argument("--depth", type=int, default=1, help="messages on their way")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    load = Load(options.port, options.size, options.depth)
    if options.self_test:
        await serve_raw_echo(load)
    print(f"{await load.run(options.connections, options.seconds):.0f}")


if __name__ == "__main__":
    uvloop.run(main())
