"""Memory and disk under clients that hold on to things, and what honest ones see.

    python -m benchmarks.pressure [--scale 1.0] [--seconds 20] [--servers djserve ...]

Each case opens its clients, keeps them, and asks honest clients for 100 requests a
second meanwhile. At a scale of 1 the cases are: 10,000 idle connections, 5,000 slow
heads, 1,000 half-sent WebSocket messages of 1 MiB, 1,000 clients that do not read 64
MiB, and 50 uploads of 2 GiB. The last needs the disk for it, unless a server bounds it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchmarkError, Server, end_all, serving
from benchmarks.servers import COMMANDS, Launch, cores, raise_open_file_limit

MIB = 2**20
HONEST_CLIENTS = 10
HONEST_INTERVAL = 0.1
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SERVERS = ("djserve", "uvicorn", "hypercorn", "granian")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def stay_idle(streams: Streams, end: float) -> None:
    """Make one request and keep the connection."""
    streams[1].write(REQUEST)
    await streams[0].readuntil(b"Hello, world!")
    await _sleep_until(end)


async def send_slow_head(streams: Streams, end: float) -> None:
    """Send a head byte by byte."""
    streams[1].write(b"GET / HTTP/1.1\r\nX: ")
    while time.monotonic() < end:
        streams[1].write(b"x")
        await asyncio.sleep(2)


async def send_half_a_message(streams: Streams, end: float) -> None:
    """Send nearly all of a message of 1 MiB."""
    streams[1].write(HANDSHAKE)
    await streams[0].readuntil(b"\r\n\r\n")
    head = b"\x82\xff" + MIB.to_bytes(8, "big") + bytes(4)
    streams[1].write(head + bytes(MIB - 1))
    await _sleep_until(end)


async def read_nothing(streams: Streams, end: float) -> None:
    """Ask for 64 MiB and take none of it."""
    streams[1].transport.pause_reading()  # type: ignore[attr-defined]
    streams[1].write(b"GET /download/ HTTP/1.1\r\nHost: a\r\n\r\n")
    await _sleep_until(end)


async def upload(streams: Streams, end: float, size: int = 2**31) -> None:
    """Send 2 GiB, all but the last byte."""
    streams[1].write(
        b"POST /upload/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    )
    for _ in range(size // MIB - 1):
        if time.monotonic() >= end:
            return
        streams[1].write(bytes(MIB))
        await streams[1].drain()
    await _sleep_until(end)


@dataclass(frozen=True)
class Case:
    """So many clients of a kind."""

    name: str
    count: int
    client: Callable[[Streams, float], Awaitable[None]]


CASES = (
    Case("idle connections", 10_000, stay_idle),
    Case("slow heads", 5_000, send_slow_head),
    Case("half-sent messages", 1_000, send_half_a_message),
    Case("clients that do not read", 1_000, read_nothing),
    Case("uploads of 2 GiB", 50, upload),
)


async def _sleep_until(end: float) -> None:
    await asyncio.sleep(max(0.0, end - time.monotonic()))


async def run_client(case: Case, port: int, end: float) -> bool:
    """Be one client; False if the server ended it or did not take it."""
    try:
        streams = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        await case.client(streams, end)
        return not streams[0].at_eof() and streams[0].exception() is None
    except (OSError, asyncio.IncompleteReadError):
        return False
    finally:
        streams[1].transport.abort()


async def ask_honestly(port: int, end: float, latencies: list[float]) -> int:
    """Make a request again and again; return how many failed."""
    failed = 0
    streams: Streams | None = None
    while time.monotonic() < end:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(10):
                if streams is None:
                    streams = await asyncio.open_connection("127.0.0.1", port)
                streams[1].write(REQUEST)
                await streams[0].readuntil(b"Hello, world!")
            latencies.append(time.monotonic() - begun)
        except (OSError, asyncio.IncompleteReadError):
            failed += 1
            if streams is not None:
                streams[1].transport.abort()
            streams = None
        await asyncio.sleep(HONEST_INTERVAL)
    if streams is not None:
        streams[1].transport.abort()
    return failed


def disk_size(server: Server) -> int:
    """Return the bytes in files without a name that the server has open."""
    total = 0
    for pid in server.pids():
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    status = os.stat(entry)
                    if stat.S_ISREG(status.st_mode) and not status.st_nlink:
                        total += status.st_blocks * 512
    return total


async def measure(case: Case, server: Server, count: int, seconds: float) -> str:
    """Put a case on a server; return its line of the table."""
    before = server.memory()
    end = time.monotonic() + seconds
    latencies: list[float] = []
    honest = [
        asyncio.create_task(ask_honestly(server.port, end, latencies))
        for _ in range(HONEST_CLIENTS)
    ]
    clients: list[asyncio.Task[bool]] = []
    memory = disk = 0
    while time.monotonic() < end:
        for _ in range(min(100, count - len(clients))):
            client = run_client(case, server.port, end)
            clients.append(asyncio.create_task(client))
        await asyncio.sleep(0.05 if len(clients) < count else 0.5)
        memory = max(memory, server.memory() - before)
        disk = max(disk, disk_size(server))
    failed = sum(await asyncio.gather(*honest))
    kept = sum(await asyncio.gather(*clients))
    latencies.sort()
    p99 = latencies[int(len(latencies) * 0.99)] * 1000 if latencies else float("nan")
    return (
        f"{memory / MIB:.0f} MiB | {disk / MIB:.0f} MiB | {kept} of {count} | "
        f"{p99:.1f} ms of {len(latencies)}, {failed} failed"
    )


def find_free_port() -> int:
    """Return a port that nothing listened on a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def run(name: str, case: Case, scale: float, seconds: float) -> str:
    """Start a server afresh and measure one case on it."""
    launch = Launch(
        application="benchmarks.pressure_app:application", port=find_free_port()
    )
    core, _ = cores()
    handler = "djserve" if name == "djserve" else "django"
    environ = {"PRESSURE_HANDLER": handler, "DJANGO_SETTINGS_MODULE": ""}
    count = max(1, round(case.count * scale))
    command = COMMANDS[name](launch)
    with serving(command, launch.port, core, environ=environ, is_tls=False) as server:
        server.wait_until_it_answers("/")
        return asyncio.run(measure(case, server, count, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of each case")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each case")
    parser.add_argument("--servers", nargs="+", default=SERVERS, choices=SERVERS)
    options = parser.parse_args()
    raise_open_file_limit()
    print("| Case | Server | Memory | Disk | Clients kept | Honest p99 |")
    print("| --- | --- | --- | --- | --- | --- |")
    try:
        for case in CASES:
            for name in options.servers:
                try:
                    line = run(name, case, options.scale, options.seconds)
                except BenchmarkError as error:
                    line = f"failed: {error}"
                print(f"| {case.name} | {name} | {line} |", flush=True)
    finally:
        end_all()


if __name__ == "__main__":
    main()
