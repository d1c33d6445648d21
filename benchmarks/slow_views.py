"""What fast requests take while slow views hold the threads, beside other servers.

    python -m benchmarks.slow_views sleepers streams crowd
    python -m benchmarks.slow_views database [--pool 0,4] [--seconds 15]
    python -m benchmarks.slow_views sleepers --counts 12 --wait 1 --servers djserve

``sleepers`` sends a number of requests to a view that sleeps, and until all are
answered asks for a fast view and the admin's login page 20 times a second each, and
opens a WebSocket with a session twice a second. ``streams`` keeps clients on a
synchronous generator that sleeps for a second between its events. ``crowd`` keeps many
on one view that sleeps, beside ten other views, until all are answered or the time is
over. Each server is started once for these, one server after the other.

``database`` runs two workers and a PostgreSQL with ``max_connections = 40`` (a cluster
that is made and thrown away), with clients on views that query, asynchronous views that
query once and wait for five seconds, and consumers; once for each size of Django's
connection pool that ``--pool`` names, 0 for none.

Servers: djserve, daphne, uvicorn (Django's handler), gunicorn with 8 and 64 threads
(no WebSockets). All have their defaults. ``--servers`` chooses some. The table has a
column for each, and is printed at the end: milliseconds of half of the requests, of 99
in 100, and of the slowest.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.postgresql import Cluster, running_postgresql
from benchmarks.processes import BenchmarkError
from benchmarks.transfers import free_port

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
    begun: int = 0
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def time(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some work, and note how long it took or how it failed."""
        self.begun += 1
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                await work
        except (OSError, EOFError, ValueError) as error:
            self.failures.append(f"{type(error).__name__}: {error}"[:80])
        else:
            self.seconds.append(time.perf_counter() - begun)

    @property
    def cell(self) -> str:
        """The median, the 99th percentile and the longest in ms, and what failed."""
        remarks = []
        if self.failures:
            remarks.append(f"**{len(self.failures)} failed**")
        left = self.begun - len(self.seconds) - len(self.failures)
        if left:
            remarks.append(f"{left} of {self.begun} not answered")
        if not self.seconds:
            return "; ".join(remarks) or "none"
        ordered = sorted(self.seconds)
        parts = [
            ordered[min(len(ordered) - 1, int(p * len(ordered)))] for p in (0.5, 0.99)
        ]
        figures = ", ".join(f"{s * 1000:,.0f}" for s in (*parts, ordered[-1]))
        return "; ".join([f"{figures} ({len(ordered):,})", *remarks])


Cells = dict[str, str]
"""What was measured, by its name."""


def cells_of(tallies: Iterable[Tally], prefix: str = "") -> Cells:
    return {f"{prefix}{tally.name}": tally.cell for tally in tallies}


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


async def sleepers(server: str, port: int, options: argparse.Namespace) -> Cells:
    """Measure beside views that sleep, in several numbers."""
    cells: Cells = {}
    for count in map(int, options.counts.split(",")):
        slow = Tally("slow views")
        begun = time.perf_counter()
        async with asking(port, *kinds_of(server)) as tallies:
            path = f"/slow/?seconds={options.wait}"
            await asyncio.gather(*(slow.time(get(port, path)) for _ in range(count)))
            total = time.perf_counter() - begun
        failed = f"; **{len(slow.failures)} failed**" if slow.failures else ""
        title = f"{count} views of {options.wait:g} s"
        cells[f"{title}: all answered"] = f"{total:.1f} s{failed}"
        cells |= cells_of(tallies, f"{title}: ")
    return cells


async def streams(server: str, port: int, options: argparse.Namespace) -> Cells:
    """Measure beside clients on a synchronous event stream."""
    slow = Tally("streams")
    count = options.clients or 60
    path = f"/events/?count={int(options.seconds) + 60}"
    async with asking(port, *kinds_of(server)) as tallies:
        clients = [
            asyncio.create_task(slow.time(get(port, path))) for _ in range(count)
        ]
        await asyncio.sleep(options.seconds)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    return cells_of(tallies, f"{count} streams: ")


async def crowd(server: str, port: int, options: argparse.Namespace) -> Cells:
    """Measure ten views beside many clients of one that sleeps."""
    slow, others = Tally("its clients"), Tally("ten other views")
    clients = options.clients or 500
    seconds = options.crowd_wait
    async with asyncio.TaskGroup() as tasks:
        pacers = [
            tasks.create_task(
                pace(tasks, others, 4, lambda k=k: get(port, f"/other/{k}/"))  # type: ignore[misc]
            )
            for k in range(10)
        ]
        path = f"/slow/?seconds={seconds}"
        waiting = [
            asyncio.create_task(slow.time(get(port, path))) for _ in range(clients)
        ]
        _, late = await asyncio.wait(waiting, timeout=options.seconds)
        for task in [*pacers, *late]:
            task.cancel()
    return cells_of((slow, others), f"{clients} clients on one view of {seconds:g} s: ")


async def database(server: str, port: int, options: argparse.Namespace) -> Cells:
    """Measure a mix that queries, with fewer connections than clients."""
    seconds = options.database_wait
    waiting = f"async view, a query and {seconds:g} s"
    works: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "sync view, a query": lambda: get(port, "/query/"),
        waiting: lambda: get(port, f"/query-and-wait/?seconds={seconds}"),
        "consumer, 5 messages with queries": lambda: handshake(port, 5),
    }
    if server.startswith("gunicorn"):
        del works[waiting], works["consumer, 5 messages with queries"]
    kinds = [(Tally(name), work) for name, work in works.items()]
    end = time.perf_counter() + options.seconds

    async def client(number: int) -> None:
        tally, work = kinds[number % len(kinds)]
        while time.perf_counter() < end:
            await tally.time(work())
            await asyncio.sleep(0.05)

    await asyncio.gather(*(client(number) for number in range(options.clients or 200)))
    tallies = [tally for tally, _ in kinds]
    for tally in tallies:
        if tally.failures:
            print(f"{server}, {tally.name}: {tally.failures[0]}", file=sys.stderr)
    return cells_of(tallies)


async def most_connections(cluster: Cluster, pause: float = 0.2) -> int:
    """Return, once cancelled, how many clients a database had at most."""
    most = 0
    with suppress(asyncio.CancelledError):
        while True:
            most = max(most, cluster.connections())
            await asyncio.sleep(pause)
    return most


async def warm_up(server: str, port: int) -> None:
    """Ask for everything once or twice: the first requests import what they need."""
    for _ in range(2):
        for path in ("/fast/", "/admin/login/", "/slow/?seconds=0", "/other/0/"):
            await get(port, path)
        if "handshake" in kinds_of(server):
            await handshake(port)


async def watched(
    cluster: Cluster, server: str, port: int, options: argparse.Namespace
) -> Cells:
    """Measure ``database``, and what PostgreSQL has to say."""
    cluster.refusals()
    watch = asyncio.create_task(most_connections(cluster))
    cells = await database(server, port, options)
    watch.cancel()
    most, refused = await watch, cluster.refusals()
    return {
        **cells,
        "connections open at most": str(most),
        "connections refused": f"**{refused:,}**" if refused else "0",
    }


@contextmanager
def serving(server: str, workers: int, environ: dict[str, str]) -> Iterator[int]:
    """Start a server with its database made; give the port."""
    port = free_port()
    environ = {**os.environ, **environ}
    subprocess.run(
        [sys.executable, "-c", MANAGE, "migrate", "-v", "0", "--skip-checks"],
        env=environ,
        check=True,
    )
    command = SERVERS[server](f"127.0.0.1:{port}", workers)
    # Tracebacks of failed requests would bury the table.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=environ, stdout=log, stderr=log, start_new_session=True
        )
        try:
            asyncio.run(_wait_until_it_answers(port, process))
            yield port
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-2000:].decode(errors="replace"))
            raise
        finally:
            # Views that still sleep would keep it for long.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await get(port, "/fast/")
            except (OSError, ValueError):
                if process.poll() is not None:
                    raise BenchmarkError(
                        f"the server has ended with {process.returncode}"
                    ) from None
                await asyncio.sleep(0.1)
            else:
                return


Show = Callable[[str, int, argparse.Namespace], Coroutine[Any, Any, Cells]]
SHOWS: dict[str, Show] = {"sleepers": sleepers, "streams": streams, "crowd": crowd}
DATABASE = "database"


def measure(server: str, options: argparse.Namespace) -> Cells:
    """Measure all shows but that of the database on one server."""
    shows = [show for name, show in SHOWS.items() if name in options.shows]
    cells: Cells = {}
    if not shows:
        return cells
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(server, 1, {"BENCH_FOLDER": folder}) as port,
    ):
        asyncio.run(warm_up(server, port))
        for show in shows:
            cells |= asyncio.run(show(server, port, options))
    return cells


def measure_database(server: str, pool: int, options: argparse.Namespace) -> Cells:
    """Measure the mix that queries on one server, with Django's pool or without."""
    environ = {"BENCH_POOL": str(pool or ""), "BENCH_AGE": options.age}
    with running_postgresql(40) as cluster:
        environ["BENCH_POSTGRESQL_SOCKET"] = str(cluster.folder)
        with serving(server, 2, environ) as port:
            cells = asyncio.run(watched(cluster, server, port, options))
    title = f"pool of {pool}" if pool else "no pool"
    return {f"{title}: {name}": cell for name, cell in cells.items()}


def render(table: dict[str, Cells]) -> str:
    """Return a row for each measurement and a column for each server."""
    names = dict.fromkeys(name for cells in table.values() for name in cells)
    lines = [
        "| p50, p99, max ms (answered) | " + " | ".join(table) + " |",
        "| --- |" + " --- |" * len(table),
    ]
    for name in names:
        cells = (cells.get(name, "") for cells in table.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("shows", nargs="+", choices=[*SHOWS, DATABASE])
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--counts", default="12,50,200", help="of sleepers")
    parser.add_argument("--wait", type=float, default=2.0, help="of sleepers")
    parser.add_argument("--crowd-wait", type=float, default=5.0, help="of the crowd")
    parser.add_argument("--database-wait", type=float, default=5.0, help="async views")
    parser.add_argument("--clients", type=int, default=0, help="60, 500, 200 if not")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each show")
    parser.add_argument("--pool", default="0", help="sizes of Django's pool, 0: none")
    parser.add_argument("--age", default="60", help="CONN_MAX_AGE without a pool")
    options = parser.parse_args()
    table: dict[str, Cells] = {}
    try:
        for server in options.servers.split(","):
            print(f"{server} ...", file=sys.stderr, flush=True)
            table[server] = measure(server, options)
            if DATABASE in options.shows:
                for pool in map(int, options.pool.split(",")):
                    table[server] |= measure_database(server, pool, options)
    except BenchmarkError as error:
        sys.exit(str(error))
    finally:
        print(render(table), flush=True)


if __name__ == "__main__":
    main()
