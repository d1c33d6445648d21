"""Compare Django's ASGI handler with djserve's under one server, in one run.

    python benchmarks/django_handler.py [--seconds 5] [--connections 32] [work ...]

Starts Uvicorn with each handler in turn on one core, loads it with wrk from another,
and prints requests a second. In-process WSGI is measured beside them as the bound.
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
from typing import Any

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
    raise AttributeError(name)


def make_application() -> Any:
    """Return the application that BENCH_HANDLER names; called by the server."""
    configure(os.environ["BENCH_FOLDER"])
    if os.environ["BENCH_HANDLER"] == "django":
        from django.core.asgi import get_asgi_application as make
    else:
        from djserve.handlers import get_asgi_application as make
    return make()


def measure_wsgi(folder: str, work: str, seconds: float) -> float:
    """Return requests a second through WSGIHandler, called in this process."""
    from django.core.handlers.wsgi import WSGIHandler

    handler = WSGIHandler()
    count = 0
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
        response = handler(environ, lambda *args: None)
        b"".join(response)
        response.close()
        count += 1
    return count / seconds


def start_server(folder: str, handler: str, port: int) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "BENCH_FOLDER": folder, "BENCH_HANDLER": handler}
    command = [
        *pin("0"),
        sys.executable,
        *("-m", "uvicorn", "--factory", "django_handler:make_application"),
        *("--app-dir", str(Path(__file__).parent), "--port", str(port)),
        *("--no-access-log", "--log-level", "warning", "--lifespan", "off"),
    ]
    server = subprocess.Popen(command, env=environ)
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


def load(port: int, work: str, seconds: float, connections: int) -> float:
    """Return requests a second; ends the benchmark where a request fails."""
    url = f"http://127.0.0.1:{port}/{work}/"
    command = [*pin("1"), "wrk", "-t1", f"-c{connections}"]
    # The first requests import views, open connections and start threads.
    subprocess.run([*command, "-d1s", url], check=True, capture_output=True)
    output = subprocess.run(
        [*command, f"-d{seconds}s", url], check=True, capture_output=True, text=True
    ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        print(output, file=sys.stderr)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    return float(rate[1]) if rate else 0.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="*", default=[], metavar="work")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    works = options.works or list(WORKS)
    with tempfile.TemporaryDirectory() as folder:
        configure(folder)
        prepare_database()
        rates: dict[str, dict[str, float]] = {work: {} for work in works}
        for handler in ("django", "djserve"):
            port = free_port()
            server = start_server(folder, handler, port)
            try:
                for work in works:
                    rates[work][handler] = load(
                        port, work, options.seconds, options.connections
                    )
            finally:
                server.terminate()
                server.wait()
        print(f"{'work':36}{'django':>9}{'djserve':>9}{'ratio':>7}{'WSGI':>9}")
        for work in works:
            django, ours = rates[work]["django"], rates[work]["djserve"]
            wsgi = 0.0 if work.startswith("async") else measure_wsgi(folder, work, 2)
            ratio = ours / django
            print(f"{WORKS[work]:36}{django:9.0f}{ours:9.0f}{ratio:7.1f}{wsgi:9.0f}")


if __name__ == "__main__":
    main()
