"""How each kind of figure is measured: a contender is started, loaded and ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import loads, masking, transfers
from benchmarks.model import Sample
from benchmarks.processes import BenchmarkError, Load, Server, run, serving
from benchmarks.servers import (
    COMMANDS,
    WSGI_IN_PROCESS,
    Launch,
    database_environ,
    module,
)

MIB = 1024 * 1024

HELLO = Launch(application="benchmarks.apps:hello")
ECHO = Launch(application="benchmarks.apps:echo")
BROADCAST = Launch(application="benchmarks.apps:broadcast")
EVENTS = Launch(application="benchmarks.apps:events")
TRANSFER = Launch(application="benchmarks.apps:transfer")
DJANGO = Launch(application="benchmarks.project.asgi:application", django="yes")
CHANNELS = replace(DJANGO, application="benchmarks.project.channels:application")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How a run measures, the same for all contenders."""

    seconds: int
    server_core: int
    load_core: int
    folder: Path
    certificate: Path
    key: Path
    fanout_connections: int = 1000
    idle_connections: int = 10_000
    transfer_size: int = 512 * MIB
    memory_transfer_size: int = 1024 * MIB
    observe: Callable[[Server], AbstractContextManager[object]] = nullcontext
    """Entered while a server is under load; it may look on."""


@contextmanager
def started(
    server: str, launch: Launch, conditions: Conditions, path: str = "/"
) -> Iterator[Server]:
    """Start a server on a free port; go on once it answers the path with 200."""
    launch = _complete(launch, conditions)
    command = COMMANDS[server](launch)
    with serving(
        command,
        launch.port,
        conditions.server_core,
        environ={**launch.environ, **database_environ(server)},
        is_tls=launch.certificate is not None,
    ) as running:
        running.wait_until_it_answers(path)
        yield running


def _complete(launch: Launch, conditions: Conditions) -> Launch:
    """Fill in what only a run knows: port, database, log file."""
    changes: dict[str, object] = {"port": transfers.free_port()}
    if launch.django:
        changes["django"] = str(conditions.folder)
    if launch.certificate:
        changes |= {"certificate": conditions.certificate, "key": conditions.key}
    if launch.access_log and not launch.access_log.is_absolute():
        changes["access_log"] = conditions.folder / "access.log"
    return replace(launch, **changes)  # type: ignore[arg-type] # by their names


def with_tls(launch: Launch, *, http2: bool = False) -> Launch:
    """Ask for TLS; the paths are the run's."""
    return replace(launch, certificate=Path("-"), key=Path("-"), http2=http2)


def measure_http(
    server: str,
    conditions: Conditions,
    *,
    launch: Launch = HELLO,
    path: str = "/",
    close: bool = False,
    idle: int = 0,
) -> Sample:
    if server == WSGI_IN_PROCESS:
        return measure_wsgi(path, conditions, launch)
    with started(server, launch, conditions, path) as running:
        load = partial(loads.wrk, running.url + path, core=conditions.load_core)
        load(1, close=close)
        if not idle:
            return _sample(
                conditions, running, lambda begin: load(conditions.seconds, close=close)
            )
        with loads.idle_connections("http", running.port, idle, conditions.load_core):
            return _sample(conditions, running, lambda begin: load(conditions.seconds))


def measure_wsgi(path: str, conditions: Conditions, launch: Launch) -> Sample:
    launch = _complete(launch, conditions)
    command = ["env", *(f"{key}={value}" for key, value in launch.environ.items())]
    command += module("benchmarks.wsgi_bound", "--path", path)
    command += ["--seconds", str(conditions.seconds)]
    return Sample(
        float(run(command, conditions.server_core, conditions.seconds + 30).split()[-1])
    )


def measure_http2(
    server: str, conditions: Conditions, *, launch: Launch = HELLO, path: str = "/"
) -> Sample:
    with started(server, with_tls(launch, http2=True), conditions, path) as running:
        transfers.wait_until_steady(running.memory)
        return _sample(
            conditions,
            running,
            lambda begin: loads.h2load(
                running.url + path, conditions.seconds, conditions.load_core
            ),
        )


def measure_load(
    server: str, conditions: Conditions, *, launch: Launch, name: str, options: str
) -> Sample:
    """Measure with one of this package's own loads."""
    path = "/sync/" if launch.django else "/"
    words = options.format(fanout=conditions.fanout_connections).split()
    with started(server, launch, conditions, path) as running:
        transfers.wait_until_steady(running.memory)
        words += ["--port", str(running.port)]
        return _sample(
            conditions,
            running,
            lambda begin: loads.python_load(
                name, begin, conditions.load_core, conditions.seconds, *words
            ),
        )


def _sample(conditions: Conditions, running: Server, load: Load) -> Sample:
    with conditions.observe(running):
        value, busy = running.busy_during(load)
    if running.process.poll() is not None:
        raise BenchmarkError(f"the server ended: {running.output.strip()[-300:]}")
    return Sample(value, busy)


def measure_upload(server: str, conditions: Conditions) -> Sample:
    return _measure_transfer(server, conditions, transfers.upload)


def measure_download(server: str, conditions: Conditions) -> Sample:
    return _measure_transfer(server, conditions, transfers.download)


def _measure_transfer(
    server: str, conditions: Conditions, transfer: Callable[[int, int], float]
) -> Sample:
    """Return the MiB per second of one transfer, after a small one."""
    size = conditions.transfer_size
    with started(server, TRANSFER, conditions) as running:
        transfer(running.port, 8 * MIB)
        transfers.wait_until_steady(running.memory)
        return _sample(
            conditions,
            running,
            lambda begin: size / MIB / transfer(running.port, size),
        )


def measure_upload_memory(server: str, conditions: Conditions) -> Sample:
    """Return by how many MiB memory grows while the application reads slowly."""
    with started(server, TRANSFER, conditions) as running:
        transfers.upload(running.port, 8 * MIB)
        transfers.wait_until_steady(running.memory)
        with transfers.PeakMeter(running.memory) as meter:
            transfers.upload(running.port, conditions.memory_transfer_size, "/slow")
    return Sample(meter.growth / MIB)


def measure_download_memory(server: str, conditions: Conditions) -> Sample:
    """Return by how many MiB memory grows while the client reads slowly."""
    size = conditions.memory_transfer_size
    with started(server, TRANSFER, conditions) as running:
        transfers.download(running.port, 8 * MIB)
        transfers.wait_until_steady(running.memory)
        with transfers.PeakMeter(running.memory) as meter:
            transfers.download(running.port, size, pause=0.001)
    return Sample(meter.growth / MIB)


def measure_idle_memory(
    server: str, conditions: Conditions, *, kind: str, launch: Launch
) -> Sample:
    """Return the KiB of memory that a connection takes."""
    count, core = conditions.idle_connections, conditions.load_core
    # The first connections pay for what all share, and stay, so that none of the others
    # gets memory that they have given back.
    with (
        started(server, launch, conditions) as running,
        loads.idle_connections(kind, running.port, 100, core),
    ):
        transfers.wait_until_steady(running.memory)
        before = running.memory()
        after = _memory_with(count, kind, running, core)
    return Sample((after - before) / count / 1024)


def _memory_with(count: int, kind: str, running: Server, core: int) -> int:
    with loads.idle_connections(kind, running.port, count, core):
        # What the last of them still has under way.
        time.sleep(0.5)
        return running.memory()


def measure_start(
    server: str, conditions: Conditions, *, launch: Launch = HELLO, path: str = "/"
) -> Sample:
    """Return the milliseconds from the command to the first answer.

    Of the second start: the first one compiles modules.
    """
    with started(server, launch, conditions, path):
        pass
    begun = time.perf_counter()
    with started(server, launch, conditions, path):
        return Sample((time.perf_counter() - begun) * 1000)


def measure_masking(method: str, conditions: Conditions, *, size: int) -> Sample:
    return Sample(masking.measure(method, size))
