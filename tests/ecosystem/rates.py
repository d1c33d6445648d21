"""How fast the project of ``crowd`` is under djserve and under Uvicorn, by turns.

    python -m tests.ecosystem.rates [--rounds 3] [--requests 2000]

Each server is started afresh for each round, behind an nginx, on one core; the load has
another. 200 requests come first and are not counted. The responses, records and tasks
are judged as in the tests, and what is wrong with them is counted as faults.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.ecosystem.client import Call, converse_all, send_all
from tests.ecosystem.judge import judge
from tests.ecosystem.packages.crowd import CROWD, PATHS, Crowd
from tests.ecosystem.run import Serving, serving
from tests.ecosystem.servers import DJSERVE, UVICORN

ONE_ROUND = len(CROWD) * len(PATHS)
"""Requests of each user to each path."""


@dataclass(frozen=True)
class Rate:
    """What a server made of the requests of one round."""

    requests: int
    seconds: float
    processor_seconds: float
    faults: int

    @property
    def cells(self) -> str:
        """Requests a second, processor seconds, and milliseconds of them for each."""
        each = self.processor_seconds / self.requests * 1000
        figures = f"{self.requests / self.seconds:.0f} | {self.processor_seconds:.1f}"
        return f"{figures} | {each:.1f} | {self.faults}"


def middle(rates: Sequence[Rate]) -> Rate:
    """Return the medians of some rounds, and the sum of their faults."""
    return Rate(
        rates[0].requests,
        median(rate.seconds for rate in rates),
        median(rate.processor_seconds for rate in rates),
        sum(rate.faults for rate in rates),
    )


def measure(server: str, requests: int, place: Path) -> Rate:
    """Put one round of requests on a server."""
    package = Crowd(rounds=1 + max(1, round(requests / ONE_ROUND)))
    calls = package.calls()
    server_core, load_core = _cores()
    available = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {server_core})
    try:
        with serving(package, server, place) as served:
            os.sched_setaffinity(0, {load_core})
            asyncio.run(send_all(served.run, calls[:ONE_ROUND]))
            used = served.processor_seconds()
            seconds = asyncio.run(_load(served, calls[ONE_ROUND:]))
            used = served.processor_seconds() - used
            served.finish(package)
    finally:
        os.sched_setaffinity(0, available)
    faults = judge(served.run, package).faults
    for fault in faults[:3]:
        print(f"{server}: {fault}", file=sys.stderr)
    return Rate(len(calls) - ONE_ROUND, seconds, used, len(faults))


def _cores() -> tuple[int, int]:
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


async def _load(served: Serving, calls: Sequence[Call]) -> float:
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        group.create_task(send_all(served.run, calls))
        group.create_task(converse_all(served.run))
    return time.perf_counter() - begun


def compare(rounds: int, requests: int) -> dict[str, list[Rate]]:
    """Measure the servers by turns, in the other order each time."""
    rates: dict[str, list[Rate]] = {DJSERVE: [], UVICORN: []}
    for number in range(rounds):
        for server in [*rates][:: -1 if number % 2 else 1]:
            with tempfile.TemporaryDirectory(prefix="djserve-rates-") as place:
                rates[server].append(measure(server, requests, Path(place)))
            print(server, rates[server][-1].cells, file=sys.stderr, flush=True)
    return rates


def render(rates: dict[str, list[Rate]]) -> str:
    """Return a line for each round of each server, and their medians."""
    lines = [
        "| Server | Round | Requests/s | CPU s | CPU ms of a request | Faults |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for server, rounds in rates.items():
        lines += [
            f"| {server} | {number} | {rate.cells} |"
            for number, rate in enumerate(rounds, 1)
        ]
    for server, rounds in rates.items():
        lines.append(f"| **{server}** | **median** | {middle(rounds).cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2000, help="in steps of 200")
    options = parser.parse_args()
    print(render(compare(options.rounds, options.requests)))


if __name__ == "__main__":
    main()
