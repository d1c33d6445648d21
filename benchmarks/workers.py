"""``python -m benchmarks.workers``: two workers beside one, preloaded or not.

The first table has throughput and the servers' own time for each request, the second
the memory of all processes (PSS: pages that several share count in parts). Needs wrk,
Linux and two cores; the load is pinned to the second one, which two workers share with
it: the time for each request tells what they would do with a load from elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import CLOCK_TICKS, BenchmarkError
from benchmarks.servers import cores
from benchmarks.soak_server import SoakServer, serve

PATHS = ("/async/", "/sync/", "/query/")
CONNECTIONS = 16


@dataclass(frozen=True)
class Rate:
    """What one run has measured."""

    requests: float
    """Answered in a second."""
    cost: float
    """Seconds of the server's processes for each."""


def measure_rate(workers: int, path: str, seconds: float) -> Rate:
    """Run a server under load; one worker has the first core for itself."""
    server_core, load_core = cores()
    used = {server_core} if workers == 1 else {server_core, load_core}
    with serve([], tls=False, workers=workers) as server:
        asyncio.run(server.wait_for("Supervisor "))
        for pid in server.pids():
            os.sched_setaffinity(pid, used)
        run_wrk(server, path, load_core, 1.0)
        before = cpu_seconds(server.pids())
        rate = run_wrk(server, path, load_core, seconds)
        cost = (cpu_seconds(server.pids()) - before) / (rate * seconds)
        server.stop()
    return Rate(rate, cost)


def run_wrk(server: SoakServer, path: str, core: int, seconds: float) -> float:
    """Return the requests a second that wrk counts."""
    program = shutil.which("wrk")
    if program is None:
        raise BenchmarkError("wrk is not installed")
    url = f"http://127.0.0.1:{server.target.port}{path}"
    words = [program, "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", url]
    output = subprocess.run(
        ["taskset", "-c", str(core), *words], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise BenchmarkError(f"wrk has failed:\n{output}")
    return float(found[1])


def measure_memory(options: list[str]) -> dict[str, float]:
    """Return each process's PSS in MiB after some load, and the sum."""
    _, load_core = cores()
    with serve(options, tls=False) as server:
        asyncio.run(server.wait_for("Supervisor "))
        for path in PATHS:
            run_wrk(server, path, load_core, 1.0)
        workers = server.ready_workers
        sizes = {pid: proportional_size(pid) / 2**20 for pid in server.pids()}
        server.stop()
    return {
        "supervisor and loader": sum(sizes[pid] for pid in sizes.keys() - set(workers)),
        "each worker": statistics.mean(sizes[pid] for pid in workers),
        "all": sum(sizes.values()),
    }


def proportional_size(pid: int) -> int:
    """Return a process's memory in bytes, shared pages in parts (Linux)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def cpu_seconds(pids: Iterable[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / CLOCK_TICKS


def compare_rates(rounds: int, seconds: float) -> None:
    """Print the first table: the best of runs that alternate.

    Whatever else the machine does can only take from a run.
    """
    print("| View | 1 worker | 2 workers | Ratio | Ratio by the servers' own time |")
    print("| --- | --- | --- | --- | --- |")
    for path in PATHS:
        runs: dict[int, list[Rate]] = {1: [], 2: []}
        for _ in range(rounds):
            for workers, found in runs.items():
                found.append(measure_rate(workers, path, seconds))
        one, two = (
            Rate(
                max(rate.requests for rate in found),
                min(rate.cost for rate in found),
            )
            for found in runs.values()
        )
        cells = [f"{one.requests:.0f}/s, {one.cost * 1e6:.0f} µs"]
        cells += [f"{two.requests:.0f}/s, {two.cost * 1e6:.0f} µs"]
        cells += [
            f"{two.requests / one.requests:.2f}",
            f"{2 * one.cost / two.cost:.2f}",
        ]
        print(f"| `{path}` | {' | '.join(cells)} |", flush=True)


def compare_memory() -> None:
    """Print the second table."""
    preloaded = measure_memory([])
    separate = measure_memory(["--no-preload"])
    print("\n| MiB (PSS) | `PRELOAD` | `--no-preload` |\n| --- | --- | --- |")
    for what, size in preloaded.items():
        print(f"| {what} | {size:.1f} | {separate[what]:.1f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    # So that the server is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        compare_rates(options.rounds, options.seconds)
        compare_memory()
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
