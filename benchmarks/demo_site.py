"""The demo as a load finds it: a database of its own, a crowd, and a server."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError, Server
from benchmarks.transfers import free_port

PREPARE_TIMEOUT = 120.0


@dataclass(frozen=True)
class Person:
    """Somebody with a session, and the room that they are in."""

    user: str
    session: str
    room: str


@dataclass(frozen=True)
class Site:
    """A running demo, and the crowd that may connect to it."""

    server: Server
    crowd: list[Person]
    redis: Server | None = None

    def stop(self, deadline: float) -> float:
        """Ask the server to stop; return how many seconds that took.

        Raises BenchmarkError, with the server killed, where it takes too long.
        """
        started = time.perf_counter()
        self.server.process.send_signal(signal.SIGTERM)
        try:
            self.server.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"The server did not stop in {deadline:g} s") from None
        return time.perf_counter() - started


@dataclass(frozen=True)
class CPUTime:
    """CPU seconds of all that takes part; the load is this process."""

    server: float
    redis: float
    load: float

    @classmethod
    def now(cls, site: Site) -> CPUTime:
        redis = site.redis.cpu_seconds() if site.redis else 0.0
        return cls(site.server.cpu_seconds(), redis, time.process_time())

    def since(self, before: CPUTime) -> CPUTime:
        return CPUTime(
            self.server - before.server,
            self.redis - before.redis,
            self.load - before.load,
        )

    def line(self, messages: int) -> str:
        server, redis, load = (
            f"{seconds / messages * 1000:.2f}"
            for seconds in (self.server, self.redis, self.load)
        )
        return (
            f"CPU         {server} ms a message, of Redis {redis} ms, of this load "
            f"{load} ms"
        )


@contextlib.contextmanager
def open_site(users: int, rooms: int, workers: int, redis: bool) -> Iterator[Site]:
    """Prepare the demo and serve it; nothing of it is left afterwards."""
    with contextlib.ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = {
            "DEBUG": "0",
            "DEMO_PLAIN_HTTP": "1",
            "SECRET_KEY": secrets.token_hex(30),
            "ALLOWED_HOSTS": "127.0.0.1",
            "DEMO_DATA_DIR": str(data),
        }
        store = stack.enter_context(_redis(data)) if redis else None
        if store is not None:
            environ["REDIS_URL"] = f"redis://127.0.0.1:{store.port}/0"
        _manage(environ, "migrate", "--verbosity=0")
        crowd = _manage(
            environ, "demo_crowd", f"--users={users}", f"--rooms={rooms}", "--force"
        )
        people = [Person(**json.loads(line)) for line in crowd.splitlines()]
        server = stack.enter_context(_serve(environ, data, workers))
        server.wait_until_it_answers("/accounts/login/")
        yield Site(server, people, store)


def _manage(environ: dict[str, str], *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *args],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=PREPARE_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"manage.py {args[0]}: {done.stderr.strip()[-400:]}")
    return done.stdout


@contextlib.contextmanager
def _serve(environ: dict[str, str], data: Path, workers: int) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "manage.py", "runasgi", f"127.0.0.1:{port}"]
    command += ["--workers", str(workers)]
    log = data / "server.log"
    with _process(command, log, environ) as process:
        yield Server(process, port, False, log)


@contextlib.contextmanager
def _redis(data: Path) -> Iterator[Server]:
    """Run a Redis that keeps nothing."""
    port = free_port()
    options = {"--port": str(port), "--bind": "127.0.0.1", "--save": ""}
    command = ["redis-server", *(word for pair in options.items() for word in pair)]
    log = data / "redis.log"
    try:
        with _process(command, log, {}, cwd=data) as process:
            yield Server(process, port, False, log)
    except FileNotFoundError:
        raise BenchmarkError("redis-server is not installed") from None


@contextlib.contextmanager
def _process(
    command: list[str], log: Path, environ: dict[str, str], cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that leads a group of its own; all of that ends with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
