"""A WebSocket load: connections that send a message and wait for its echo.

Frames are built once and answers are only counted, so that the load costs less than
the server that it measures: ``--self-test`` shows how fast it is against an echo of
raw bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import struct
import time
from typing import cast

import uvloop

from benchmarks import processes
from benchmarks.clients import OPEN_TIMEOUT, websocket_request
from benchmarks.servers import cores, module
from benchmarks.transfers import free_port


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
        self._transport.write(websocket_request(self._load.port))

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
        async with asyncio.timeout(OPEN_TIMEOUT):
            opened = [
                await loop.create_connection(
                    lambda: Client(self), "127.0.0.1", self.port
                )
                for _ in range(connections)
            ]
        await asyncio.sleep(min(0.5, seconds / 4))
        print("open", flush=True)
        started, before = time.perf_counter(), self.count
        await asyncio.sleep(seconds)
        rate = (self.count - before) / (time.perf_counter() - started)
        for transport, _ in opened:
            transport.abort()
        return rate


class RawEcho(asyncio.Protocol):
    """The cheapest server there can be: it unmasks nothing and answers zeros."""

    def __init__(self) -> None:
        self._is_open = False
        self._bytes = 0
        self._frame_size = self._echo_size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._is_open:
            self._open(data)
            return
        if not self._frame_size:
            self._frame_size = measure_frame(data)
            self._echo_size = self._frame_size - 4
        self._bytes += len(data)
        frames, self._bytes = divmod(self._bytes, self._frame_size)
        self._transport.write(bytes(self._echo_size) * frames)

    def _open(self, data: bytes) -> None:
        self._is_open = b"Upgrade: websocket" in data
        if self._is_open:
            self._transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        else:
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def measure_frame(data: bytes) -> int:
    """Return the size of the masked frame that begins here, its head included."""
    size = data[1] & 0x7F
    if size == 126:
        return 8 + int.from_bytes(data[2:4], "big")
    if size == 127:
        return 14 + int.from_bytes(data[2:10], "big")
    return 6 + size


async def serve_raw_echo(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(RawEcho, "127.0.0.1", port)
    await server.serve_forever()


def test_load(options: argparse.Namespace) -> None:
    """Measure the raw echo, in a process on another core."""
    server_core, load_core = cores()
    options.port = free_port()
    command = module("benchmarks.websocket_load", "--raw-server")
    command += ["--port", str(options.port)]
    with processes.serving(
        command, options.port, server_core, environ={}, is_tls=False
    ) as server:
        server.wait_until_it_answers("/")
        os.sched_setaffinity(0, {load_core})
        print_rate(options)


def print_rate(options: argparse.Namespace) -> None:
    load = Load(options.port, options.size, options.depth)
    print(f"{uvloop.run(load.run(options.connections, options.seconds)):.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--size", type=int, default=64, help="bytes in a message")
    parser.add_argument("--depth", type=int, default=1, help="messages on their way")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--raw-server", action="store_true", help="be the raw echo")
    parser.add_argument("--self-test", action="store_true", help="load the raw echo")
    options = parser.parse_args()
    if options.raw_server:
        uvloop.run(serve_raw_echo(options.port))
    elif options.self_test:
        test_load(options)
    else:
        print_rate(options)


if __name__ == "__main__":
    main()
