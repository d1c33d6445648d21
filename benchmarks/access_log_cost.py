"""What an access log takes of a hello: ``python -m benchmarks.access_log_cost``.

Servers without a log and with one share a core and are loaded at the same time, so that
other work on the machine meets both alike; what counts is the CPU time of a request.
For the scenario of this name both are started several times.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import loads, processes
from benchmarks.measures import HELLO, Conditions, started
from benchmarks.model import Sample
from benchmarks.processes import Server
from benchmarks.servers import cores

LOGGED = replace(HELLO, access_log=Path("-"))
PAIRS = 15
# One process is quicker than another by some per cent for as long as it lives.
STARTS = 4


@dataclass(frozen=True, slots=True)
class Second:
    """A second under load: the server's CPU time for a request, and its rate."""

    cost: float
    """In microseconds."""
    rate: float


@dataclass(frozen=True, slots=True)
class Share:
    """What part the log took, in per cent, by the pairs of seconds."""

    median: float
    lower: float
    upper: float
    """The quartiles."""

    def __str__(self) -> str:
        return f"{self.median:.1f} % ({self.lower:.1f} to {self.upper:.1f})"


def measure_access_log(server: str, conditions: Conditions) -> Sample:
    """Return the share of the throughput, in per cent, that a log in a file takes.

    Throughput is that of a whole second of CPU.
    """
    plain: list[Second] = []
    logged: list[Second] = []
    for _ in range(STARTS):
        with (
            started(server, HELLO, conditions) as without,
            started(server, LOGGED, conditions) as with_log,
        ):
            seconds = load_together(
                [without, with_log], conditions.seconds, conditions.load_core
            )
        plain += seconds[0]
        logged += seconds[1]
    return Sample(share_of_cpu(plain, logged).median)


def load_together(
    servers: Sequence[Server], count: int, core: int
) -> list[list[Second]]:
    """Load all servers at once, for ``count`` times a second, who is first by turns.

    A second before is not counted.
    """
    seconds: list[list[Second]] = [[] for _ in servers]
    for number in range(-1, count):
        order = [*range(len(servers))][:: -1 if number % 2 else 1]
        measured = load_for_a_second([servers[index] for index in order], core)
        if number >= 0:
            for index, second in zip(order, measured, strict=True):
                seconds[index].append(second)
    return seconds


def load_for_a_second(servers: Sequence[Server], core: int) -> list[Second]:
    before = [cpu_seconds(server.pids()) for server in servers]
    rates = loads.wrk_together([server.url + "/" for server in servers], 1, core)
    used = [
        cpu_seconds(server.pids()) - start
        for server, start in zip(servers, before, strict=True)
    ]
    return [
        Second(cost / rate * 1e6, rate) for cost, rate in zip(used, rates, strict=True)
    ]


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time of processes, to the nanosecond (Linux).

    The ticks that are counted elsewhere are a hundredth of a second long.
    """
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def share_of_cpu(plain: Sequence[Second], logged: Sequence[Second]) -> Share:
    """Return what part of the throughput of a second of CPU the log took."""
    pairs = zip(plain, logged, strict=True)
    return _summarise([1 - one.cost / other.cost for one, other in pairs])


def share_of_rate(plain: Sequence[Second], logged: Sequence[Second]) -> Share:
    """Return what part of the throughput itself the log took."""
    pairs = zip(plain, logged, strict=True)
    return _summarise([1 - other.rate / one.rate for one, other in pairs])


def _summarise(shares: Sequence[float]) -> Share:
    if len(shares) < 2:
        return Share(*(100 * shares[0],) * 3)
    lower, median, upper = statistics.quantiles(shares, n=4, method="inclusive")
    return Share(100 * median, 100 * lower, 100 * upper)


@contextmanager
def fifo(path: Path, core: int) -> Iterator[Path]:
    """Make a named pipe and read what is written to it, to throw it away."""
    os.mkfifo(path)
    reader = processes.start(
        ["cat", str(path)], core, stdin=subprocess.DEVNULL, output=subprocess.DEVNULL
    )
    try:
        yield path
    finally:
        processes.end(reader)


def compare(pairs: int, conditions: Conditions) -> str:
    """Measure a log in a file and one into a pipe; return the table."""
    with ExitStack() as stack:
        pipe = stack.enter_context(
            fifo(conditions.folder / "pipe", conditions.load_core)
        )
        launches = (HELLO, LOGGED, replace(HELLO, access_log=pipe))
        servers = [
            stack.enter_context(started("djserve", launch, conditions))
            for launch in launches
        ]
        plain, *rest = load_together(servers, pairs, conditions.load_core)
    return render(plain, dict(zip(("file", "pipe"), rest, strict=True)))


def render(plain: Sequence[Second], logged: dict[str, Sequence[Second]]) -> str:
    """Return the shares by destination: medians with their quartiles."""
    lines = [
        "| log | CPU of a request | share of CPU | share of the rate |",
        "| --- | ---: | ---: | ---: |",
        f"| none | {_median_cost(plain):.2f} µs | | |",
    ]
    for name, seconds in logged.items():
        shares = f"{share_of_cpu(plain, seconds)} | {share_of_rate(plain, seconds)}"
        lines.append(f"| {name} | {_median_cost(seconds):.2f} µs | {shares} |")
    return "\n".join(lines)


def _median_cost(seconds: Sequence[Second]) -> float:
    return statistics.median(second.cost for second in seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pairs", type=int, default=PAIRS, help="seconds of load for each server"
    )
    options = parser.parse_args()
    server_core, load_core = cores()
    with tempfile.TemporaryDirectory(prefix="djserve-bench-") as name:
        folder = Path(name)
        conditions = Conditions(
            seconds=1,
            server_core=server_core,
            load_core=load_core,
            folder=folder,
            certificate=folder,
            key=folder,
        )
        print(compare(options.pairs, conditions))


if __name__ == "__main__":
    main()
