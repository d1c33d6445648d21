"""Static files: djserve beside Granian, nginx, and WhiteNoise under three servers.

    python -m benchmarks.static_files [--http2] [--seconds 3] [--rounds 3]

Files of 1 KiB, 64 KiB and 5 MiB over HTTP/1.1, or over HTTP/2 with TLS. Each server has
one process on one core, and is loaded from another: with wrk over 32 connections, or
with h2load over 8 connections of 16 streams each. The medians of the rounds go to a
table: requests a second, and the CPU time that the server took for one. Needs wrk or
h2load, nginx, whitenoise, granian and hypercorn; what is not installed, or does not
speak the protocol, is left out and named.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import loads, processes
from benchmarks.certificates import write_certificate
from benchmarks.processes import BenchmarkError, Server
from benchmarks.servers import (
    CONNECTION_LIMIT,
    KEEP_ALIVE,
    Launch,
    cores,
    module,
    tls_options,
)

SIZES = {"1 KiB": 1024, "64 KiB": 64 * 1024, "5 MiB": 5 * 1024 * 1024}
PLAIN = "benchmarks.apps:hello"
SITE = "benchmarks.static_site:application"

Command = Callable[[Launch, Path], list[str]]


class Figure(NamedTuple):
    """Requests a second, and microseconds of the server's CPU time for each."""

    rate: float
    cpu: float


def djserve(launch: Launch, folder: Path) -> list[str]:
    options = ["--bind", launch.address, "--files", f"/static/={folder}"]
    options += tls_options(launch, "--certfile", "--keyfile")
    return module("djserve", PLAIN, "-v", "0", *options)


def granian(launch: Launch, folder: Path) -> list[str]:
    options = ["--interface", "asgi", "--port", str(launch.port), "--workers", "1"]
    options += ["--http", "auto" if launch.http2 else "1"]
    options += ["--backpressure", CONNECTION_LIMIT]
    options += ["--static-path-route", "/static", "--static-path-mount", str(folder)]
    options += tls_options(launch, "--ssl-certificate", "--ssl-keyfile")
    return module("granian", *options, "--no-access-log", PLAIN)


def uvicorn(launch: Launch, folder: Path) -> list[str]:
    if launch.http2:
        raise BenchmarkError("speaks no HTTP/2 but in an experimental engine")
    options = ["--port", str(launch.port), "--lifespan", "off", "--no-access-log"]
    return module("uvicorn", SITE, *options)


def hypercorn(launch: Launch, folder: Path) -> list[str]:
    options = ["-b", launch.address, "-w", "1", "-k", "uvloop", "--log-level", "error"]
    options += ["--keep-alive", KEEP_ALIVE]
    options += tls_options(launch, "--certfile", "--keyfile")
    return module("hypercorn", *options, SITE)


def gunicorn(launch: Launch, folder: Path) -> list[str]:
    options = ["-b", launch.address, "-w", "1", "--threads", "8"]
    options += ["--keep-alive", KEEP_ALIVE, "--log-level", "error"]
    options += tls_options(launch, "--certfile", "--keyfile")
    if launch.http2:
        options += ["--http-protocols", "h2,h1"]
    return module("gunicorn", *options, "benchmarks.static_site:wsgi_application")


def nginx(launch: Launch, folder: Path) -> list[str]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise BenchmarkError("nginx is not installed")
    place = folder.parent / "nginx"
    place.mkdir(exist_ok=True)
    configuration = place / "nginx.conf"
    listen, tls = launch.address, ""
    if launch.certificate:
        listen += " ssl http2"
        tls = (
            f"ssl_certificate {launch.certificate};\n"
            f"ssl_certificate_key {launch.key};\n"
        )
    configuration.write_text(
        f"daemon off; master_process off; pid {place}/pid; error_log {place}/log;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; sendfile on; keepalive_requests 1000000;\n"
        f"server {{ listen {listen};\n{tls}"
        f"location /static/ {{ alias {folder}/; etag on; }} }} }}\n"
    )
    return [program, "-c", str(configuration), "-p", str(place)]


SERVERS: dict[str, Command] = {
    "djserve": djserve,
    "nginx": nginx,
    "Granian": granian,
    "Uvicorn, WhiteNoise": uvicorn,
    "Hypercorn, WhiteNoise": hypercorn,
    "gunicorn (8 threads), WhiteNoise": gunicorn,
}


def make_files(folder: Path) -> None:
    """Write a file of each size."""
    for name, size in SIZES.items():
        (folder / file_name(name)).write_bytes(os.urandom(size))


def file_name(size: str) -> str:
    return size.replace(" ", "-") + ".bin"


def make_launch(folder: Path, *, http2: bool) -> Launch:
    """Return what all of the servers are started with, but for the port."""
    if not http2:
        return Launch(application=PLAIN)
    certificate, key = write_certificate(folder)
    return Launch(application=PLAIN, certificate=certificate, key=key, http2=True)


@contextmanager
def started(make: Command, launch: Launch, folder: Path, core: int) -> Iterator[Server]:
    """Run a server on one core until the end of the block."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        launch = replace(launch, port=sock.getsockname()[1])
    log = folder.parent / "server.log"
    with log.open("wb") as output:
        process = processes.start(
            make(launch, folder),
            core,
            environ={"BENCH_STATIC": str(folder)},
            output=output.fileno(),
        )
    try:
        server = Server(process, launch.port, launch.certificate is not None, log)
        server.wait_until_it_answers(f"/static/{file_name('1 KiB')}")
        yield server
    finally:
        processes.end(process)


def measure(
    folder: Path, launch: Launch, rounds: int, seconds: int
) -> dict[tuple[str, str], Figure]:
    """Return the figures of each server and size, the medians of rounds."""
    found: dict[tuple[str, str], list[Figure]] = {}
    server_core, load_core = cores()
    for number in range(rounds):
        order = list(SERVERS)[:: -1 if number % 2 else 1]
        for name in order:
            try:
                with started(SERVERS[name], launch, folder, server_core) as server:
                    for size in SIZES:
                        figure = load(server, size, seconds, load_core, launch.http2)
                        found.setdefault((name, size), []).append(figure)
                        text = f"{figure.rate:,.0f}/s, {figure.cpu:,.0f} us"
                        print(name, size, text, file=sys.stderr, flush=True)
            except BenchmarkError as error:
                print(name, error, file=sys.stderr, flush=True)
    return {
        key: Figure(*(median(values) for values in zip(*figures, strict=True)))
        for key, figures in found.items()
    }


def load(server: Server, size: str, seconds: int, core: int, http2: bool) -> Figure:
    """Ask for one file for some seconds, after a second that does not count."""
    url = f"{server.url}/static/{file_name(size)}"
    tool = loads.h2load if http2 else loads.wrk
    tool(url, 1, core)
    rate, busy = server.busy_during(lambda begin: tool(url, seconds, core))
    return Figure(rate, busy / rate * 1e6)


def render(figures: dict[tuple[str, str], Figure]) -> str:
    """Return a row for each server, with its share of djserve's rate."""
    columns = [text for size in SIZES for text in (size, "CPU")]
    lines = [
        "| Server | " + " | ".join(columns) + " |",
        "| --- | " + " | ".join("---:" for _ in columns) + " |",
    ]
    for name in SERVERS:
        cells = [cell for size in SIZES for cell in _cells(figures, name, size)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cells(
    figures: dict[tuple[str, str], Figure], name: str, size: str
) -> tuple[str, str]:
    figure, ours = figures.get((name, size)), figures.get(("djserve", size))
    if figure is None:
        return "none", ""
    text, cpu = f"{figure.rate:,.0f} /s", f"{figure.cpu:,.0f} µs"
    if ours is None or name == "djserve":
        return text, cpu
    return f"{text} ({figure.rate / ours.rate:.2f})", cpu


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--http2", action="store_true", help="HTTP/2 over TLS, loaded with h2load"
    )
    parser.add_argument("--seconds", type=int, default=3, help="for each file")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="djserve-bench-") as name:
        folder = Path(name) / "static"
        folder.mkdir()
        make_files(folder)
        # nginx may run its worker as another user.
        Path(name).chmod(0o755)
        launch = make_launch(Path(name), http2=options.http2)
        try:
            figures = measure(folder, launch, options.rounds, options.seconds)
        finally:
            processes.end_all()
    print(render(figures))


if __name__ == "__main__":
    main()
