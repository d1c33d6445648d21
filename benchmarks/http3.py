"""HTTP/3 of djserve beside Hypercorn: requests, and 100 MiB down and up.

    python -m benchmarks.http3 [--seconds 10] [--mebibytes 100] [--streams 20]

One process each, pinned to one CPU, the client to the others if there are any. The
client is aioquic's, in Python too and slower than the servers: the processor time that
a server has used for each request says more than the requests in a second.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

from benchmarks.processes import BenchmarkError
from benchmarks.transfers import free_port

APPLICATION = """
PART = b"x" * 65536

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body")
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/down":
        for _ in range(int(scope["query_string"])):
            await send({"type": "http.response.body", "body": PART, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": b"Hello %d" % size})
"""

SERVERS = {
    "djserve": ("-m djserve app:app --bind 127.0.0.1:{port} --http3 "
    "--body-size-limit 1000000000 --certfile cert.pem --keyfile key.pem"),
    "hypercorn": ("-m hypercorn app:app --quic-bind 127.0.0.1:{port} "
    "--bind 127.0.0.1:{port} --certfile cert.pem --keyfile key.pem"),
}  # fmt: skip
START_TIMEOUT = 120.0
TRY_TIMEOUT = 20.0
TRANSFER_TIMEOUT = 600.0
PART_SIZE = 65536


class Client(QuicConnectionProtocol):
    """A connection that counts what comes on its streams."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.h3 = H3Connection(self._quic)
        self.sizes: dict[int, int] = {}
        self.ends: dict[int, asyncio.Future[int]] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        for each in self.h3.handle_event(event):
            if isinstance(each, DataReceived):
                self.sizes[each.stream_id] += len(each.data)
            if isinstance(each, HeadersReceived | DataReceived) and each.stream_ended:
                end = self.ends.pop(each.stream_id)
                if not end.done():
                    end.set_result(self.sizes.pop(each.stream_id))

    async def fetch(self, path: str, content: bytes = b"") -> int:
        """Return the size of a response's content."""
        stream_id = self._quic.get_next_available_stream_id()
        self.sizes[stream_id] = 0
        end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ends[stream_id] = end
        head = [
            (b":method", b"POST" if content else b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", path.encode()),
        ]
        self.h3.send_headers(stream_id, head, end_stream=not content)
        if content:
            self.h3.send_data(stream_id, content, end_stream=True)
        self.transmit()
        return await end


@dataclass
class Server:
    """A server that runs, and what it has used of its processor."""

    pid: int
    port: int

    def processor_seconds(self) -> float:
        """Return what the process and its children have used."""
        pids, ticks = {self.pid}, 0
        for path in sorted(
            Path("/proc").glob("[0-9]*/stat"), key=lambda p: int(p.parts[2])
        ):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(path.parts[2]) in pids or int(fields[1]) in pids:
                pids.add(int(path.parts[2]))
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def connect(self) -> Any:
        configuration = QuicConfiguration(
            alpn_protocols=["h3"],
            server_name="localhost",
            verify_mode=ssl.CERT_NONE,
            # As large as browsers have them.
            max_data=24 * 1024 * 1024,
            max_stream_data=6 * 1024 * 1024,
        )
        return connect(
            "127.0.0.1",
            self.port,
            configuration=configuration,
            create_protocol=Client,
        )


@dataclass
class Measure:
    """What one load took: of the clock, and of the server's processor."""

    count: int
    seconds: float
    processor: float


@contextmanager
def serving(name: str, folder: Path) -> Iterator[Server]:
    """Run a server on one CPU for the block."""
    port = free_port()
    command = [sys.executable, *SERVERS[name].format(port=port).split()]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": ""}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log
        )
    os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
    try:
        server = Server(process.pid, port)
        asyncio.run(_wait_until_ready(server, process))
        yield server
    finally:
        process.terminate()
        process.wait(START_TIMEOUT)


async def _wait_until_ready(server: Server, process: Any) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            async with asyncio.timeout(TRY_TIMEOUT), server.connect() as client:
                await client.fetch("/")
                return
        except (OSError, TimeoutError):
            await asyncio.sleep(0.1)
    raise BenchmarkError("The server has not answered")


def measure(server: Server, load: Callable[[Client], Awaitable[int]]) -> Measure:
    """Run a load on one connection; it returns its count."""

    async def run() -> Measure:
        async with asyncio.timeout(TRANSFER_TIMEOUT), server.connect() as client:
            await client.fetch("/")
            used, start = server.processor_seconds(), time.monotonic()
            count = await load(client)
            seconds = time.monotonic() - start
            return Measure(count, seconds, server.processor_seconds() - used)

    return asyncio.run(run())


def ask_for(seconds: float, streams: int) -> Callable[[Client], Awaitable[int]]:
    """Return a load of small requests, so many at once."""

    async def load(client: Client) -> int:
        deadline, count = time.monotonic() + seconds, 0

        async def ask() -> None:
            nonlocal count
            while True:
                await client.fetch("/")
                count += 1
                if time.monotonic() >= deadline:
                    return

        await asyncio.gather(*(ask() for _ in range(streams)))
        return count

    return load


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--mebibytes", type=int, default=100)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--server", choices=SERVERS, action="append")
    options = parser.parse_args()
    cpus = os.sched_getaffinity(0)
    size = options.mebibytes * 1024 * 1024
    print("| Server | Requests/s | CPU per request | Down | CPU | Up | CPU |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "app.py").write_text(APPLICATION)
        leaf = trustme.CA().issue_cert("localhost", "127.0.0.1")
        leaf.private_key_pem.write_to_path(folder / "key.pem")
        for pem in leaf.cert_chain_pems:
            pem.write_to_path(folder / "cert.pem", append=True)
        for each in options.server or SERVERS:
            with serving(each, folder) as server:
                if len(cpus) > 1:
                    os.sched_setaffinity(0, cpus - {max(cpus)})
                try:
                    print_row(each, server, options, size)
                finally:
                    os.sched_setaffinity(0, cpus)


def print_row(
    name: str, server: Server, options: argparse.Namespace, size: int
) -> None:
    """Measure one server, and print what was found."""
    requests = measure(server, ask_for(options.seconds, options.streams))
    parts = size // PART_SIZE
    down = measure(server, lambda client: client.fetch(f"/down?{parts}"))
    if down.count != parts * PART_SIZE:
        raise BenchmarkError(f"{down.count} bytes came of {size}")
    up = measure(server, lambda client: client.fetch("/up", b"u" * size))
    print(
        f"| {name} | {requests.count / requests.seconds:.0f} "
        f"| {1e6 * requests.processor / requests.count:.0f} µs "
        f"| {down.seconds:.1f} s | {down.processor:.1f} s "
        f"| {up.seconds:.1f} s | {up.processor:.1f} s |",
        flush=True,
    )


if __name__ == "__main__":
    main()
