"""How long requests to the Django project take, and how many connections they open.

    python -m benchmarks.django_shows latency [--rate 100] [--servers djserve,uvicorn]
    python -m benchmarks.django_shows slow-views
    python -m benchmarks.django_shows connections

``latency`` asks for a sync view and an async one, over 32 connections at a fixed rate.
``slow-views`` keeps 64 requests of a sync view of one second on their way, with eight
threads, and asks for async views and WebSocket echoes meanwhile. ``connections`` counts
the database connections that 1,000 requests open: in SQLite, or where BENCH_POSTGRESQL
names a database, in PostgreSQL.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import processes
from benchmarks.measures import CHANNELS, DJANGO, Conditions, started
from benchmarks.paced import Work, run_paced
from benchmarks.processes import BenchmarkError, Server
from benchmarks.servers import SERVERS, cores, module

STOCK = "djserve, HANDLER=django"
REQUESTS = 1000


def latency(server: str, options: argparse.Namespace) -> Iterator[str]:
    """Measure at the same rate for each server, one view after the other."""
    for name, path in (("sync view", "/sync/"), ("async view", "/async/")):
        work = Work(name, path, 32, options.rate)
        with serving(server) as running:
            run_paced(running.port, [Work("warm-up", path, 8)], 1.0)
            run_paced(running.port, [work], options.seconds)
        yield row(server, work)


def slow_views(server: str, options: argparse.Namespace) -> Iterator[str]:
    """Measure what is served beside views that block their threads."""
    # That of the loop's own views: one by one, so that each can be late.
    measured = [
        Work("async view", "/async/", 8, 50),
        Work("WebSocket echo", "", 8, 50),
    ]
    blocking = [
        Work("sync view of 1 s", "/slow/", 64),
        Work("sync view, async_to_sync", "/to-async/", 4),
        Work("async view, sync_to_async", "/to-thread/", 4),
    ]
    with serving(server, channels=True, threads=8) as running:
        run_paced(running.port, [Work("warm-up", "/async/", 8)], 1.0)
        run_paced(running.port, [*blocking, *measured], options.seconds)
    for work in measured:
        yield row(server, work)
    answered = len(blocking[0].latencies) / options.seconds
    yield f"| {server} | sync views of 1 s answered a second | {answered:.1f} | | |"


def count_connections(server: str, options: argparse.Namespace) -> Iterator[str]:
    """Count the ``connection_created`` signals of a number of requests."""
    for clients in (1, 32):
        with serving(server) as running, ThreadPoolExecutor(clients) as executor:
            shares = [len(range(k, REQUESTS, clients)) for k in range(clients)]
            before = count_opened(running.port)
            list(executor.map(partial(query, running.port), shares))
            opened = count_opened(running.port) - before
        yield (
            f"| {server} | {REQUESTS} requests with a query, {clients} at a time "
            f"| {opened} | | |"
        )


def count_opened(port: int) -> int:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    opened = int(ask(client, "/connections/"))
    client.close()
    return opened


def query(port: int, requests: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(requests):
        ask(client, "/query/")
    client.close()


def ask(client: http.client.HTTPConnection, path: str) -> bytes:
    client.request("GET", path)
    response = client.getresponse()
    content = response.read()
    if response.status != 200:
        raise BenchmarkError(f"{path} answered {response.status}")
    return content


def row(server: str, work: Work) -> str:
    figures = (work.percentile(0.5), work.percentile(0.99), max(work.latencies))
    cells = " | ".join(f"{figure * 1000:.1f}" for figure in figures)
    return f"| {server} | {work.name} | {cells} |"


@contextmanager
def serving(
    server: str, *, channels: bool = False, threads: int = 0
) -> Iterator[Server]:
    """Start a server on one core with the project, for the load on another."""
    handler = "django" if server == STOCK else "djserve"
    os.environ.update(BENCH_HANDLER=handler, BENCH_THREADS=str(threads or ""))
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        conditions = Conditions(
            seconds=0,
            server_core=server_core,
            load_core=load_core,
            folder=Path(folder),
            certificate=Path(),
            key=Path(),
        )
        os.environ["BENCH_FOLDER"] = folder
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.project.settings"
        processes.run(module("benchmarks.project.prepare"), load_core, 60)
        launch = CHANNELS if channels else DJANGO
        name = "djserve" if server == STOCK else server
        with started(name, launch, conditions, "/sync/") as running:
            yield running


SHOWS: dict[str, Callable[[str, argparse.Namespace], Iterator[str]]] = {
    "latency": latency,
    "slow-views": slow_views,
    "connections": count_connections,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("show", choices=SHOWS)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--servers", default="")
    options = parser.parse_args()
    default = ("djserve", STOCK) if options.show == "connections" else SERVERS
    servers = options.servers.split(",") if options.servers else default
    print("| Server | Work | p50 ms | p99 ms | max ms |")
    try:
        for server in servers:
            for line in SHOWS[options.show](server, options):
                print(line, flush=True)
    except BenchmarkError as error:
        sys.exit(str(error))
    finally:
        processes.end_all()


if __name__ == "__main__":
    main()
