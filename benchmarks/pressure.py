"""Memory and disk under clients that hold on to things, and what honest ones see.

    python -m benchmarks.pressure [--scale 1.0] [--seconds 8] [--servers djserve ...]
    python -m benchmarks.pressure --scale 0.01 --seconds 1 --cases idle uploads

Each case opens its clients, keeps them for some seconds, and has honest clients ask for
100 requests a second all the while, from a process of their own. At a scale of 1 the
cases are: 10,000 idle connections, 5,000 slow heads, 1,000 half-sent WebSocket messages
of 1 MiB, 1,000 clients that do not read 64 MiB, and 50 uploads of 2 GiB. A server that
takes more memory or disk than this machine can spare is ended, and so is its case:
``--most-memory`` and ``--most-disk`` say how much that is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import stat
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import processes
from benchmarks.honest_load import REQUEST, Streams
from benchmarks.processes import BenchmarkError, Server, end_all, serving
from benchmarks.servers import COMMANDS, Launch, cores, module, raise_open_file_limit
from benchmarks.transfers import free_port

MIB = 2**20
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SERVERS = ("djserve", "uvicorn", "hypercorn", "granian")

AT_ONCE = 100
"""Clients that are opened in one go, 20 times a second."""

OPENING = 30.0
"""Seconds after which those that have not been opened are left out."""


async def stay_idle(streams: Streams, over: asyncio.Event) -> None:
    """Make one request and keep the connection."""
    streams[1].write(REQUEST)
    await streams[0].readuntil(b"Hello, world!")
    await over.wait()


async def send_slow_head(streams: Streams, over: asyncio.Event) -> None:
    """Send a head byte by byte."""
    streams[1].write(b"GET / HTTP/1.1\r\nX: ")
    while not over.is_set():
        streams[1].write(b"x")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), 2)


async def send_half_a_message(streams: Streams, over: asyncio.Event) -> None:
    """Send nearly all of a message of 1 MiB."""
    streams[1].write(HANDSHAKE)
    await streams[0].readuntil(b"\r\n\r\n")
    head = b"\x82\xff" + MIB.to_bytes(8, "big") + bytes(4)
    streams[1].write(head + bytes(MIB - 1))
    await over.wait()


async def read_nothing(streams: Streams, over: asyncio.Event) -> None:
    """Ask for 64 MiB and take none of it."""
    streams[1].transport.pause_reading()  # type: ignore[attr-defined]
    streams[1].write(b"GET /download/ HTTP/1.1\r\nHost: a\r\n\r\n")
    await over.wait()


async def upload(streams: Streams, over: asyncio.Event, size: int = 2**31) -> None:
    """Send 2 GiB, all but the last byte."""
    streams[1].write(
        b"POST /upload/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    )
    for _ in range(size // MIB - 1):
        if over.is_set():
            return
        streams[1].write(bytes(MIB))
        await streams[1].drain()
    await over.wait()


@dataclass(frozen=True)
class Case:
    """So many clients of a kind."""

    name: str
    count: int
    client: Callable[[Streams, asyncio.Event], Awaitable[None]]
    is_on_disk: bool = False


CASES = {
    "idle": Case("idle connections", 10_000, stay_idle),
    "heads": Case("slow heads", 5_000, send_slow_head),
    "messages": Case("half-sent messages", 1_000, send_half_a_message),
    "readers": Case("clients that do not read", 1_000, read_nothing),
    "uploads": Case("uploads of 2 GiB", 50, upload, is_on_disk=True),
}


async def run_client(case: Case, port: int, over: asyncio.Event) -> bool:
    """Be one client; False if the server ended it or did not take it."""
    try:
        streams = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        await case.client(streams, over)
        return not streams[0].at_eof() and streams[0].exception() is None
    except (OSError, asyncio.IncompleteReadError):
        return False
    finally:
        streams[1].transport.abort()


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


@dataclass
class Bounds:
    """What a server may take of the machine; more, and it is ended."""

    memory: int
    disk: int


@dataclass
class Use:
    """What a server has taken at most."""

    server: Server
    bounds: Bounds
    is_on_disk: bool
    memory: int = 0
    disk: int = 0
    is_too_much: bool = False
    before: int = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.server.memory()

    def look(self) -> None:
        """Look again; end a server that has taken too much."""
        self.memory = max(self.memory, self.server.memory() - self.before)
        if self.is_on_disk:
            self.disk = max(self.disk, disk_size(self.server))
        if self.memory > self.bounds.memory or self.disk > self.bounds.disk:
            self.is_too_much = True
            processes.end(self.server.process)


@dataclass
class Clients:
    """Those of one case: how many there are to be, and those that are kept."""

    case: Case
    count: int
    port: int
    over: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[bool]] = field(default_factory=list)

    async def open(self) -> None:
        """Open some more, or wait if there are all."""
        for _ in range(min(AT_ONCE, self.count - len(self.tasks))):
            client = run_client(self.case, self.port, self.over)
            self.tasks.append(asyncio.create_task(client))
        await asyncio.sleep(0.05 if self.has_more else 0.1)

    @property
    def has_more(self) -> bool:
        """Whether some are still to be opened."""
        return len(self.tasks) < self.count

    async def end(self) -> int:
        """End them all; return how many were kept until then."""
        self.over.set()
        return sum(await asyncio.gather(*self.tasks))


async def hold(clients: Clients, use: Use, seconds: float) -> int:
    """Open the clients and keep them; return how many were kept."""
    begun = time.monotonic()
    while clients.has_more and time.monotonic() - begun < OPENING:
        await clients.open()
        use.look()
        if use.is_too_much:
            break
    end = time.monotonic() + seconds
    while time.monotonic() < end and not use.is_too_much:
        await clients.open()
        use.look()
    return await clients.end()


@contextmanager
def honest_clients(port: int, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """Have honest clients ask for the block; they tell what came of it at its end."""
    process = processes.start(
        module("benchmarks.honest_load", "--port", str(port)),
        core,
        stdin=subprocess.PIPE,
        output=subprocess.PIPE,
    )
    try:
        assert process.stdout
        process.stdout.readline()
        yield process
    finally:
        processes.end(process)


def measure(
    case: Case, server: Server, count: int, seconds: float, core: int, bounds: Bounds
) -> str:
    """Put a case on a server; return its cells of the table."""
    use = Use(server, bounds, case.is_on_disk)
    with honest_clients(server.port, core) as honest:
        kept = asyncio.run(_hold(case, server, count, seconds, use))
        output = processes.finish(honest, "honest_load", 60)
    found = json.loads(output)
    sizes = f"{use.memory / MIB:,.0f} MiB | {use.disk / MIB:,.0f} MiB"
    if use.is_too_much:
        return f"{sizes} | ended: that is too much | "
    latencies = sorted(found["latencies"])
    p99 = latencies[int(len(latencies) * 0.99)] * 1000 if latencies else float("nan")
    return (
        f"{sizes} | {kept:,} of {count:,} | "
        f"{p99:.1f} ms of {len(latencies):,}, {found['failed']} failed"
    )


async def _hold(
    case: Case, server: Server, count: int, seconds: float, use: Use
) -> int:
    return await hold(Clients(case, count, server.port), use, seconds)


def run(name: str, case: Case, scale: float, seconds: float, bounds: Bounds) -> str:
    """Start a server afresh and measure one case on it."""
    launch = Launch(application="benchmarks.pressure_app:application", port=free_port())
    server_core, load_core = cores()
    handler = "djserve" if name == "djserve" else "django"
    environ = {"PRESSURE_HANDLER": handler, "DJANGO_SETTINGS_MODULE": ""}
    count = max(1, round(case.count * scale))
    with (
        serving(
            COMMANDS[name](launch),
            launch.port,
            server_core,
            environ=environ,
            is_tls=False,
        ) as server,
        on_core(load_core),
    ):
        server.wait_until_it_answers("/")
        # djserve imports WebSocket's modules once it listens.
        time.sleep(0.5)
        return measure(case, server, count, seconds, load_core, bounds)


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this process's threads on one core for the block."""
    available = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, available)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of each case")
    parser.add_argument("--seconds", type=float, default=8.0, help="once all are open")
    parser.add_argument("--servers", nargs="+", default=SERVERS, choices=SERVERS)
    parser.add_argument("--cases", nargs="+", default=[*CASES], choices=CASES)
    parser.add_argument("--most-memory", type=float, default=6.0, metavar="GIB")
    parser.add_argument("--most-disk", type=float, default=8.5, metavar="GIB")
    options = parser.parse_args()
    raise_open_file_limit()
    bounds = Bounds(int(options.most_memory * 2**30), int(options.most_disk * 2**30))
    print("| Case | Server | Memory | Disk | Clients kept | Honest p99 |")
    print("| --- | --- | --- | --- | --- | --- |")
    try:
        for case in (CASES[name] for name in options.cases):
            for name in options.servers:
                try:
                    line = run(name, case, options.scale, options.seconds, bounds)
                except BenchmarkError as error:
                    line = f"failed: {error}"
                print(f"| {case.name} | {name} | {line} |", flush=True)
    finally:
        end_all()


if __name__ == "__main__":
    main()
