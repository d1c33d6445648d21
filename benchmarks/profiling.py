"""Where djserve's time goes in a scenario: py-spy's samples of it as plain text."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from benchmarks import processes
from benchmarks.measures import Conditions
from benchmarks.model import Sample
from benchmarks.processes import BenchmarkError, Server
from benchmarks.runner import describe_machine, describe_versions
from benchmarks.scenarios import Scenario

LINES = 40

HOT_PATHS = (
    *("http1_hello", "http2_hello", "websocket_echo", "websocket_echo_16k"),
    *("channels_echo", "django_sync", "django_query", "django_async"),
    *("django_session", "http1_access_log"),
)
"""What is sampled where no scenario is named."""

_LIBRARY = re.compile(r"\(.*?(?:site-packages|lib/python[\d.]+)/")


def profile(scenario: Scenario, conditions: Conditions) -> str:
    """Measure djserve under py-spy; return the report."""
    recorder = Recorder(conditions)
    measured = scenario.measure("djserve", replace(conditions, observe=recorder.watch))
    return render(scenario, measured, recorder.stacks(), conditions.seconds)


class Recorder:
    """Samples a server while it is under load."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._file = conditions.folder / "stacks.txt"
        self._file.unlink(missing_ok=True)

    @contextmanager
    def watch(self, server: Server) -> Iterator[None]:
        """Sample the server during the block, which its load runs in."""
        command = [str(Path(sys.executable).parent / "py-spy"), "record"]
        command += ["--format", "raw", "--rate", "400", "--output", str(self._file)]
        command += ["--duration", str(self._conditions.seconds), "--nonblocking"]
        # Waiting threads would hide those that work.
        command += ["--gil"]
        command += ["--pid", str(server.process.pid)]
        process = processes.start(command, self._conditions.load_core)
        try:
            yield
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._conditions.seconds + 10)
        finally:
            processes.end(process)

    def stacks(self) -> Counter[tuple[str, ...]]:
        if not self._file.exists():
            raise BenchmarkError("py-spy recorded nothing: it may need ptrace")
        return parse_stacks(self._file.read_text("utf-8"))


def parse_stacks(text: str) -> Counter[tuple[str, ...]]:
    """Return how often each stack was seen, outermost frame first, paths shortened."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        if not frames:
            continue
        stacks[tuple(_LIBRARY.sub("(", frame) for frame in frames.split(";"))] += int(
            count
        )
    return stacks


def render(
    scenario: Scenario,
    measured: Sample,
    stacks: Counter[tuple[str, ...]],
    seconds: int,
) -> str:
    total, machine = stacks.total() or 1, describe_machine()
    own: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
        for frame in {without_line(frame) for frame in stack}:
            inclusive[frame] += count
    return "\n".join(
        [
            f"{scenario.name}: {scenario.title}",
            f"{machine['date']}, {machine['processor']}, {machine['python']}, djserve"
            f" {describe_versions().get('djserve', '')}, load average"
            f" {machine['load']};",
            f"{total} samples in {seconds} s, {measured.value:.0f} {scenario.unit}"
            " while being sampled;",
            "only what ran Python or held its lock is counted.",
            *("", "Time within the line itself, C code that it calls included:", ""),
            *table(own, total),
            *("", "Time within the function and all that it calls:", ""),
            *table(inclusive, total),
            "",
        ]
    )


def without_line(frame: str) -> str:
    return re.sub(r":\d+\)$", ")", frame)


def table(counts: Counter[str], total: int) -> list[str]:
    return [f"{n / total:6.1%}  {frame}" for frame, n in counts.most_common(LINES)]
