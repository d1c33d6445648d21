"""What fast requests take while slow views hold the threads, beside other servers.

    python -m benchmarks.slow_views sleepers [--counts 12,50,200] [--wait 2]
    python -m benchmarks.slow_views streams [--clients 60] [--seconds 10]
    python -m benchmarks.slow_views database [--clients 200] [--seconds 20] [--pool 4]
    python -m benchmarks.slow_views crowd [--clients 500] [--wait 5]

``sleepers`` sends a number of requests to a view that sleeps, and until all are
answered asks for a fast view and the admin's login page 20 times a second each, and
opens a WebSocket with a session twice a second. ``streams`` keeps clients on a
synchronous generator that sleeps for a second between its events, ``crowd`` many on
one view beside ten others. ``database`` runs two workers and a PostgreSQL with
``max_connections = 40`` (a cluster that is made and thrown away), with clients on views
that query, asynchronous views that query once and wait for five seconds, and consumers.

Servers: djserve, daphne, uvicorn (Django's handler), gunicorn with 8 and 64 threads
(no WebSockets). All have their defaults. ``--servers`` chooses some.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds after which a request is given up."""

MANAGE = (
    "import sys, benchmarks.slow_site;"
    "from django.core.management import execute_from_command_line as manage;"
    "manage(sys.argv)"
)
ASGI, WSGI = "benchmarks.slow_site:application", "benchmarks.slow_site:wsgi"


def djserve(address: str, workers: int) -> list[str]:
    options = ["--bind", address, "--workers", str(workers), "-v", "0"]
    return [sys.executable, "-c", MANAGE, "runasgi", *options]


def daphne(address: str, workers: int) -> list[str]:
    # One process is all that it has.
    host, _, port = address.partition(":")
    return [sys.executable, "-m", "daphne", "-v", "0", "-b", host, "-p", port, ASGI]


def uvicorn(address: str, workers: int) -> list[str]:
    host, _, port = address.partition(":")
    options = ["--host", host, "--port", port, "--log-level", "error"]
    options += ["--workers", str(workers), "--lifespan", "off"]
    return [sys.executable, "-m", "uvicorn", *options, ASGI]


def gunicorn(threads: int) -> Callable[[str, int], list[str]]:
    def command(address: str, workers: int) -> list[str]:
        options = ["-b", address, "-w", str(workers), "-k", "gthread"]
        options += ["--threads", str(threads), "--log-level", "error"]
        return [sys.executable, "-m", "gunicorn", *options, "--timeout", "300", WSGI]

    return command


SERVERS: dict[str, Callable[[str, int], list[str]]] = {
    "djserve": djserve,
    "daphne": daphne,
    "uvicorn": uvicorn,
    "gunicorn-8": gunicorn(8),
    "gunicorn-64": gunicorn(64),
}


@dataclass
class Tally:
    """What became of the requests of one kind."""

    name: str
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def time(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some work, and note how long it took or how it failed."""
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                await work
        except (OSError, EOFError, ValueError, asyncio.IncompleteReadError) as error:
            self.failures.append(f"{type(error).__name__}: {error}"[:80])
        else:
            self.seconds.append(time.perf_counter() - begun)

    def cells(self) -> str:
        """Return p50, p99 and the longest in milliseconds, the count and failures."""
        if not self.seconds:
            return f"- | - | - | 0 | {len(self.failures)}"
        ordered = sorted(self.seconds)
        parts = [
            ordered[min(len(ordered) - 1, int(p * len(ordered)))] for p in (0.5, 0.99)
        ]
        figures = " | ".join(f"{s * 1000:.0f}" for s in (*parts, ordered[-1]))
        return f"{figures} | {len(ordered)} | {len(self.failures)}"


async def get(port: int, path: str) -> None:
    """Ask for a page; raises ValueError for any other status than 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        status = await reader.readline()
        await reader.read()
        if b" 200 " not in status:
            raise ValueError(status.decode(errors="replace").strip() or "no answer")
    finally:
        writer.close()


HANDSHAKE = (
    b"GET /ws/ HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
    b"Cookie: sessionid=abcdefghijklmnopqrstuvwxyz012345\r\n\r\n"
)
# A masked text frame of one byte, with a mask of nought.
MESSAGE = b"\x81\x81\0\0\0\0x"


async def handshake(port: int, messages: int = 0) -> None:
    """Open a WebSocket, exchange some messages, and leave."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(HANDSHAKE)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ValueError(head.split(b"\r\n")[0].decode())
        for _ in range(messages):
            writer.write(MESSAGE)
            opcode, length = await reader.readexactly(2)
            if opcode != 0x81:
                raise ValueError(f"a frame of kind {opcode:#x}")
            await reader.readexactly(length)
    finally:
        writer.close()


async def pace(
    tasks: asyncio.TaskGroup,
    tally: Tally,
    rate: float,
    work: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Begin some work so many times a second, until cancelled."""
    begun, number = time.perf_counter(), 0
    while True:
        tasks.create_task(tally.time(work()))
        number += 1
        await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))


@asynccontextmanager
async def asking(port: int, *kinds: str) -> AsyncIterator[list[Tally]]:
    """Ask for what is fast, as long as the block runs."""
    works: dict[str, tuple[float, Callable[[], Coroutine[Any, Any, None]]]] = {
        "fast view": (20, lambda: get(port, "/fast/")),
        "admin login": (20, lambda: get(port, "/admin/login/")),
        "handshake": (2, lambda: handshake(port)),
    }
    tallies = [Tally(kind) for kind in kinds]
    async with asyncio.TaskGroup() as tasks:
        pacers = [
            tasks.create_task(pace(tasks, tally, *works[tally.name]))
            for tally in tallies
        ]
        yield tallies
        for pacer in pacers:
            pacer.cancel()


def kinds_of(server: str) -> list[str]:
    kinds = ["fast view", "admin login"]
    return kinds if server.startswith("gunicorn") else [*kinds, "handshake"]


async def sleepers(server: str, port: int, options: argparse.Namespace) -> list[str]:
    """Measure beside views that sleep, in several numbers."""
    rows = []
    for count in map(int, options.counts.split(",")):
        slow = Tally("slow views")
        begun = time.perf_counter()
        async with asking(port, *kinds_of(server)) as tallies:
            path = f"/slow/?seconds={options.wait}"
            await asyncio.gather(*(slow.time(get(port, path)) for _ in range(count)))
            total = time.perf_counter() - begun
        rows.append(f"| {count} slow: all in {total:.1f} s | {slow.cells()} |")
        rows += [f"| {tally.name} | {tally.cells()} |" for tally in tallies]
    return rows


async def streams(server: str, port: int, options: argparse.Namespace) -> list[str]:
    """Measure beside clients on a synchronous event stream."""
    count = int(options.seconds)
    slow = Tally("streams")
    async with asking(port, *kinds_of(server)) as tallies:
        path = f"/events/?count={count}"
        clients = [
            asyncio.create_task(slow.time(get(port, path)))
            for _ in range(options.clients or 60)
        ]
        await asyncio.sleep(options.seconds)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return [f"| {tally.name} | {tally.cells()} |" for tally in [slow, *tallies]]


async def crowd(server: str, port: int, options: argparse.Namespace) -> list[str]:
    """Measure ten views beside many clients of one that sleeps."""
    slow, others = Tally("crowd"), Tally("ten other views")
    async with asyncio.TaskGroup() as tasks:
        pacers = [
            tasks.create_task(
                pace(tasks, others, 4, lambda k=k: get(port, f"/other/{k}/"))  # type: ignore[misc]
            )
            for k in range(10)
        ]
        path = f"/slow/?seconds={options.wait}"
        clients = options.clients or 500
        await asyncio.gather(*(slow.time(get(port, path)) for _ in range(clients)))
        for pacer in pacers:
            pacer.cancel()
    return [f"| {tally.name} | {tally.cells()} |" for tally in (slow, others)]


async def database(server: str, port: int, options: argparse.Namespace) -> list[str]:
    """Measure a mix that queries, with fewer connections than clients."""
    has_async = not server.startswith("gunicorn")
    tallies: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "sync view, a query": lambda: get(port, "/query/"),
        "async view, a query and 5 s": lambda: get(port, "/query-and-wait/"),
        "consumer, 5 messages with queries": lambda: handshake(port, 5),
    }
    if not has_async:
        del tallies["async view, a query and 5 s"]
        del tallies["consumer, 5 messages with queries"]
    kinds = [(Tally(name), work) for name, work in tallies.items()]
    end = time.perf_counter() + options.seconds

    async def client(number: int) -> None:
        tally, work = kinds[number % len(kinds)]
        while time.perf_counter() < end:
            await tally.time(work())
            await asyncio.sleep(0.05)

    await asyncio.gather(*(client(number) for number in range(options.clients or 200)))
    rows = []
    for tally, _ in kinds:
        rows.append(f"| {tally.name} | {tally.cells()} |")
        rows += [
            f"|   first failure: {text} | | | | | |" for text in tally.failures[:1]
        ]
    return rows


@contextmanager
def postgresql(folder: Path) -> Iterator[dict[str, str]]:
    """Run a PostgreSQL for 40 connections; give the variables that lead to it."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)])
    initdb, pg_ctl = (
        shutil.which("initdb", path=path),
        shutil.which("pg_ctl", path=path),
    )
    if initdb is None or pg_ctl is None:
        sys.exit("initdb and pg_ctl are needed: install PostgreSQL")
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if prefix:
        shutil.chown(folder, "postgres")
    data = str(folder / "data")
    options = (
        f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        " -c max_connections=40"
    )
    log = str(folder / "log")

    def run(*command: str) -> None:
        with open(folder / "output", "ab") as output:
            subprocess.run(
                [*prefix, *command],
                check=True,
                stdout=output,
                stderr=output,
                cwd=folder,
            )

    run(initdb, "-D", data, "-U", "postgres", "-A", "trust", "-N")
    run(pg_ctl, "-D", data, "-w", "-l", log, "-o", options, "start")
    try:
        yield {"BENCH_POSTGRESQL_SOCKET": str(folder)}
    finally:
        run(pg_ctl, "-D", data, "-m", "immediate", "stop")


@contextmanager
def serving(server: str, workers: int, environ: dict[str, str]) -> Iterator[int]:
    """Start a server with its database made; give the port."""
    from benchmarks.transfers import free_port

    port = free_port()
    environ = {**os.environ, **environ}
    subprocess.run(
        [sys.executable, "-c", MANAGE, "migrate", "-v", "0"], env=environ, check=True
    )
    process = subprocess.Popen(
        SERVERS[server](f"127.0.0.1:{port}", workers), env=environ
    )
    try:
        asyncio.run(_wait_until_it_answers(port, process))
        yield port
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(40)
        process.kill()
        process.wait()


async def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await get(port, "/fast/")
            except (OSError, ValueError):
                if process.poll() is not None:
                    sys.exit(f"The server has ended with {process.returncode}")
                await asyncio.sleep(0.1)
            else:
                return


Show = Callable[[str, int, argparse.Namespace], Coroutine[Any, Any, list[str]]]
SHOWS: dict[str, Show] = {
    "sleepers": sleepers,
    "streams": streams,
    "database": database,
    "crowd": crowd,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("show", choices=SHOWS)
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--counts", default="12,50,200")
    parser.add_argument("--wait", type=float, default=0.0)
    parser.add_argument("--clients", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--pool", default="")
    parser.add_argument("--age", default="60")
    options = parser.parse_args()
    options.wait = options.wait or (5.0 if options.show == "crowd" else 2.0)
    print("| Work | p50 ms | p99 ms | max ms | Answered | Failed |")
    for server in options.servers.split(","):
        print(f"| **{server}** | | | | | |", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            environ = {"BENCH_FOLDER": folder}
            if options.show != "database":
                _show(server, 1, environ, options)
                continue
            environ |= {"BENCH_POOL": options.pool, "BENCH_AGE": options.age}
            cluster = Path(tempfile.mkdtemp(prefix="djserve-bench-"))
            try:
                with postgresql(cluster) as variables:
                    _show(server, 2, environ | variables, options)
            finally:
                shutil.rmtree(cluster, ignore_errors=True)


def _show(
    server: str, workers: int, environ: dict[str, str], options: argparse.Namespace
) -> None:
    with serving(server, workers, environ) as port:
        for line in asyncio.run(SHOWS[options.show](server, port, options)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
