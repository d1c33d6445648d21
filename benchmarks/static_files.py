"""Static files: djserve beside Granian, nginx, and WhiteNoise under two servers.

    python -m benchmarks.static_files [--seconds 3] [--rounds 3]

Files of 1 KiB, 64 KiB and 5 MiB over HTTP/1.1. Each server has one process on one core,
and is loaded with wrk over 32 connections from another. The medians of the rounds go to
a table, in requests a second. Needs wrk, nginx, whitenoise and granian; what is not
installed is left out and named.
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
from pathlib import Path
from statistics import median

from benchmarks import loads, processes
from benchmarks.processes import BenchmarkError, Server
from benchmarks.servers import cores, module

SIZES = {"1 KiB": 1024, "64 KiB": 64 * 1024, "5 MiB": 5 * 1024 * 1024}
PLAIN = "benchmarks.apps:hello"

Command = Callable[[int, Path], list[str]]


def djserve(port: int, folder: Path) -> list[str]:
    options = ["--bind", f"127.0.0.1:{port}", "--files", f"/static/={folder}"]
    return module("djserve", PLAIN, "-v", "0", *options)


def granian(port: int, folder: Path) -> list[str]:
    options = ["--interface", "asgi", "--port", str(port), "--workers", "1"]
    options += ["--static-path-route", "/static", "--static-path-mount", str(folder)]
    return module("granian", *options, "--no-access-log", PLAIN)


def uvicorn(port: int, folder: Path) -> list[str]:
    options = ["--port", str(port), "--lifespan", "off", "--no-access-log"]
    return module("uvicorn", "benchmarks.static_site:application", *options)


def gunicorn(port: int, folder: Path) -> list[str]:
    options = ["-b", f"127.0.0.1:{port}", "-w", "1", "--threads", "8"]
    options += ["--keep-alive", "75"]
    return module("gunicorn", "benchmarks.static_site:wsgi_application", *options)


def nginx(port: int, folder: Path) -> list[str]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise BenchmarkError("nginx is not installed")
    place = folder.parent / "nginx"
    place.mkdir(exist_ok=True)
    configuration = place / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {place}/pid; error_log {place}/log;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; sendfile on; keepalive_requests 1000000;\n"
        f"server {{ listen 127.0.0.1:{port};\n"
        f"location /static/ {{ alias {folder}/; etag on; }} }} }}\n"
    )
    return [program, "-c", str(configuration), "-p", str(place)]


SERVERS: dict[str, Command] = {
    "djserve": djserve,
    "nginx": nginx,
    "Granian": granian,
    "Uvicorn, WhiteNoise": uvicorn,
    "gunicorn (8 threads), WhiteNoise": gunicorn,
}


def make_files(folder: Path) -> None:
    """Write a file of each size."""
    for name, size in SIZES.items():
        (folder / file_name(name)).write_bytes(os.urandom(size))


def file_name(size: str) -> str:
    return size.replace(" ", "-") + ".bin"


@contextmanager
def started(make: Command, folder: Path, core: int) -> Iterator[Server]:
    """Run a server on one core until the end of the block."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    log = folder.parent / "server.log"
    with log.open("wb") as output:
        process = processes.start(
            make(port, folder),
            core,
            environ={"BENCH_STATIC": str(folder)},
            output=output.fileno(),
        )
    try:
        server = Server(process, port, is_tls=False, log=log)
        server.wait_until_it_answers(f"/static/{file_name('1 KiB')}")
        yield server
    finally:
        processes.end(process)


def measure(folder: Path, rounds: int, seconds: int) -> dict[tuple[str, str], float]:
    """Return the requests a second of each server and size, the medians of rounds."""
    figures: dict[tuple[str, str], list[float]] = {}
    server_core, load_core = cores()
    for number in range(rounds):
        order = list(SERVERS)[:: -1 if number % 2 else 1]
        for name in order:
            try:
                with started(SERVERS[name], folder, server_core) as server:
                    for size in SIZES:
                        url = f"{server.url}/static/{file_name(size)}"
                        loads.wrk(url, 1, load_core)
                        rate = loads.wrk(url, seconds, load_core)
                        figures.setdefault((name, size), []).append(rate)
                        print(name, size, f"{rate:,.0f}/s", file=sys.stderr, flush=True)
            except BenchmarkError as error:
                print(name, error, file=sys.stderr, flush=True)
    return {key: median(rates) for key, rates in figures.items()}


def render(figures: dict[tuple[str, str], float]) -> str:
    """Return a row for each server, with its share of djserve's rate."""
    lines = [
        "| Server | " + " | ".join(SIZES) + " |",
        "| --- | " + " | ".join("---:" for _ in SIZES) + " |",
    ]
    for name in SERVERS:
        cells = [_cell(figures, name, size) for size in SIZES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figures: dict[tuple[str, str], float], name: str, size: str) -> str:
    rate, ours = figures.get((name, size)), figures.get(("djserve", size))
    if rate is None:
        return "failed"
    text = f"{rate:,.0f} /s"
    return text if ours is None or name == "djserve" else f"{text} ({rate / ours:.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=int, default=3, help="for each file")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="djserve-bench-") as name:
        folder = Path(name) / "static"
        folder.mkdir()
        make_files(folder)
        # nginx may run its worker as another user.
        Path(name).chmod(0o755)
        try:
            figures = measure(folder, options.rounds, options.seconds)
        finally:
            processes.end_all()
    print(render(figures))


if __name__ == "__main__":
    main()
