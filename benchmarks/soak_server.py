"""The server of a soak: workers under a supervisor, known by what its log says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.certificates import write_certificate
from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.soak_tally import Target
from benchmarks.transfers import free_port

PATIENCE = 120.0
"""Seconds until a log line that does not come ends the soak."""

_READY = re.compile(r"\(process (\d+)\) is ready")


class SoakServer:
    """A running ``runasgi``: its port, its log, its workers."""

    def __init__(
        self, process: subprocess.Popen[bytes], target: Target, log: Path
    ) -> None:
        self.process = process
        self.target = target
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def ready_workers(self) -> list[int]:
        """The processes of all workers that were ever ready, oldest first."""
        return [int(pid) for pid in _READY.findall(self.output)]

    async def wait_for(self, text: str, count: int = 1) -> float:
        """Return how many seconds it took until the log has ``text`` so often."""
        started = time.monotonic()
        while self.output.count(text) < count:
            if self.process.poll() is not None:
                raise BenchmarkError(f"The server has ended:\n{self.output}")
            if time.monotonic() - started > PATIENCE:
                raise BenchmarkError(f"No {text!r} in the log:\n{self.output}")
            await asyncio.sleep(0.01)
        return time.monotonic() - started

    def pids(self) -> list[int]:
        """Return the processes: supervisor, loader, workers."""
        return _with_children(self.process.pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    def kill_worker(self, pid: int) -> set[int]:
        """End a worker by SIGKILL; return the ports of the clients that it served.

        It is stopped first, so that it can accept none between the look and the end.
        """
        os.kill(pid, signal.SIGSTOP)
        while not _is_stopped(pid):
            time.sleep(0.001)
        ports = client_ports(pid, self.target.port)
        os.kill(pid, signal.SIGKILL)
        return ports

    def stop(self) -> int:
        """Ask for the end, and return the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"It does not stop:\n{self.output}") from None


@contextlib.contextmanager
def serve(options: list[str], *, tls: bool, workers: int = 2) -> Iterator[SoakServer]:
    """Start a server, not awaited, and end it with the block."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port = free_port()
        words = ["-m", "django", "runasgi", f"127.0.0.1:{port}"]
        words += ["--supervisor", "on", "--workers", str(workers)]
        certificate = None
        if tls:
            certificate, key = write_certificate(folder)
            words += ["--certfile", str(certificate), "--keyfile", str(key)]
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "benchmarks.soak_settings",
            "BENCH_FOLDER": name,
        }
        prepare = [sys.executable, "-m", "benchmarks.project.prepare"]
        subprocess.run(prepare, cwd=ROOT, env=environ, check=True)
        log = folder / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *words, *options],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield SoakServer(process, Target(port, certificate), log)
        finally:
            # The workers see their supervisor's end, and follow.
            process.kill()
            process.wait()


def client_ports(pid: int, server_port: int) -> set[int]:
    """Return the ports of the clients whose connections a process holds (Linux)."""
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(os.readlink(entry))
    ports = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(field.rpartition(":")[2], 16) for field in fields[1:3])
        if local == server_port and f"socket:[{fields[9]}]" in held:
            ports.add(remote)
    return ports - {0}


def _with_children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [
        pid,
        *(each for child in text.split() for each in _with_children(int(child))),
    ]


def _is_stopped(pid: int) -> bool:
    text = Path(f"/proc/{pid}/stat").read_text()
    return text.rpartition(")")[2].split()[0] == "T"
