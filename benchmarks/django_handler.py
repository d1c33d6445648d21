"""Compare Django's ASGI handler with djserve's under one server, in one run.

    python benchmarks/django_handler.py [--server djserve] [--seconds 5] [work ...]

Starts a server with each handler in turn on one core, loads it with wrk from another,
and prints requests a second, and the server's CPU time for each: that is the figure to
compare where the machine has other things to do. WSGI is called in this process, with
no server at all.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

WORKS = {
    "sync": "sync view",
    "query": "sync view + query",
    "session": "sync view that writes the session",
    "async": "async view",
    "async_db": "async view + query",
}

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]


def configure(folder: str) -> None:
    """Set up a project like the one that startproject makes, with a SQLite database."""
    import django
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(Path(folder) / "db.sqlite3"),
                "CONN_MAX_AGE": 60,
                "OPTIONS": {"timeout": 20},
            }
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
        ],
        LOGGING_CONFIG=None,
        MIDDLEWARE=MIDDLEWARE,
        ROOT_URLCONF=__name__,
        SECRET_KEY="benchmark",
        USE_TZ=True,
    )
    django.setup(set_prefix=False)


def prepare_database() -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    User.objects.get_or_create(username="someone")
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=WAL")
    connection.close()


def sync_view(request: Any) -> Any:
    from django.http import HttpResponse

    return HttpResponse("Hello")


def query_view(request: Any) -> Any:
    from django.contrib.auth.models import User
    from django.http import HttpResponse

    return HttpResponse(User.objects.get(username="someone").username)


def session_view(request: Any) -> Any:
    from django.http import HttpResponse

    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse("Hello")


async def async_view(request: Any) -> Any:
    from django.http import HttpResponse

    return HttpResponse("Hello")


async def async_db_view(request: Any) -> Any:
    from django.contrib.auth.models import User
    from django.http import HttpResponse

    user = await User.objects.aget(username="someone")
    return HttpResponse(user.username)


VIEWS = {
    "sync": sync_view,
    "query": query_view,
    "session": session_view,
    "async": async_view,
    "async_db": async_db_view,
}


def __getattr__(name: str) -> Any:
    # Made when asked for: Django must be configured first.
    if name == "urlpatterns":
        from django.urls import path

        return [path(f"{work}/", view) for work, view in VIEWS.items()]
    if name == "application":
        # Kept: servers may ask for it more than once.
        globals()[name] = make_application()
        return globals()[name]
    raise AttributeError(name)


def make_application() -> Any:
    """Return the application that BENCH_HANDLER names; called by the server."""
    configure(os.environ["BENCH_FOLDER"])
    if os.environ["BENCH_HANDLER"] == "django":
        from django.core.asgi import get_asgi_application as make
    else:
        from djserve.handlers import get_asgi_application as make
    return make()


def measure_wsgi(work: str, seconds: float) -> Figure:
    """Call WSGIHandler in this process."""
    from django.core.handlers.wsgi import WSGIHandler

    handler = WSGIHandler()
    count, begin = 0, time.process_time()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": f"/{work}/",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "wsgi.input": io.BytesIO(),
            "wsgi.url_scheme": "http",
            "HTTP_HOST": "127.0.0.1",
        }
        response = handler(environ, lambda *args: io.BytesIO().write)
        b"".join(response)
        response.close()
        count += 1
    return Figure(count / seconds, (time.process_time() - begin) / count * 1e6)


SERVERS = {
    "uvicorn": ("-m", "uvicorn", "--no-access-log", "--log-level=warning"),
    "djserve": ("-m", "djserve", "-v0"),
}


def start_server(
    name: str, folder: str, handler: str, port: int
) -> subprocess.Popen[bytes]:
    environ = {
        **os.environ,
        "BENCH_FOLDER": folder,
        "BENCH_HANDLER": handler,
        "PYTHONPATH": str(Path(__file__).parent),
    }
    address = [f"--port={port}"] if name == "uvicorn" else [f"--bind=127.0.0.1:{port}"]
    command = [*pin("0"), sys.executable, *SERVERS[name], "--lifespan=off", *address]
    server = subprocess.Popen([*command, "django_handler:application"], env=environ)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return server
    server.kill()
    sys.exit("The server does not listen")


def pin(cpu: str) -> list[str]:
    return ["taskset", "-c", cpu] if shutil.which("taskset") else []


class Figure(NamedTuple):
    rate: float
    cpu: float
    """Microseconds of the server's CPU time for one request."""


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(pid: int, port: int, work: str, options: argparse.Namespace) -> Figure:
    """Load one URL; what is not answered well is reported with wrk's words."""
    url = f"http://127.0.0.1:{port}/{work}/"
    command = [*pin("1"), "wrk", "-t1", f"-c{options.connections}"]
    # The first requests import views, open connections and start threads.
    subprocess.run([*command, "-d1s", url], check=True, capture_output=True)
    begin = cpu_seconds(pid)
    output = subprocess.run(
        [*command, f"-d{options.seconds}s", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    used = cpu_seconds(pid) - begin
    if "Non-2xx" in output or "Socket errors" in output:
        print(output, file=sys.stderr)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    count = re.search(r"(\d+) requests in", output)
    assert rate and count, output
    return Figure(float(rate[1]), used / max(1, int(count[1])) * 1e6)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="*", default=[], metavar="work")
    parser.add_argument("--server", choices=SERVERS, default="uvicorn")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    works = options.works or list(WORKS)
    # In memory where possible: the disk is not what is measured.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        configure(folder)
        prepare_database()
        figures: dict[str, dict[str, Figure]] = {work: {} for work in works}
        for handler in ("django", "djserve"):
            port = free_port()
            server = start_server(options.server, folder, handler, port)
            try:
                for work in works:
                    figures[work][handler] = load(server.pid, port, work, options)
            finally:
                server.terminate()
                server.wait()
        print_figures(figures)


def print_figures(figures: dict[str, dict[str, Figure]]) -> None:
    print(f"{'':36}{'django':>16}{'djserve':>16}{'gain':>12}{'WSGI':>16}")
    columns = f"{'/s':>9}{'us':>7}"
    print(f"{'':36}{columns}{columns}{'/s':>6}{'us':>6}{columns}")
    for work, by_handler in figures.items():
        stock, ours = by_handler["django"], by_handler["djserve"]
        line = f"{WORKS[work]:36}{stock.rate:9.0f}{stock.cpu:7.0f}"
        line += f"{ours.rate:9.0f}{ours.cpu:7.0f}"
        line += f"{ours.rate / stock.rate:6.1f}{stock.cpu / ours.cpu:6.1f}"
        if not work.startswith("async"):
            wsgi = measure_wsgi(work, 2)
            line += f"{wsgi.rate:9.0f}{wsgi.cpu:7.0f}"
        print(line)


if __name__ == "__main__":
    main()
