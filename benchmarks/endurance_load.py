"""Clients that leave half-way, in every way, at a modest rate for the endurance run."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable

from benchmarks.soak_http1 import HTTP1Client
from benchmarks.soak_http2 import Connection, HTTP2Client
from benchmarks.soak_load import Client
from benchmarks.soak_tally import Tally, Target
from benchmarks.soak_websocket import WebSocketClient

MIB = 2**20
PATIENCE = 60.0
HOST = b" HTTP/1.1\r\nHost: soak\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Leave = Callable[[Target], Awaitable[None]]


class Leaver:
    """Connect, do something by halves and leave, again and again.

    ``pause`` is the mean of the seconds between two times.
    """

    def __init__(
        self, leave: Leave, target: Target, tally: Tally, pause: float
    ) -> None:
        self._leave = leave
        self._target = target
        self._tally = tally
        self._pause = pause
        self._chance = random.Random()

    async def run(self, over: asyncio.Event) -> None:
        """Leave until ``over`` is set; how the server takes it is not judged here."""
        while not over.is_set():
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._leave(self._target)
                self._tally.events[self._leave.__name__.replace("_", " ")] += 1
            await asyncio.sleep(self._chance.uniform(0, 2 * self._pause))


@contextlib.asynccontextmanager
async def connection(target: Target) -> AsyncIterator[Streams]:
    """Open a connection, and break it off with the end of the block."""
    sock = await target.dial()
    tls = target.tls()
    # It closes the socket if it fails.
    streams = await asyncio.open_connection(
        sock=sock, ssl=tls, server_hostname="127.0.0.1" if tls else None
    )
    try:
        yield streams
    finally:
        streams[1].transport.abort()


async def leave_a_stream(target: Target) -> None:
    async with connection(target) as (reader, writer):
        writer.write(b"GET /stream/" + HOST + b"\r\n")
        await reader.readexactly(100_000)


async def leave_an_event_stream(target: Target) -> None:
    async with connection(target) as (reader, writer):
        writer.write(b"GET /events/" + HOST + b"\r\n")
        for _ in range(3):
            await reader.readuntil(b"data: event")


async def leave_a_call(target: Target) -> None:
    async with connection(target) as (_, writer):
        writer.write(b"GET /slow/" + HOST + b"\r\n")
        await asyncio.sleep(0.1)


async def leave_without_a_word(target: Target) -> None:
    async with connection(target):
        pass


async def send_a_slow_head(target: Target) -> None:
    async with connection(target) as (_, writer):
        writer.write(b"GET /sync/" + HOST + b"X: ")
        for _ in range(10):
            writer.write(b"x")
            await asyncio.sleep(0.5)


async def abort_an_upload(target: Target) -> None:
    async with connection(target) as (_, writer):
        writer.write(b"POST /upload/%sContent-Length: %d\r\n\r\n" % (HOST, 8 * MIB))
        for _ in range(4):
            writer.write(bytes(MIB))
            await writer.drain()


async def upload_a_file(target: Target) -> None:
    async with connection(target) as (reader, writer):
        writer.write(b"POST /upload/" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(32):
            writer.write(b"10000\r\n%s\r\n" % bytes(65536))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")


async def leave_a_websocket(target: Target) -> None:
    """Leave in the middle of a message, after an echo."""
    async with connection(target) as (reader, writer):
        await _shake_hands(reader, writer)
        writer.write(b"\x82\x84" + bytes(4) + b"echo")
        await reader.readexactly(6)
        writer.write(b"\x82\xff" + MIB.to_bytes(8, "big") + bytes(100_000))
        await writer.drain()


async def leave_while_accepted(target: Target) -> None:
    """Ask for a WebSocket and leave without the answer."""
    async with connection(target) as (_, writer):
        writer.write(_handshake())
        await asyncio.sleep(random.uniform(0, 0.01))


async def leave_http2_streams(target: Target) -> None:
    sock = await target.dial()
    tls = target.tls("h2")
    transport, client = await asyncio.get_running_loop().create_connection(
        Connection,
        sock=sock,
        ssl=tls,
        server_hostname="127.0.0.1" if tls else None,
    )
    paths = ("/events/", "/stream/", "/slow/", "/sync/")
    answers = [client.ask(path) for path in paths]
    await asyncio.sleep(0.3)
    transport.abort()
    await asyncio.gather(*answers, return_exceptions=True)


async def disturb_the_handshake(target: Target) -> None:
    """Send noise, cleartext or half a TLS record to the port, and leave."""
    sock = await target.dial()
    _, writer = await asyncio.open_connection(sock=sock)
    noise = (
        os.urandom(300),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    )
    writer.write(random.choice(noise))
    await asyncio.sleep(0.05)
    writer.transport.abort()


LEAVERS: tuple[tuple[Leave, float], ...] = (
    (leave_a_stream, 2),
    (leave_an_event_stream, 1),
    (leave_a_call, 1),
    (leave_without_a_word, 2),
    (send_a_slow_head, 1),
    (abort_an_upload, 4),
    (upload_a_file, 4),
    (leave_a_websocket, 1),
    (leave_while_accepted, 1),
    (leave_http2_streams, 1),
    (disturb_the_handshake, 1),
)
"""Who leaves how, and the mean of the seconds between two times."""


def make_clients(target: Target, tally: Tally, *, http3: bool = False) -> list[Client]:
    """Return the honest clients, whose failures count, and those that leave."""
    chance = random.Random()
    over_quic = _make_http3_clients(target, tally) if http3 else ()

    def pause() -> float:
        return chance.uniform(0, 0.4)

    return [
        *(HTTP1Client(target, tally, pause) for _ in range(6)),
        HTTP1Client(target, tally, pause, keeps=False),
        HTTP2Client(target, tally, 4, 0.4),
        *(WebSocketClient(target, tally, number, 0.2) for number in range(6)),
        *(Leaver(leave, target, tally, pause) for leave, pause in LEAVERS),
        *over_quic,
    ]


def _make_http3_clients(target: Target, tally: Tally) -> list[Client]:
    # aioquic is a package of its own.
    from benchmarks.soak_http3 import HTTP3Client, leave_http3_streams

    return [
        HTTP3Client(target, tally, 4, 0.4),
        Leaver(leave_http3_streams, target, tally, 1),
    ]


def _handshake() -> bytes:
    key = base64.b64encode(os.urandom(16))
    return (
        b"GET /" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
    )


async def _shake_hands(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(_handshake())
    await reader.readuntil(b"\r\n\r\n")
