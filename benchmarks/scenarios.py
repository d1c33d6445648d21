"""What is measured: each scenario by its name, with the contenders that can do it."""

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
from benchmarks.servers import COMMANDS, RAW_ECHO, SERVERS, Launch, module

MIB = 1024 * 1024

HELLO = Launch(application="benchmarks.apps:hello")
ECHO = Launch(application="benchmarks.apps:echo")
BROADCAST = Launch(application="benchmarks.apps:broadcast")
EVENTS = Launch(application="benchmarks.apps:events")
TRANSFER = Launch(application="benchmarks.apps:transfer")
DJANGO = Launch(application="benchmarks.project.asgi:application", django="yes")
CHANNELS = replace(DJANGO, application="benchmarks.project.channels:application")

HTTP2_SERVERS = ("djserve", "daphne", "uvicorn", "hypercorn", "granian", "gunicorn")
WSGI_IN_PROCESS = "WSGI in-process"
SYNC_CONTENDERS = (*SERVERS, "gunicorn gthread", WSGI_IN_PROCESS)


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


Measure = Callable[[str, Conditions], Sample]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One thing to measure. ``measure`` starts the contender anew and ends it."""

    name: str
    title: str
    group: str
    unit: str
    measure: Measure
    contenders: tuple[str, ...] = SERVERS
    less_is_better: bool = False
    is_steady: bool = False
    """Whether rounds differ so little that one is enough for the quick profile."""


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
        environ=launch.environ,
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
    if launch.access_log:
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
        return measure_wsgi(path, conditions)
    with started(server, launch, conditions, path) as running:
        load = partial(loads.wrk, running.url + path, core=conditions.load_core)
        load(1, close=close)
        if not idle:
            return _sample(
                conditions, running, lambda begin: load(conditions.seconds, close=close)
            )
        with loads.idle_connections("http", running.port, idle, conditions.load_core):
            return _sample(conditions, running, lambda begin: load(conditions.seconds))


def measure_wsgi(path: str, conditions: Conditions) -> Sample:
    launch = _complete(DJANGO, conditions)
    command = ["env", *(f"{key}={value}" for key, value in launch.environ.items())]
    command += module("benchmarks.wsgi_bound", "--path", path)
    command += ["--seconds", str(conditions.seconds)]
    return Sample(
        float(run(command, conditions.server_core, conditions.seconds + 30).split()[-1])
    )


def measure_http2(server: str, conditions: Conditions) -> Sample:
    with started(server, with_tls(HELLO, http2=True), conditions) as running:
        return _sample(
            conditions,
            running,
            lambda begin: loads.h2load(
                running.url, conditions.seconds, conditions.load_core
            ),
        )


def measure_load(
    server: str, conditions: Conditions, *, launch: Launch, name: str, options: str
) -> Sample:
    """Measure with one of this package's own loads."""
    path = "/sync/" if launch.django else "/"
    words = options.format(fanout=conditions.fanout_connections).split()
    with started(server, launch, conditions, path) as running:
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
    size = conditions.transfer_size
    with started(server, TRANSFER, conditions) as running:
        transfers.upload(running.port, 8 * MIB)
        return _sample(
            conditions,
            running,
            lambda begin: size / MIB / transfers.upload(running.port, size),
        )


def measure_download(server: str, conditions: Conditions) -> Sample:
    size = conditions.transfer_size
    with started(server, TRANSFER, conditions) as running:
        transfers.download(running.port, 8 * MIB)
        return _sample(
            conditions,
            running,
            lambda begin: size / MIB / transfers.download(running.port, size),
        )


def measure_upload_memory(server: str, conditions: Conditions) -> Sample:
    """Return by how many MiB memory grows while the application reads slowly."""
    with started(server, TRANSFER, conditions) as running:
        transfers.upload(running.port, 8 * MIB)
        with transfers.PeakMeter(running.memory) as meter:
            transfers.upload(running.port, conditions.memory_transfer_size, "/slow")
    return Sample(meter.growth / MIB)


def measure_download_memory(server: str, conditions: Conditions) -> Sample:
    """Return by how many MiB memory grows while the client reads slowly."""
    size = conditions.memory_transfer_size
    with started(server, TRANSFER, conditions) as running:
        transfers.download(running.port, 8 * MIB)
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
    """Return the milliseconds from the command to the first answer."""
    begun = time.perf_counter()
    with started(server, launch, conditions, path):
        return Sample((time.perf_counter() - begun) * 1000)


def measure_masking(method: str, conditions: Conditions, *, size: int) -> Sample:
    return Sample(masking.measure(method, size))


def _http(name: str, title: str, **options: object) -> Scenario:
    return Scenario(
        name=name,
        title=title,
        group="HTTP/1.1",
        unit="requests/s",
        measure=partial(measure_http, **options),  # type: ignore[arg-type] # by name
    )


def _websocket(
    name: str, title: str, options: str, launch: Launch = ECHO, load: str = ""
) -> Scenario:
    return Scenario(
        name=name,
        title=title,
        group="WebSocket",
        unit="messages/s",
        measure=partial(
            measure_load, launch=launch, name=load or "websocket_load", options=options
        ),
        # What it answers only the plain echo's load takes for echoes.
        contenders=(*SERVERS, RAW_ECHO) if launch is ECHO else SERVERS,
    )


def _django(
    name: str, title: str, path: str, contenders: tuple[str, ...] = SYNC_CONTENDERS
) -> Scenario:
    return Scenario(
        name=name,
        title=title,
        group="Django",
        unit="requests/s",
        measure=partial(measure_http, launch=DJANGO, path=path),
        contenders=contenders,
    )


def _masking(size: int, title: str) -> Scenario:
    return Scenario(
        name=f"websocket_mask_{size}",
        title=f"Unmasking {title}, in-process",
        group="Unmasking",
        unit="ns",
        measure=partial(measure_masking, size=size),
        contenders=masking.METHODS,
        less_is_better=True,
        is_steady=True,
    )


SCENARIOS: tuple[Scenario, ...] = (
    _http("http1_hello", "Hello, 32 connections kept alive"),
    _http("http1_new", "Hello, a new connection for each request", close=True),
    _http("http1_tls", "Hello over TLS, kept alive", launch=with_tls(HELLO)),
    _http(
        "http1_tls_new",
        "Hello over TLS, a new connection each",
        launch=with_tls(HELLO),
        close=True,
    ),
    _http(
        "http1_access_log",
        "Hello with an access log in a file",
        launch=replace(HELLO, access_log=Path("-")),
    ),
    _http("http1_idle_1", "Hello beside 1 idle connection", idle=1),
    _http("http1_idle_1000", "Hello beside 1,000 idle connections", idle=1000),
    _http("http1_idle_10000", "Hello beside 10,000 idle connections", idle=10_000),
    Scenario(
        name="http2_hello",
        title="Hello over TLS, 8 connections with 16 streams",
        group="HTTP/2",
        unit="requests/s",
        measure=measure_http2,
        contenders=HTTP2_SERVERS,
    ),
    Scenario(
        name="download",
        title="Download, one connection",
        group="Transfers",
        unit="MiB/s",
        measure=measure_download,
    ),
    Scenario(
        name="upload",
        title="Upload, one connection",
        group="Transfers",
        unit="MiB/s",
        measure=measure_upload,
    ),
    Scenario(
        name="event_stream",
        title="Event stream, 1,000 clients",
        group="Transfers",
        unit="events/s",
        measure=partial(
            measure_load,
            launch=EVENTS,
            name="fanout_load",
            options="--kind events --connections {fanout}",
        ),
    ),
    _websocket("websocket_echo", "Echo of 64 bytes, 32 connections", "--size 64"),
    _websocket("websocket_echo_16k", "Echo of 16 KiB, 32 connections", "--size 16384"),
    _websocket(
        "websocket_pipelined",
        "Echo of 64 bytes, 16 on their way on each connection",
        "--size 64 --depth 16",
    ),
    _websocket(
        "websocket_broadcast",
        "Broadcast of 64 bytes to 1,000 connections",
        "--kind broadcast --connections {fanout}",
        BROADCAST,
        "fanout_load",
    ),
    _websocket(
        "channels_echo",
        "Echo of 64 bytes by a Channels consumer",
        "--size 64",
        CHANNELS,
    ),
    _django("django_sync", "Sync view", "/sync/"),
    _django("django_async", "Async view", "/async/", SERVERS),
    _django("django_query", "Sync view with a query", "/query/"),
    _django("django_session", "Sync view that writes the session", "/session/"),
    Scenario(
        name="memory_http",
        title="Memory of an idle HTTP connection",
        group="Memory",
        unit="KiB",
        measure=partial(measure_idle_memory, kind="http", launch=HELLO),
        less_is_better=True,
        is_steady=True,
    ),
    Scenario(
        name="memory_websocket",
        title="Memory of an idle WebSocket",
        group="Memory",
        unit="KiB",
        measure=partial(measure_idle_memory, kind="websocket", launch=ECHO),
        less_is_better=True,
        is_steady=True,
    ),
    Scenario(
        name="memory_upload",
        title="Growth during a slow upload",
        group="Memory",
        unit="MiB",
        measure=measure_upload_memory,
        less_is_better=True,
        is_steady=True,
    ),
    Scenario(
        name="memory_download",
        title="Growth during a slow download",
        group="Memory",
        unit="MiB",
        measure=measure_download_memory,
        less_is_better=True,
        is_steady=True,
    ),
    Scenario(
        name="start",
        title="From the command to the first answer",
        group="Start",
        unit="ms",
        measure=measure_start,
        less_is_better=True,
    ),
    Scenario(
        name="start_django",
        title="The same for the Django project",
        group="Start",
        unit="ms",
        measure=partial(measure_start, launch=DJANGO, path="/sync/"),
        less_is_better=True,
    ),
    _masking(64, "64 bytes"),
    _masking(256, "256 bytes"),
    _masking(1024, "1 KiB"),
    _masking(16384, "16 KiB"),
)

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def select(names: list[str]) -> list[Scenario]:
    """Return the scenarios of these names or prefixes; raises BenchmarkError."""
    if not names:
        return [*SCENARIOS]
    for name in names:
        if not any(_is_called(scenario, name) for scenario in SCENARIOS):
            raise BenchmarkError(f"No scenario is called {name!r}: see --list")
    return [
        scenario
        for scenario in SCENARIOS
        if any(_is_called(scenario, name) for name in names)
    ]


def _is_called(scenario: Scenario, name: str) -> bool:
    # "websocket_mask" stands for all its sizes, "django_" for all Django views; but
    # "http1_idle_1" must not mean "http1_idle_1000" too.
    if name in BY_NAME:
        return scenario.name == name
    return scenario.name.startswith(name)
