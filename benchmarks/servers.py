"""How each server is started: its documented settings for production, one process.

Where a server has a default that ends connections of the load (a short keep-alive, a
cap on connections), it is raised for all alike.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import postgresql

KEEP_ALIVE = "75"
CONNECTION_LIMIT = "20000"
HEAD_TIMEOUT = "60000"
"""Milliseconds, as many as Granian takes: it ends idle connections after them, too."""
HYPERCORN_SETTINGS = Path(__file__).with_name("hypercorn.toml")
"""What has no option: it ends a connection after a thousand requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a server is to serve, and how."""

    application: str
    port: int = 0
    django: str = ""
    """The folder of the Django project's database; then ``application`` is its own."""
    project: str = "benchmarks.project"
    """The Django project."""
    postgresql: str = ""
    """The folder of the socket of the PostgreSQL that the project is to use."""
    certificate: Path | None = None
    key: Path | None = None
    http2: bool = False
    access_log: Path | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        if not self.django:
            return {}
        found = {
            "DJANGO_SETTINGS_MODULE": f"{self.project}.settings",
            "BENCH_APPLICATION": self.application.replace(":", "."),
            "BENCH_FOLDER": self.django,
        }
        if self.postgresql:
            found |= {"BENCH_POSTGRESQL": "postgres", "PGHOST": self.postgresql}
            found |= {"PGUSER": postgresql.USER}
        return found


def database_environ(server: str) -> dict[str, str]:
    """Return how a server's project is told to keep its connections to PostgreSQL.

    Django's documentation has them in a pool under ASGI, where a thread ends with its
    request. Threads that live on keep theirs: that costs less.
    """
    return {"BENCH_POOL": "" if server in KEEPS_CONNECTIONS else "yes"}


class Unsupported(Exception):
    """The server has no such thing."""


def module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def djserve(launch: Launch) -> list[str]:
    options = ["--bind", launch.address, "-v", "0"]
    options += tls_options(launch, "--certfile", "--keyfile")
    if launch.access_log:
        options += ["--access-log", str(launch.access_log)]
    if launch.django:
        return module("django", "runasgi", *options)
    return module("djserve", launch.application, *options)


def daphne(launch: Launch) -> list[str]:
    options = ["-v", "0"]
    if launch.certificate:
        options += [
            "-e",
            f"ssl:{launch.port}:interface=127.0.0.1:privateKey={launch.key}"
            f":certKey={launch.certificate}",
        ]
    else:
        options += ["-b", "127.0.0.1", "-p", str(launch.port)]
    if launch.access_log:
        options += ["--access-log", str(launch.access_log)]
    return module("daphne", *options, launch.application)


def uvicorn(launch: Launch) -> list[str]:
    options = ["--host", "127.0.0.1", "--port", str(launch.port), "--loop", "uvloop"]
    options += ["--log-level", "info" if launch.access_log else "warning"]
    options += ["--timeout-keep-alive", KEEP_ALIVE]
    # HTTP/2 is only in its experimental engine; httptools is quicker for HTTP/1.1.
    options += (
        ["--http", "zttp", "--http2"] if launch.http2 else ["--http", "httptools"]
    )
    options += tls_options(launch, "--ssl-certfile", "--ssl-keyfile")
    if not launch.access_log:
        options.append("--no-access-log")
    if launch.django:
        options += ["--lifespan", "off"]
    return module("uvicorn", *options, launch.application)


def hypercorn(launch: Launch) -> list[str]:
    options = ["-b", launch.address, "-w", "1", "-k", "uvloop", "--backlog", "2048"]
    options += ["--keep-alive", KEEP_ALIVE, "--log-level", "warning"]
    options += ["--config", str(HYPERCORN_SETTINGS)]
    options += tls_options(launch, "--certfile", "--keyfile")
    if launch.access_log:
        options += ["--access-logfile", str(launch.access_log)]
        options += ["--log-level", "info"]
    return module("hypercorn", *options, launch.application)


def granian(launch: Launch) -> list[str]:
    options = ["--host", "127.0.0.1", "--port", str(launch.port), "--workers", "1"]
    options += ["--interface", "asginl" if launch.django else "asgi"]
    options += ["--loop", "uvloop", "--http", "auto" if launch.http2 else "1"]
    options += ["--backlog", "2048", "--backpressure", CONNECTION_LIMIT]
    options += ["--http1-header-read-timeout", HEAD_TIMEOUT]
    options += tls_options(launch, "--ssl-certificate", "--ssl-keyfile")
    if launch.access_log:
        options += ["--log-level", "info", "--access-log"]
    else:
        options += ["--log-level", "warning", "--no-access-log"]
    return module("granian", *options, launch.application)


def gunicorn(launch: Launch) -> list[str]:
    options = ["-b", launch.address, "-w", "1", "-k", "asgi", "--asgi-loop", "uvloop"]
    options += ["--keep-alive", KEEP_ALIVE, "--log-level", "warning"]
    options += ["--worker-connections", CONNECTION_LIMIT]
    options += tls_options(launch, "--certfile", "--keyfile")
    if launch.http2:
        options += ["--http-protocols", "h2,h1"]
    if launch.access_log:
        options += ["--access-logfile", str(launch.access_log)]
    if launch.django:
        options += ["--asgi-lifespan", "off"]
    return module("gunicorn", *options, launch.application)


def gunicorn_gthread(launch: Launch) -> list[str]:
    if not launch.django:
        raise Unsupported("serves WSGI only")
    options = ["-b", launch.address, "-w", "1", "-k", "gthread", "--threads", "4"]
    options += ["--keep-alive", KEEP_ALIVE, "--log-level", "warning"]
    return module("gunicorn", *options, f"{launch.project}.wsgi:application")


def raw_echo(launch: Launch) -> list[str]:
    """Start what bounds the figures of the WebSocket load: it speaks no protocol."""
    return module(
        "benchmarks.websocket_load", "--raw-server", "--port", str(launch.port)
    )


def tls_options(launch: Launch, certificate: str, key: str) -> list[str]:
    """Return the two options under the server's own names, if TLS is asked for."""
    if not launch.certificate:
        return []
    return [certificate, str(launch.certificate), key, str(launch.key)]


RAW_ECHO = "raw bytes"
WSGI_IN_PROCESS = "WSGI in-process"
KEEPS_CONNECTIONS = ("djserve", "gunicorn gthread", WSGI_IN_PROCESS)

COMMANDS: dict[str, Callable[[Launch], list[str]]] = {
    "djserve": djserve,
    "daphne": daphne,
    "uvicorn": uvicorn,
    "hypercorn": hypercorn,
    "granian": granian,
    "gunicorn": gunicorn,
    "gunicorn gthread": gunicorn_gthread,
    RAW_ECHO: raw_echo,
}

SERVERS = ("djserve", "daphne", "uvicorn", "hypercorn", "granian", "gunicorn")


def raise_open_file_limit() -> int:
    """Let this process, and those it starts, open all files that the system allows."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


def cores() -> tuple[int, int]:
    """Return a core for the server and one for the load; they may be the same."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]
