"""Run scenarios round by round, so that a machine's drift meets all alike."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.certificates import write_certificate
from benchmarks.measures import Conditions
from benchmarks.model import Cell, Results, Row, Sample
from benchmarks.processes import BenchmarkError, run
from benchmarks.profiles import Profile
from benchmarks.rounds import expected_count, wants_another
from benchmarks.scenarios import Scenario, seconds_of
from benchmarks.servers import Unsupported, cores, module

PACKAGES = (
    *("djserve", "daphne", "uvicorn", "hypercorn", "granian", "gunicorn"),
    *("asgiref", "autobahn", "channels", "django", "h2", "httptools", "twisted"),
    *("uvloop", "websockets", "zttp"),
)

Say = Callable[[str], None]


class Progress:
    """Say where the run is: one line for each measurement.

    Times are those that the scenarios are expected to take, so that long measurements
    at the beginning do not look like a slow machine.
    """

    def __init__(self, count: int, seconds: float, say: Say) -> None:
        self._count = count
        self._seconds = seconds
        self._done = 0
        self._done_seconds = 0.0
        self._say = say
        self._started = time.monotonic()

    def is_late(self, minutes: float | None) -> bool:
        """Whether all would not be done in this time, at the pace so far."""
        if minutes is None or not self._done:
            return False
        return self._elapsed() + self._left() > minutes * 60

    def leave_out(self, count: int, seconds: float) -> None:
        """Expect so many measurements less; more, if ``count`` is negative."""
        self._count -= count
        self._seconds -= count * seconds

    def note(self, row: Row, contender: str, outcome: str, seconds: float) -> None:
        self._done += 1
        self._done_seconds += seconds
        self._say(
            f"[{self._done:4}/{self._count}, {self._left() / 60:4.1f} min left] "
            f"{row.name:20} {contender:16} {outcome}"
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _left(self) -> float:
        pace = self._elapsed() / self._done_seconds
        return pace * (self._seconds - self._done_seconds)


@contextlib.contextmanager
def conditions_for(profile: Profile, seconds: int) -> Iterator[Conditions]:
    """Prepare what measurements share: cores, certificate, database."""
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    with tempfile.TemporaryDirectory(prefix="djserve-bench-") as folder:
        certificate, key = write_certificate(Path(folder))
        environ = ["env", f"BENCH_FOLDER={folder}"]
        environ.append("DJANGO_SETTINGS_MODULE=benchmarks.project.settings")
        run([*environ, *module("benchmarks.project.prepare")], load_core, 60)
        yield Conditions(
            seconds=seconds,
            server_core=server_core,
            load_core=load_core,
            folder=Path(folder),
            certificate=certificate,
            key=key,
            fanout_connections=profile.fanout_connections,
            idle_connections=profile.idle_connections,
            transfer_size=profile.transfer_size,
            memory_transfer_size=profile.memory_transfer_size,
        )


def run_scenarios(
    scenarios: list[Scenario],
    servers: tuple[str, ...],
    rounds: Callable[[Scenario], int],
    conditions: Conditions,
    results: Results,
    say: Say,
    minutes: float | None = None,
) -> Iterator[Row]:
    """Measure each scenario in turn; yield its row, which is in ``results`` by then."""
    plans = [(scenario, contenders(scenario, servers)) for scenario in scenarios]
    total, minutes_in_all = estimate(scenarios, servers, rounds, conditions.seconds)
    progress = Progress(total, minutes_in_all * 60, say)
    for scenario, names in plans:
        row = new_row(scenario, names)
        count, seconds = rounds(scenario), seconds_of(scenario, conditions.seconds)
        expected = _expected(scenario, names, count)
        if count > 1 and progress.is_late(minutes):
            count = 1
        made = 0
        for number in range(count):
            for contender in _in_turn(scenario, names, row, number):
                outcome = measure_once(scenario, contender, conditions, row)
                progress.note(row, contender, outcome, seconds)
                made += 1
        progress.leave_out(expected - made, seconds)
        results.rows.append(row)
        yield row


def _in_turn(scenario: Scenario, names: list[str], row: Row, number: int) -> list[str]:
    """Return whom the round with this number measures, in this order.

    Nobody always goes first, when the machine may still be busy with ending the one
    before.
    """
    start = number % len(names) if names else 0
    order = names[start:] + names[:start]
    if scenario.is_whole or not number:
        return order
    return [name for name in order if wants_another(row, name)]


def _expected(scenario: Scenario, names: list[str], count: int) -> int:
    return expected_count(len(names), count, is_whole=scenario.is_whole)


def estimate(
    scenarios: list[Scenario],
    servers: tuple[str, ...],
    rounds: Callable[[Scenario], int],
    seconds: int,
) -> tuple[int, float]:
    """Return about how many measurements these make, and how many minutes."""
    counts = [
        _expected(each, contenders(each, servers), rounds(each)) for each in scenarios
    ]
    times = (seconds_of(each, seconds) for each in scenarios)
    total = sum(count * time for count, time in zip(counts, times, strict=True))
    return sum(counts), total / 60


def contenders(scenario: Scenario, servers: tuple[str, ...]) -> list[str]:
    """Return the scenario's contenders that are wanted; all if none is named."""
    return [name for name in scenario.contenders if not servers or name in servers]


def new_row(scenario: Scenario, names: list[str]) -> Row:
    return Row(
        name=scenario.name,
        title=scenario.title,
        group=scenario.group,
        unit=scenario.unit,
        less_is_better=scenario.less_is_better,
        cells={name: Cell() for name in names},
    )


def measure_once(
    scenario: Scenario, contender: str, conditions: Conditions, row: Row
) -> str:
    """Add one measurement to the row, or the reason why there is none; say which."""
    cell = row.cells[contender]
    if cell.is_hopeless:
        return f"left out: {cell.problem.splitlines()[-1][:60]}"
    try:
        sample: Sample = scenario.measure(contender, conditions)
    except Unsupported as error:
        cell.fail(str(error))
        return f"- {error}"
    except (BenchmarkError, OSError) as error:
        cell.fail(tidy(str(error), conditions.folder))
        return f"FAILED: {cell.problem}"
    cell.add(sample)
    return f"{sample.value:12,.1f} {row.unit}{describe_busy(sample)}"


def tidy(problem: str, folder: Path) -> str:
    """Take the machine's own paths out of a message that goes into the results."""
    for path in (str(folder), str(Path.cwd()), sys.prefix, str(Path.home())):
        problem = problem.replace(path, "...")
    return problem


def describe_busy(sample: Sample) -> str:
    return "" if sample.busy is None else f"  (server core {sample.busy:.0%} busy)"


def describe_machine() -> dict[str, str]:
    """Return what one must know of the machine to read the figures."""
    return {
        "load": f"{os.getloadavg()[0]:.1f}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def describe_versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    if commit:
        versions["djserve"] = f"{versions.get('djserve', '')} ({commit})".strip()
    return versions
