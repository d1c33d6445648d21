"""What Django's views cost with an agent that traces each request, beside Uvicorn.

    python -m benchmarks.agents [--seconds 3] [--rounds 3]
    python -m benchmarks.agents --agents none,sentry --rounds 1 --seconds 1

Starts djserve and Uvicorn, which runs Django's own handler, by turns: with no agent,
with Sentry (``traces_sample_rate=1.0``) and with OpenTelemetry's instrumentation of
Django. What the agents report is dropped in the process. Each server has one core and
is loaded with wrk over 32 connections from another. The medians of the rounds go to a
table: requests a second, the server's CPU time for each, and the gain that is left.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks import loads, processes
from benchmarks.measures import DJANGO, Conditions, started
from benchmarks.processes import BenchmarkError, Server
from benchmarks.servers import cores, module

TRACED = replace(DJANGO, application="benchmarks.project.traced:application")
AGENTS = {"none": "", "sentry": "sentry", "opentelemetry": "opentelemetry"}
SERVERS = ("djserve", "uvicorn")
VIEWS = ("sync", "async")
REPORTED = 0.9
"""The part of the requests that an agent must have reported: those that wrk breaks off
at its end, and reports that are counted by two threads at once, are not all of them."""


@dataclass(frozen=True)
class Figure:
    """Requests a second, and the microseconds of CPU time for each."""

    rate: float
    cost: float


Figures = dict[tuple[str, str, str], list[Figure]]
"""By agent, view and server: one for each round."""


def measure(agent: str, server: str, conditions: Conditions) -> dict[str, Figure]:
    """Start a server with an agent; return the figure of each view."""
    os.environ["BENCH_AGENT"] = AGENTS[agent]
    with started(server, TRACED, conditions, "/sync/") as running:
        figures = {view: load(running, view, conditions) for view in VIEWS}
        requests = sum(figure.rate for figure in figures.values()) * conditions.seconds
        reported = count_reported(running.port)
    if reported < REPORTED * requests and AGENTS[agent]:
        raise BenchmarkError(
            f"{agent} reported {reported} of {requests:.0f} requests to {server}"
        )
    if reported and not AGENTS[agent]:
        raise BenchmarkError(f"{server} reported without an agent")
    return figures


def load(running: Server, view: str, conditions: Conditions) -> Figure:
    """Load a view for a second that is not counted, and then for those that are."""
    url = f"{running.url}/{view}/"
    with contextlib.suppress(BenchmarkError):
        # On a busy machine the first second may end before anything is answered.
        loads.wrk(url, 1, conditions.load_core)
    # Threads end with their requests under Uvicorn: only the process knows all.
    before = running.cpu_seconds()
    rate = loads.wrk(url, conditions.seconds, conditions.load_core)
    used = running.cpu_seconds() - before
    return Figure(rate, used / (rate * conditions.seconds) * 1e6)


def count_reported(port: int) -> int:
    """Return how many requests the server's agent has reported so far."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        client.request("GET", "/reported/")
        return int(client.getresponse().read())
    finally:
        client.close()


def compare(agents: Sequence[str], rounds: int, conditions: Conditions) -> Figures:
    """Measure all by turns, the servers in the other order each time."""
    figures: Figures = {}
    for number in range(rounds):
        for agent in agents:
            for server in SERVERS[:: -1 if number % 2 else 1]:
                try:
                    measured = measure(agent, server, conditions)
                except BenchmarkError as error:
                    print(agent, server, error, file=sys.stderr, flush=True)
                    continue
                for view, figure in measured.items():
                    figures.setdefault((agent, view, server), []).append(figure)
                    print(agent, server, view, figure, file=sys.stderr, flush=True)
    return figures


def middle(figures: Sequence[Figure]) -> Figure:
    """Return the medians of some rounds."""
    return Figure(
        median(figure.rate for figure in figures),
        median(figure.cost for figure in figures),
    )


def render(figures: Figures) -> str:
    """Return a line for each agent and view."""
    lines = [
        "| Agent | View | djserve | Uvicorn | Gain by rate | Gain by CPU time |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for agent, view in dict.fromkeys(key[:2] for key in figures):
        rounds = [figures.get((agent, view, server)) for server in SERVERS]
        if not all(rounds):
            lines.append(f"| {agent} | {view} | failed | | | |")
            continue
        ours, theirs = (middle(each or []) for each in rounds)
        lines.append(
            f"| {agent} | {view} | {_cell(ours)} | {_cell(theirs)} "
            f"| {ours.rate / theirs.rate:.1f} | {theirs.cost / ours.cost:.1f} |"
        )
    return "\n".join(lines)


def _cell(figure: Figure) -> str:
    return f"{figure.rate:,.0f} /s, {figure.cost:,.0f} µs"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--agents", default=",".join(AGENTS))
    parser.add_argument("--seconds", type=int, default=3, help="for each view")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    server_core, load_core = cores()
    with tempfile.TemporaryDirectory(prefix="djserve-bench-") as name:
        conditions = Conditions(
            seconds=options.seconds,
            server_core=server_core,
            load_core=load_core,
            folder=Path(name),
            certificate=Path(),
            key=Path(),
        )
        os.environ |= replace(TRACED, django=name).environ
        try:
            processes.run(module("benchmarks.project.prepare"), load_core, 60)
            agents = options.agents.split(",")
            print(render(compare(agents, options.rounds, conditions)))
        except BenchmarkError as error:
            sys.exit(str(error))
        finally:
            processes.end_all()


if __name__ == "__main__":
    main()
