"""``python -m benchmarks.paced_events``: event streams at a fixed rate.

Every client gets so many events a second, ``--burst`` of them at the same time. Printed
are the server's processor time for an event, how late events came, counted from when
they were due, and how many a client got with one read. Each server runs on one core and
the load on another, so a machine needs two that have nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import apps, processes
from benchmarks.clients import Client, http_request, open_clients
from benchmarks.measures import Conditions, started
from benchmarks.processes import BenchmarkError
from benchmarks.servers import Launch, cores, module, raise_open_file_limit

APPLICATION = Launch(application="benchmarks.paced_events:application")
SETTLING = 2.0
"""Seconds between the last client's arrival and the first event that counts."""


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Send events to ``/events?RATE-BURST-PHASE`` until the client goes."""
    if scope["type"] != "http" or scope["path"] != "/events":
        await apps.hello(scope, receive, send)
        return
    rate, burst, phase = scope["query_string"].split(b"-")
    interval = int(burst) / float(rate)
    headers = apps.EVENT_HEADERS
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b": hi\n\n", "more_body": True})
    # The clients' bursts are spread over the interval.
    due = (time.monotonic() // interval + 1 + float(phase)) * interval
    try:
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            event = b"event: tick\ndata: %.6f\n\n" % due
            for _ in range(int(burst)):
                await send(
                    {"type": "http.response.body", "body": event, "more_body": True}
                )
            due += interval
    except OSError:
        return


class Listener(Client):
    """A client that notes how late its events are."""

    def __init__(self, load: Load, number: int) -> None:
        phase = number / load.clients
        path = f"/events?{load.rate}-{load.burst}-{phase}"
        super().__init__(http_request(load.port, path))
        self._load = load
        self._rest = b""

    def body_received(self, data: bytes) -> None:
        now = time.monotonic()
        *events, self._rest = (self._rest + data).split(b"\n\n")
        found = [event.rpartition(b"data: ")[2] for event in events if b"data" in event]
        if found and self._load.begun is not None:
            self._load.reads += 1
            self._load.delays += [now - float(due) for due in found]


class Load:
    """All clients, and what they were sent together."""

    def __init__(self, port: int, clients: int, rate: float, burst: int) -> None:
        self.port, self.clients, self.rate, self.burst = port, clients, rate, burst
        self.begun: float | None = None
        self.reads = 0
        self.delays: list[float] = []

    async def run(self, seconds: float) -> dict[str, float]:
        """Return the figures of one run."""
        numbers = iter(range(self.clients))
        await open_clients(
            lambda: Listener(self, next(numbers)), self.port, self.clients
        )
        await asyncio.sleep(SETTLING)
        print("open", flush=True)
        self.begun = time.monotonic()
        await asyncio.sleep(seconds)
        delays = sorted(self.delays)
        return {
            "events": len(delays),
            "reads": self.reads,
            "p50": delays[len(delays) // 2],
            "p99": delays[len(delays) * 99 // 100],
        }


def measure(
    server: str, conditions: Conditions, clients: int, rate: float, burst: int
) -> str:
    """Return a server's row of the table."""
    words = ["--clients", str(clients), "--rate", str(rate), "--burst", str(burst)]
    words += ["--seconds", str(conditions.seconds)]
    with started(server, APPLICATION, conditions) as running:
        command = module("benchmarks.paced_events", "--load", str(running.port), *words)
        process = processes.start(command, conditions.load_core, output=subprocess.PIPE)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"open\n":
                raise BenchmarkError(f"{server}: connections failed")
            before = running.cpu_seconds()
            figures = json.loads(process.stdout.readline() or b"{}")
            used = running.cpu_seconds() - before
        finally:
            processes.end(process)
    if not figures:
        raise BenchmarkError(f"{server}: the load failed")
    return (
        f"| {server} | {rate:g} | {burst} | {used / figures['events'] * 1e6:.1f} | "
        f"{figures['p50'] * 1e3:.2f} | {figures['p99'] * 1e3:.2f} | "
        f"{figures['events'] / figures['reads']:.2f} | {figures['events']} |"
    )


def show(options: argparse.Namespace) -> None:
    """Measure all servers, and print the table."""
    server_core, load_core = cores()
    conditions = Conditions(
        seconds=options.seconds,
        server_core=server_core,
        load_core=load_core,
        folder=Path(),
        certificate=Path(),
        key=Path(),
    )
    titles = ["server", "events/s each", "at a time", "CPU, µs/event", "p50, ms"]
    titles += ["p99, ms", "events/read", "events"]
    print("| " + " | ".join(titles) + " |\n| --- |" + " ---: |" * (len(titles) - 1))
    for rate in options.rate:
        for burst in options.burst:
            for server in options.servers.split(","):
                row = measure(server, conditions, options.clients, rate, burst)
                print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--servers", default="djserve,uvicorn,granian")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rate", type=float, nargs="+", default=[5.0, 20.0])
    parser.add_argument("--burst", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    raise_open_file_limit()
    try:
        if options.load is None:
            show(options)
            return
        load = Load(options.load, options.clients, options.rate[0], options.burst[0])
        print(json.dumps(uvloop.run(load.run(options.seconds))), flush=True)
    except BenchmarkError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
