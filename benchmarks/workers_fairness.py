"""``python -m benchmarks.workers_fairness``: how two workers share what comes.

The first table has how many connections each worker accepted: of those that come at the
same time and stay, and of those that come one after the other and end. The second has
the latencies of quick requests at a fixed rate beside slow ones, and beside connections
that stay and say nothing, with one worker and with two. Each process may use all cores.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from benchmarks.paced import Work, run_paced
from benchmarks.processes import BenchmarkError
from benchmarks.soak_server import SoakServer, client_ports, serve

TIMEOUT = 60.0
REQUEST = b"GET /async/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@contextmanager
def held_connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open connections at the same time; each has had an answer when all are there."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in opened:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(("127.0.0.1", port))
        for each in opened:
            each.settimeout(TIMEOUT)
            each.sendall(REQUEST)
        for each in opened:
            if not each.recv(65536).startswith(b"HTTP/1.1 200"):
                raise BenchmarkError("a connection was not answered with 200")
        yield opened


def count_long(server: SoakServer, count: int) -> Counter[int]:
    """Return how many of the connections that stay each worker holds."""
    with held_connections(server.target.port, count) as opened:
        ours = {each.getsockname()[1] for each in opened}
        return Counter(
            {
                pid: len(client_ports(pid, server.target.port) & ours)
                for pid in server.ready_workers
            }
        )


def count_short(server: SoakServer, count: int) -> Counter[int]:
    """Return by which workers connections of one request each were answered."""
    found: Counter[int] = Counter()
    for _ in range(count):
        client = http.client.HTTPConnection("127.0.0.1", server.target.port, TIMEOUT)
        client.connect()
        mine = client.sock.getsockname()[1]
        client.request("GET", "/async/")
        client.getresponse().read()
        found.update(
            pid
            for pid in server.ready_workers
            if mine in client_ports(pid, server.target.port)
        )
        client.close()
    return found


def spread(found: Counter[int], workers: int) -> str:
    """Return the shares of the workers, the least first."""
    shares = sorted(found.values())
    if len(shares) != workers or not sum(shares):
        raise BenchmarkError(f"{len(shares)} of {workers} workers are known")
    return " / ".join(f"{share / sum(shares):.0%}" for share in shares)


def measure_mix(server: SoakServer, held: int, seconds: float) -> Work:
    """Return the quick requests' latencies beside slow ones and held connections."""
    quick = Work("quick", "/query/", connections=16, rate=40)
    slow = Work("slow", "/slow/", connections=8)
    with held_connections(server.target.port, held):
        run_paced(server.target.port, [quick, slow], seconds)
    return quick


def show(count: int, seconds: float) -> None:
    """Measure, and print both tables."""
    kinds: dict[str, Callable[[SoakServer, int], Counter[int]]] = {
        "at the same time, and stay": count_long,
        "one after the other": count_short,
    }
    print("| connections | shares of 2 workers |\n| --- | --- |")
    with serve([], tls=False, workers=2) as server:
        asyncio.run(server.wait_for("Supervisor "))
        for title, measure in kinds.items():
            shares = spread(measure(server, count), workers=2)
            print(f"| {count} {title} | {shares} |", flush=True)
        server.stop()
    print("\n| workers | p50, ms | p99, ms |\n| --- | ---: | ---: |")
    for workers in (1, 2):
        with serve([], tls=False, workers=workers) as server:
            asyncio.run(server.wait_for("Supervisor "))
            quick = measure_mix(server, count, seconds)
            figures = (quick.percentile(part) * 1000 for part in (0.5, 0.99))
            print(f"| {workers} | {' | '.join(f'{ms:.1f}' for ms in figures)} |")
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    try:
        show(options.connections, options.seconds)
    except BenchmarkError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
