"""Compressed responses: djserve's codings beside Django's GZipMiddleware.

    python -m benchmarks.compression [--seconds 3] [--rounds 3]

A synchronous view returns JSON of 2, 50 and 500 KiB. One process on one core is loaded
with wrk over 32 connections from another, which asks for the coding. The table has the
medians of the rounds: requests a second, processor time of each, and the content's size
as it is sent. Needs wrk, zstandard and brotli.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import loads, processes
from benchmarks.processes import Server
from benchmarks.servers import cores, module

SIZES = (2, 50, 500)
SITE = "benchmarks.compression_site:application"


class Way(NamedTuple):
    """How the content is compressed, and what the client asks for."""

    coding: str
    options: tuple[str, ...] = ()
    middleware: bool = False


WAYS = {
    "not compressed": Way("identity"),
    "COMPRESSION off": Way("gzip"),
    "djserve, zstd": Way("zstd", ("--compression",)),
    "djserve, br": Way("br", ("--compression",)),
    "djserve, gzip": Way("gzip", ("--compression",)),
    "GZipMiddleware": Way("gzip", middleware=True),
}


class Figure(NamedTuple):
    """Requests a second, milliseconds of processor time for each, bytes sent."""

    rate: float
    cost: float
    size: int


@contextmanager
def started(way: Way, folder: Path, core: int) -> Iterator[Server]:
    """Run the site on one core until the end of the block."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    log = folder / "server.log"
    options = ["--bind", f"127.0.0.1:{port}", "-v", "0", *way.options]
    environ = {"BENCH_GZIP": "1" if way.middleware else ""}
    # The site configures its own settings.
    environ["DJANGO_SETTINGS_MODULE"] = ""
    with log.open("wb") as output:
        process = processes.start(
            module("djserve", SITE, *options),
            core,
            environ=environ,
            output=output.fileno(),
        )
    try:
        server = Server(process, port, is_tls=False, log=log)
        server.wait_until_it_answers("/2/")
        yield server
    finally:
        processes.end(process)


def sent_size(server: Server, way: Way, kib: int) -> int:
    """Return how long a response's content is on its way."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        fields = {"Accept-Encoding": way.coding}
        connection.request("GET", f"/{kib}/", headers=fields)
        return len(connection.getresponse().read())
    finally:
        connection.close()


def load(server: Server, way: Way, kib: int, seconds: int, core: int) -> Figure:
    """Load one page; return its figures."""
    command = [loads.require_tool("wrk"), "-t1", "-c32", f"-d{seconds}s"]
    command += ["-H", f"Accept-Encoding: {way.coding}", f"{server.url}/{kib}/"]
    rate, share = server.busy_during(
        lambda _: loads.parse_wrk(processes.run(command, core, seconds + 30))
    )
    return Figure(rate, 1000 * share / rate, sent_size(server, way, kib))


def measure(folder: Path, rounds: int, seconds: int) -> dict[tuple[str, int], Figure]:
    """Return the figures of each way and size, medians of the rounds."""
    found: dict[tuple[str, int], list[Figure]] = {}
    server_core, load_core = cores()
    for number in range(rounds):
        for name in list(WAYS)[:: -1 if number % 2 else 1]:
            way = WAYS[name]
            with started(way, folder, server_core) as server:
                for kib in SIZES:
                    load(server, way, kib, 1, load_core)
                    figure = load(server, way, kib, seconds, load_core)
                    found.setdefault((name, kib), []).append(figure)
                    print(name, kib, figure, file=sys.stderr, flush=True)
    return {
        key: Figure(
            median(each.rate for each in figures),
            median(each.cost for each in figures),
            figures[0].size,
        )
        for key, figures in found.items()
    }


def render(figures: dict[tuple[str, int], Figure]) -> str:
    """Return a row for each way."""
    lines = [
        "| | " + " | ".join(f"{kib} KiB" for kib in SIZES) + " |",
        "| --- | " + " | ".join("---:" for _ in SIZES) + " |",
    ]
    for name in WAYS:
        cells = []
        for kib in SIZES:
            rate, cost, size = figures[name, kib]
            cells.append(f"{rate:,.0f} /s, {cost:.2f} ms, {size:,} B")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=int, default=3, help="for each size")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="djserve-bench-") as name:
        try:
            figures = measure(Path(name), options.rounds, options.seconds)
        finally:
            processes.end_all()
    print(render(figures))


if __name__ == "__main__":
    main()
