"""The load tools, run on the load's core, and the one figure in what they print."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import postgresql, processes
from benchmarks.processes import BenchmarkError

PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client", "initdb": "postgresql"}
TOLERATED_ERRORS = 0.001
H2_CONNECTIONS, H2_STREAMS = 8, 16


def require_tools(users: Mapping[str, Sequence[str]]) -> None:
    """Raise BenchmarkError if tools are missing; ``users`` are the scenarios of each.

    This is for before a run, of which a part would fail.
    """
    lines = []
    for tool, (first, *others) in users.items():
        if postgresql.find_program(tool) is None:
            more = f" and {len(others)} more" if others else ""
            lines.append(
                f"{tool} is missing: apt-get install {PACKAGES[tool]}"
                f" (wanted by {first}{more})"
            )
    if lines:
        raise BenchmarkError("\n".join(lines))


def require_tool(name: str) -> str:
    """Return a tool's path; raises BenchmarkError that says how to get it."""
    path = shutil.which(name)
    if path is None:
        package = PACKAGES[name]
        raise BenchmarkError(f"{name} is missing: apt-get install {package}")
    return path


def wrk(
    url: str, seconds: int, core: int, *, connections: int = 32, close: bool = False
) -> float:
    """Return requests a second; ``close`` asks for a new connection each time."""
    command = _wrk_command(url, seconds, connections)
    if close:
        command += ["-H", "Connection: close"]
    return parse_wrk(processes.run(command, core, seconds + 30))


def wrk_together(urls: Sequence[str], seconds: int, core: int) -> list[float]:
    """Load several servers at the same time; return the requests a second of each."""
    running = [
        processes.start(_wrk_command(url, seconds, 32), core, output=subprocess.PIPE)
        for url in urls
    ]
    return [
        parse_wrk(processes.finish(process, "wrk", seconds + 30)) for process in running
    ]


def wrk_script(url: str, seconds: int, core: int, script: Path) -> tuple[float, float]:
    """Make a script's requests; return requests a second, and the 99th percentile, ms.

    Each of 32 connections makes its next request when it has an answer.
    """
    command = [*_wrk_command(url, seconds, 32), "--latency", "-s", str(script)]
    output = processes.run(command, core, seconds + 30)
    return parse_wrk(output), parse_percentile(output)


def parse_percentile(output: str) -> float:
    """Return the 99th percentile that wrk printed, in milliseconds."""
    found = re.search(r"^\s+99%\s+([\d.]+)(us|ms|s) *$", output, re.MULTILINE)
    if not found:
        raise BenchmarkError(f"wrk printed no percentile: {output[-200:]!r}")
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def _wrk_command(url: str, seconds: int, connections: int) -> list[str]:
    command = [require_tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s"]
    # An answer that takes longer than wrk's two seconds is late, not wrong.
    return [*command, "--timeout", "30s", url]


def parse_wrk(output: str) -> float:
    """Return requests a second; raises BenchmarkError where requests failed."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    total = re.search(r"(\d+) requests in", output)
    if not rate or not total or not int(total[1]):
        raise BenchmarkError(f"wrk made no request: {output[-200:]!r}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    if refused:
        raise BenchmarkError(f"{refused[1]} of {total[1]} responses were errors")
    socket_errors = re.search(r"Socket errors: (.+)", output)
    if socket_errors:
        count = sum(int(number) for number in re.findall(r"\d+", socket_errors[1]))
        if count > max(1, int(total[1]) * TOLERATED_ERRORS):
            raise BenchmarkError(f"wrk had socket errors: {socket_errors[1]}")
    return float(rate[1])


def h2load(url: str, seconds: int, core: int) -> float:
    """Return requests a second over 8 connections with 16 streams each."""
    command = [require_tool("h2load"), f"-c{H2_CONNECTIONS}", f"-m{H2_STREAMS}"]
    command += ["-t1", f"-D{seconds}"]
    return parse_h2load(
        processes.run([*command, "--warm-up-time=1", url], core, seconds + 30)
    )


def parse_h2load(output: str) -> float:
    """Return requests a second; raises BenchmarkError unless all went over HTTP/2."""
    if "Application protocol: h2" not in output:
        raise BenchmarkError("the server did not choose HTTP/2")
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", output)
    codes = re.search(
        r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output
    )
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", output)
    if not rate or not codes or not failed:
        raise BenchmarkError(f"h2load printed {output[-200:]!r}")
    if not float(rate[1]):
        raise BenchmarkError("no request was answered")
    # When its time is over h2load closes the connections, and counts as failed what
    # some servers still have under way there. The errored ones are among the failed.
    cut_off = H2_CONNECTIONS * H2_STREAMS
    bad = sum(map(int, codes.groups()[1:])) + max(0, int(failed[1]) - cut_off)
    if bad > int(codes[1]) * TOLERATED_ERRORS:
        raise BenchmarkError(f"{bad} requests failed, {codes[1]} did not")
    return float(rate[1])


def python_load(
    name: str, begin: Callable[[], None], core: int, seconds: float, *options: str
) -> float:
    """Run one of the loads of this package; return the figure it prints last."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--seconds", str(seconds)]
    process = processes.start([*command, *options], core, output=subprocess.PIPE)
    try:
        _wait_for_word(process, b"open")
        begin()
        output = _read_rest(process).strip()
    finally:
        processes.end(process)
    try:
        rate = float(output)
    except ValueError:
        raise BenchmarkError(f"{name} printed {output[-200:]!r}") from None
    if rate <= 0:
        raise BenchmarkError(f"{name}: nothing came back")
    return rate


@contextlib.contextmanager
def idle_connections(kind: str, port: int, count: int, core: int) -> Iterator[None]:
    """Hold connections open during the block."""
    command = [sys.executable, "-m", "benchmarks.connections", "--kind", kind]
    command += ["--port", str(port), "--count", str(count)]
    process = processes.start(
        command, core, stdin=subprocess.PIPE, output=subprocess.PIPE
    )
    try:
        _wait_for_word(process, b"open")
        yield
        if process.poll() is not None:
            raise BenchmarkError("the idle connections did not stay open")
    finally:
        processes.end(process)


def _wait_for_word(process: subprocess.Popen[bytes], word: bytes) -> None:
    """Return when a load says that its connections are open; it gives up by itself."""
    assert process.stdout
    line = process.stdout.readline()
    if not line.startswith(word):
        text = line.decode(errors="replace") + _read_rest(process)
        raise BenchmarkError(f"connections failed: {text.strip()[-300:]}")


def _read_rest(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout
    return process.stdout.read().decode(errors="replace")
