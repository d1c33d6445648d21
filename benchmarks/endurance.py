"""``python -m benchmarks.endurance --seconds 3600``: what workers hold after an hour.

Two workers serve a Django project with a Channels consumer to a mixed load of about a
third of a core: HTTP/1.1, HTTP/2, WebSockets, queries and uploads, beside clients that
leave in the middle of everything. Without a restart, so that a leak shows. With
``--http3`` there is HTTP/3 as well. Options of ``runasgi`` may follow after ``--``.

What each worker holds is counted while there is no load, after the warm-up and at the
end, and once a minute under load. The exit code is 1 where it has grown by more than
``BOUNDS``, an honest client has failed, or the log has a traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.endurance_load import connection, make_clients
from benchmarks.processes import BenchmarkError
from benchmarks.soak_load import running
from benchmarks.soak_server import SoakServer, serve
from benchmarks.soak_tally import Tally, Target
from djserve.net.control import ask

WORKERS = 2
QUIET_TIME = 15.0
TRIES = 200
PATIENCE = 60.0
SHOWN = 20
MIB = 2**20


@dataclass(frozen=True)
class Holding:
    """What one worker holds."""

    memory: float
    """Resident, in MiB."""
    descriptors: int
    threads: int
    tasks: int
    """Of asyncio, on the worker's loop."""
    calls: int
    """Of the application, that run: requests and WebSockets."""
    databases: int
    """Connections to the database."""
    objects: int
    """Known to the garbage collector."""


BOUNDS = Holding(
    memory=24.0,
    descriptors=20,
    threads=6,
    tasks=0,
    calls=0,
    databases=6,
    objects=2_000,
)
"""By how much each may grow.

The threads for synchronous code start when first needed, up to their number; each has a
connection to the database, which is three descriptors with SQLite.
"""

Holdings = Mapping[int, Holding]
"""By the worker's process."""


@dataclass(frozen=True)
class Plan:
    """How long there is load, in seconds, and over what."""

    seconds: float
    warm_up: float = 60.0
    interval: float = 60.0
    """From one count to the next."""
    tls: bool = True
    http3: bool = False
    options: tuple[str, ...] = ()
    """More of them for ``runasgi``."""

    @property
    def quiet_time(self) -> float:
        """Seconds from the last client's end to a count.

        What it left behind has ended then. That a client of QUIC has left without a
        word shows after a minute.
        """
        return 90.0 if self.http3 else QUIET_TIME

    @property
    def protocols(self) -> list[str]:
        """What must have been spoken."""
        http3 = ["HTTP/3"] if self.http3 else []
        return ["HTTP/1.1", "HTTP/2", "WebSocket message", *http3]


async def count(server: SoakServer, control: str) -> Holdings:
    """Ask each worker, the kernel and the supervisor what the workers hold."""
    told = await _ask_workers(server.target, WORKERS)
    calls = await asyncio.to_thread(_ask_supervisor, control)
    if calls.keys() != told.keys():
        raise BenchmarkError(f"Workers {sorted(calls)}, answers of {sorted(told)}")
    return {
        pid: Holding(
            memory=_resident_size(pid) / MIB,
            descriptors=len(os.listdir(f"/proc/{pid}/fd")),
            threads=len(os.listdir(f"/proc/{pid}/task")),
            tasks=figures["tasks"],
            calls=calls[pid],
            databases=_count_databases(pid),
            objects=figures["objects"],
        )
        for pid, figures in told.items()
    }


async def _ask_workers(target: Target, count: int) -> dict[int, dict[str, Any]]:
    """Return each worker's own figures; the kernel chooses whom a connection meets."""
    told: dict[int, dict[str, Any]] = {}
    for _ in range(TRIES):
        async with asyncio.timeout(PATIENCE), connection(target) as (reader, writer):
            writer.write(
                b"GET /vitals/ HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n"
            )
            content = (await reader.read()).partition(b"\r\n\r\n")[2]
        figures = json.loads(content)
        told[figures["process"]] = figures
        if len(told) == count:
            return told
    raise BenchmarkError(f"Only {len(told)} of {count} workers answer")


def _ask_supervisor(control: str) -> dict[int, int]:
    """Return how many calls of the application run in each worker."""
    status = ask(control, {"command": "status"}, PATIENCE)
    return {worker["process"]: worker["in_flight"] for worker in status["workers"]}


def _resident_size(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _count_databases(pid: int) -> int:
    """Return how often a process has the database open."""
    names = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(os.readlink(entry))
        except FileNotFoundError:
            continue
    return sum(name.endswith("db.sqlite3") for name in names)


def find_growth(first: Holdings, last: Holdings) -> list[str]:
    """Return what has grown beyond its bound, and workers that were replaced."""
    if first.keys() != last.keys():
        return [f"Workers were replaced: {sorted(first)}, then {sorted(last)}"]
    return [
        f"Worker {pid}: {name} grew from {before:g} to {after:g}, "
        f"by more than {bound:g}"
        for pid in first
        for name, before, after, bound in zip(
            _NAMES,
            astuple(first[pid]),
            astuple(last[pid]),
            astuple(BOUNDS),
            strict=True,
        )
        if after - before > bound
    ]


_NAMES = [field.name for field in fields(Holding)]


def show(when: str, holdings: Holdings) -> None:
    """Print a line for each worker."""
    for pid, holding in sorted(holdings.items()):
        figures = zip(_NAMES, astuple(holding), strict=True)
        cells = "  ".join(f"{name} {round(figure, 1):g}" for name, figure in figures)
        print(f"{when:>8}  worker {pid}: {cells}", flush=True)


async def endure(
    server: SoakServer, control: str, plan: Plan
) -> tuple[Tally, list[str]]:
    """Run the load; return what the clients counted and what has grown."""
    await server.wait_for("is ready", WORKERS)
    tally = Tally()
    async with running(make_clients(server.target, tally, http3=plan.http3)):
        await asyncio.sleep(plan.warm_up)
    await asyncio.sleep(plan.quiet_time)
    first = await count(server, control)
    show("start", first)
    started = time.monotonic()
    async with running(make_clients(server.target, tally, http3=plan.http3)):
        while (rest := started + plan.seconds - time.monotonic()) > 0:
            await asyncio.sleep(min(rest, plan.interval))
            passed = time.monotonic() - started
            show(f"{passed:.0f} s", await count(server, control))
    await asyncio.sleep(plan.quiet_time)
    last = await count(server, control)
    show("start", first)
    show("end", last)
    return tally, find_growth(first, last)


def find_faults(
    tally: Tally, log: str, code: int, protocols: Iterable[str]
) -> list[str]:
    """Return what went wrong beside growth."""
    faults = [str(failure) for failure in tally.failures]
    for what in protocols:
        if not tally.requests[what]:
            faults.append(f"{what}: there was no load")
    if tracebacks := log.count("Traceback (most recent call last)"):
        start = log.index("Traceback (most recent call last)")
        faults.append(f"{tracebacks} tracebacks, the first:\n{log[start:][:3000]}")
    if code != 0:
        faults.append(f"The server's exit code is {code}")
    return faults


def run(plan: Plan) -> list[str]:
    """Run and report; return the demands that are not met."""
    with tempfile.TemporaryDirectory() as folder:
        control = str(Path(folder, "control"))
        options = ["--control-socket", control, *plan.options]
        if plan.http3:
            options.append("--http3")
        with serve(options, tls=plan.tls, workers=WORKERS) as server:
            tally, problems = asyncio.run(endure(server, control, plan))
            code = server.stop()
            problems += find_faults(tally, server.output, code, plan.protocols)
    counts = {**tally.requests, **tally.events}
    for what, number in sorted(counts.items()):
        print(f"  {what}: {number}")
    for problem in problems[:SHOWN]:
        print(f"  NOT MET: {problem}")
    if len(problems) > SHOWN:
        print(f"  NOT MET: and {len(problems) - SHOWN} more")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--warm-up", type=float, default=60.0)
    parser.add_argument("--interval", type=float, default=60.0)
    parser.add_argument("--cleartext", action="store_true", help="without TLS")
    parser.add_argument("--http3", action="store_true", help="needs aioquic, and TLS")
    parser.add_argument("options", nargs="*", help="of runasgi, after --")
    options = parser.parse_args()
    plan = Plan(
        options.seconds,
        options.warm_up,
        options.interval,
        tls=not options.cleartext,
        http3=options.http3,
        options=tuple(options.options),
    )
    # So that the server is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        problems = run(plan)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
