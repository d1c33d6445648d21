"""Servers and loads as processes: each on its core, each ended by whoever started it.

Each process leads a group of its own, so that the workers it forks are measured and
ended with it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn, TypeAlias

ROOT = Path(__file__).resolve().parent.parent
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
START_TIMEOUT = 120.0

Load: TypeAlias = Callable[[Callable[[], None]], float]
"""Puts a load on a server and returns its figure; calls its argument to begin."""

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Control-C, the end of the session, and that of the terminal."""

_running: list[subprocess.Popen[bytes]] = []
_interrupts: list[int] = []


class BenchmarkError(Exception):
    """A measurement that cannot be made, or must not be believed."""


def start(
    command: list[str],
    core: int,
    *,
    environ: Mapping[str, str] | None = None,
    output: int | None = subprocess.DEVNULL,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a process on one core; ``end`` or ``end_all`` must follow."""
    # Else each start would compile the modules of what is installed in place, which pip
    # has done for all others.
    own = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **own, **(environ or {})},
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    _running.append(process)
    if _interrupts:
        raise KeyboardInterrupt
    return process


def interrupt(number: int, frame: object) -> NoReturn:
    """End the run, as the handler of a signal; further ones must not end the ending.

    Where it comes amid a fork Python drops the exception, since it calls the hooks of
    forks there: ``start`` raises it then.
    """
    _interrupts.append(number)
    for each in INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and those that it has started: nothing of theirs is to be kept."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()
    if process in _running:
        _running.remove(process)


def end_all() -> None:
    for process in [*_running]:
        end(process)


def run(command: list[str], core: int, timeout: float) -> str:
    """Run a load to its end and return what it printed."""
    return finish(start(command, core, output=subprocess.PIPE), command[0], timeout)


def finish(process: subprocess.Popen[bytes], name: str, timeout: float) -> str:
    """Wait for a load's end and return what it printed into its pipe."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{name} did not end in {timeout:.0f} s") from None
    finally:
        end(process)
    text = output.decode(errors="replace")
    if process.returncode:
        raise BenchmarkError(f"{Path(name).name} failed: {text.strip()[-300:]}")
    return text


class Server:
    """A server that runs: its port, its processes, what they use."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, is_tls: bool, log: Path
    ) -> None:
        self.process = process
        self.port = port
        self._is_tls = is_tls
        self._log = log

    @property
    def url(self) -> str:
        return f"{'https' if self._is_tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_it_answers(self, path: str) -> None:
        """Return once a request gets 200; raises BenchmarkError if none does."""
        deadline = time.monotonic() + START_TIMEOUT
        status: int | None = None
        while status != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                lines = self.output.strip()[-400:]
                raise BenchmarkError(f"no answer (last status {status}): {lines}")
            status = self._ask(path)
            if status is None:
                time.sleep(0.005)

    def _ask(self, path: str) -> int | None:
        connection: http.client.HTTPConnection
        if self._is_tls:
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=5, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def pids(self) -> list[int]:
        """Return the ids of the server's process and of its workers."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _group_of(entry) == self.process.pid
        ]

    def memory(self) -> int:
        """Return the resident bytes of all its processes."""
        return sum(resident_size(pid) for pid in self.pids())

    def cpu_seconds(self) -> float:
        return sum(_cpu_ticks(pid) for pid in self.pids()) / CLOCK_TICKS

    def busy_during(self, load: Load) -> tuple[float, float]:
        """Run a load; return its figure and the share of a core that was used.

        The load is given what it must call when it begins to count.
        """
        marks = [(time.perf_counter(), self.cpu_seconds())]
        value = load(lambda: marks.append((time.perf_counter(), self.cpu_seconds())))
        used = self.cpu_seconds() - marks[-1][1]
        return value, used / (time.perf_counter() - marks[-1][0])


@contextlib.contextmanager
def serving(
    command: list[str],
    port: int,
    core: int,
    *,
    environ: Mapping[str, str],
    is_tls: bool,
) -> Iterator[Server]:
    """Start a server, not yet asked whether it answers; end it with the block."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "server.log")
        with log.open("wb") as output:
            process = start(command, core, environ=environ, output=output.fileno())
        try:
            yield Server(process, port, is_tls, log)
        finally:
            end(process)


def resident_size(pid: int) -> int:
    """Return a process's resident memory in bytes, 0 once it has ended (Linux)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(sizes[0]) * 1024 if sizes else 0


def _stat(entry: Path) -> list[str]:
    # proc(5): the second field, a name in parentheses, may hold anything.
    return (entry / "stat").read_text().rpartition(")")[2].split()


def _group_of(entry: Path) -> int | None:
    try:
        return int(_stat(entry)[2])
    except OSError:
        return None


def _cpu_ticks(pid: int) -> int:
    try:
        fields = _stat(Path("/proc", str(pid)))
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])
