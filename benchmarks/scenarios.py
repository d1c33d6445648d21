"""What is measured: each scenario by its name, with the contenders that can do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import masking
from benchmarks.access_log_cost import STARTS, measure_access_log
from benchmarks.database_measures import VIEWS, Rounds, measure_postgresql
from benchmarks.http2_measures import measure_mixed
from benchmarks.measures import (
    BROADCAST,
    CHANNELS,
    DJANGO,
    ECHO,
    EVENTS,
    HELLO,
    Conditions,
    measure_download,
    measure_download_memory,
    measure_http,
    measure_http2,
    measure_idle_memory,
    measure_load,
    measure_masking,
    measure_start,
    measure_upload,
    measure_upload_memory,
    with_tls,
)
from benchmarks.model import Sample
from benchmarks.processes import BenchmarkError
from benchmarks.servers import RAW_ECHO, SERVERS, WSGI_IN_PROCESS, Launch

HTTP2_SERVERS = ("djserve", "daphne", "uvicorn", "hypercorn", "granian", "gunicorn")
MIXED_CONTENDERS = ("djserve", "hypercorn", "granian", "gunicorn")
DATABASE_CONTENDERS = ("djserve", "daphne", "uvicorn", "granian", "gunicorn gthread")
DATABASE_TOOLS = ("wrk", "initdb")
SYNC_CONTENDERS = (*SERVERS, "gunicorn gthread", WSGI_IN_PROCESS)

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
    """Whether rounds differ so little that one is enough."""
    is_whole: bool = False
    """Whether every round has all contenders, also those that need no more rounds."""
    loads: int = 1
    """How many times one measurement loads the server for the run's seconds."""
    overhead: float = 2.0
    """The seconds that one measurement takes beside its loads, about."""
    tools: tuple[str, ...] = ()
    """The programs that it needs, of those in ``loads.PACKAGES``."""


def _http(name: str, title: str, **options: object) -> Scenario:
    return Scenario(
        name=name,
        title=title,
        group="HTTP/1.1",
        unit="requests/s",
        measure=partial(measure_http, **options),  # type: ignore[arg-type] # by name
        tools=("wrk",),
    )


def _idle(count: int) -> Scenario:
    plural = "" if count == 1 else "s"
    title = f"Hello beside {count:,} idle connection{plural}"
    scenario = _http(f"http1_idle_{count}", title, idle=count)
    # How a contender's figures change with the connections is told by all its rounds.
    return replace(scenario, is_whole=True, overhead=2.5 + count / 1000)


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
        tools=("wrk",),
    )


def _postgresql(name: str, title: str, path: str) -> Scenario:
    title = f"{title} in PostgreSQL"
    scenario = _django(f"{name}_postgresql", title, path, DATABASE_CONTENDERS)
    measure = partial(measure_postgresql, path=path)
    return replace(scenario, measure=measure, overhead=5, tools=DATABASE_TOOLS)


def _realistic() -> Iterator[Scenario]:
    """Yield a figure each; one start of a server, for the first, measures them all."""
    rounds = Rounds()
    for figure, unit in (("rate", "requests/s"), ("p99", "ms")):
        for view in VIEWS.values():
            is_first = figure == "rate" and view.name == next(iter(VIEWS))
            suffix = "" if figure == "rate" else "_p99"
            yield Scenario(
                name=f"realistic_{view.name}{suffix}",
                title=f"{view.title}{': 99th percentile' if suffix else ''}",
                group="Realistic project",
                unit=unit,
                measure=partial(rounds.take, view=view.name, figure=figure),
                contenders=DATABASE_CONTENDERS,
                less_is_better=figure == "p99",
                is_whole=True,
                loads=len(VIEWS) if is_first else 0,
                overhead=8 if is_first else 0,
                tools=DATABASE_TOOLS,
            )


def _mixed(direction: str, figure: str, title: str, unit: str) -> Scenario:
    suffix = "" if figure == "rate" else f"_{figure}"
    return Scenario(
        name=f"http2_mixed_{direction}{suffix}",
        title=f"{title} {direction} on one connection",
        group="HTTP/2",
        unit=unit,
        measure=partial(measure_mixed, direction=direction, figure=figure),
        contenders=MIXED_CONTENDERS,
        less_is_better=figure != "rate",
        is_steady=True,
        loads=0,
        overhead=6,
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
        loads=0,
        overhead=1,
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
    Scenario(
        name="access_log_cost",
        title="Throughput that an access log in a file takes",
        group="HTTP/1.1",
        unit="%",
        measure=measure_access_log,
        less_is_better=True,
        # It has rounds within: STARTS of both servers, and pairs of seconds in each.
        is_steady=True,
        loads=STARTS,
        overhead=3 * STARTS,
        tools=("wrk",),
    ),
    _idle(1),
    _idle(1000),
    _idle(10_000),
    Scenario(
        name="http2_hello",
        title="Hello over TLS, 8 connections with 16 streams",
        group="HTTP/2",
        unit="requests/s",
        measure=measure_http2,
        contenders=HTTP2_SERVERS,
        tools=("h2load",),
    ),
    Scenario(
        name="http2_django",
        title="Django's sync view over TLS, 8 connections with 16 streams",
        group="HTTP/2",
        unit="requests/s",
        measure=partial(measure_http2, launch=DJANGO, path="/sync/"),
        contenders=HTTP2_SERVERS,
        tools=("h2load",),
    ),
    *(
        scenario
        for direction in ("download", "upload")
        for scenario in (
            _mixed(direction, "rate", "100 small requests beside a long", "MiB/s"),
            _mixed(direction, "p99", "Their 99th percentile beside a long", "ms"),
            _mixed(direction, "memory", "Memory growth during a long", "MiB"),
        )
    ),
    Scenario(
        name="download",
        title="Download, one connection",
        group="Transfers",
        unit="MiB/s",
        measure=measure_download,
        loads=0,
        overhead=4,
    ),
    Scenario(
        name="upload",
        title="Upload, one connection",
        group="Transfers",
        unit="MiB/s",
        measure=measure_upload,
        loads=0,
        overhead=4,
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
    _postgresql("django_query", "Sync view with a query", "/query/"),
    _postgresql("django_session", "Sync view that writes the session", "/session/"),
    *_realistic(),
    Scenario(
        name="memory_http",
        title="Memory of an idle HTTP connection",
        group="Memory",
        unit="KiB",
        measure=partial(measure_idle_memory, kind="http", launch=HELLO),
        less_is_better=True,
        is_steady=True,
        loads=0,
        overhead=20,
    ),
    Scenario(
        name="memory_websocket",
        title="Memory of an idle WebSocket",
        group="Memory",
        unit="KiB",
        measure=partial(measure_idle_memory, kind="websocket", launch=ECHO),
        less_is_better=True,
        is_steady=True,
        loads=0,
        overhead=20,
    ),
    Scenario(
        name="memory_upload",
        title="Growth during a slow upload",
        group="Memory",
        unit="MiB",
        measure=measure_upload_memory,
        less_is_better=True,
        is_steady=True,
        loads=0,
        overhead=14,
    ),
    Scenario(
        name="memory_download",
        title="Growth during a slow download",
        group="Memory",
        unit="MiB",
        measure=measure_download_memory,
        less_is_better=True,
        is_steady=True,
        loads=0,
        overhead=14,
    ),
    Scenario(
        name="start",
        title="From the command to the first answer",
        group="Start",
        unit="ms",
        measure=measure_start,
        less_is_better=True,
        loads=0,
        overhead=2,
    ),
    Scenario(
        name="start_django",
        title="The same for the Django project",
        group="Start",
        unit="ms",
        measure=partial(measure_start, launch=DJANGO, path="/sync/"),
        less_is_better=True,
        loads=0,
        overhead=2,
    ),
    _masking(64, "64 bytes"),
    _masking(256, "256 bytes"),
    _masking(1024, "1 KiB"),
    _masking(16384, "16 KiB"),
)

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def seconds_of(scenario: Scenario, seconds: int) -> float:
    """Return about how long one measurement takes."""
    return scenario.loads * seconds + scenario.overhead


def tools_of(scenarios: Iterable[Scenario]) -> dict[str, list[str]]:
    """Return the tools that these need, each with the names of those that do."""
    users: dict[str, list[str]] = {}
    for scenario in scenarios:
        for tool in scenario.tools:
            users.setdefault(tool, []).append(scenario.name)
    return users


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
