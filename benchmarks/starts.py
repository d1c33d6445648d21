"""``python -m benchmarks.starts``: the start, and the reload that developers wait for.

    python -m benchmarks.starts [--rounds 5] [--only start | --only reload]

The first table has the time from the command to the first answer, the processor time
that the server's processes have used by then, and how many modules are imported in the
one that answers: for an application of a few lines and for a Django project. The second
has the time from saving a file to the first answer by the new code. Servers take turns,
so that a machine's drift meets all alike; the ratio is the median of those of the
rounds, djserve's processor time by that of the other.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import processes
from benchmarks.processes import ROOT, BenchmarkError, Server, serving
from benchmarks.servers import COMMANDS, Launch, cores, module
from benchmarks.transfers import free_port

RELOAD_TIMEOUT = 60.0
POLL = 0.005
RUNSERVERS = {
    "runserver": "",
    "djserve runserver": "djserve",
    "daphne runserver": "daphne",
}
"""What stands first in INSTALLED_APPS, by what is started."""
PEERS = ("uvicorn", "daphne", "granian")
UVICORN_RELOAD = "uvicorn --reload"

SITE = {
    "site_settings.py": """\
import os

ALLOWED_HOSTS = ["*"]
ASGI_APPLICATION = "site_asgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEBUG = True
INSTALLED_APPS = [
    *os.environ["SITE_APPS"].split(),
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "site_urls"
SECRET_KEY = "only for a benchmark"
STATIC_URL = "static/"
""",
    "site_urls.py": """\
import sys

from django.http import HttpResponse
from django.urls import path

import site_version


def answer(request):
    return HttpResponse(f"{site_version.VERSION} {len(sys.modules)}")


urlpatterns = [path("", answer)]
""",
    "site_asgi.py": """\
from django.core.asgi import get_asgi_application

application = get_asgi_application()
""",
    "site_raw.py": """\
import sys


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = f"0 {len(sys.modules)}".encode()
    fields = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})
""",
}


@dataclass(frozen=True, slots=True)
class Start:
    """What one start took until the first answer."""

    milliseconds: float
    cpu: float
    """Milliseconds of processor time, of all its processes."""
    modules: int


def write_site(folder: Path) -> None:
    """Write the project, in its version 0."""
    for name, text in SITE.items():
        (folder / name).write_text(text, "utf-8")
    save_version(folder, 0)


def save_version(folder: Path, version: int) -> None:
    """Save the one file that changes; no two versions are equally long.

    Python takes a file of the same second and size for the one that it has compiled.
    """
    text = f"VERSION = {version}\n{'#' * version}\n"
    (folder / "site_version.py").write_text(text, "utf-8")


def command_of(name: str, application: str, port: int) -> list[str]:
    """Return what starts a server, or a development server without its reloader."""
    if name in RUNSERVERS:
        return module("django", "runserver", "--noreload", f"127.0.0.1:{port}")
    django = "yes" if application.startswith("site_asgi") else ""
    return COMMANDS[name](Launch(application=application, port=port, django=django))


def reload_command(name: str, folder: Path, port: int) -> list[str]:
    """Return what starts a server that watches the project's files."""
    if name in RUNSERVERS:
        return module("django", "runserver", f"127.0.0.1:{port}")
    options = ["--reload", "--reload-dir", str(folder), "--lifespan", "off"]
    options += ["--host", "127.0.0.1", "--port", str(port)]
    return module("uvicorn", *options, "site_asgi:application")


@contextmanager
def running(name: str, command: list[str], port: int, folder: Path) -> Iterator[Server]:
    """Run one on the first core; it ends with the block."""
    environ = {
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "SITE_APPS": RUNSERVERS.get(name, "djserve" if name == "djserve" else ""),
    }
    core, _ = cores()
    with serving(command, port, core, environ=environ, is_tls=False) as server:
        yield server


def measure_start(name: str, application: str, folder: Path) -> Start:
    """Start a server; return what it took until the first answer."""
    port = free_port()
    begun = time.perf_counter()
    with running(name, command_of(name, application, port), port, folder) as server:
        server.wait_until_it_answers("/")
        milliseconds = (time.perf_counter() - begun) * 1000
        cpu = sum(processor_time(pid) for pid in server.pids()) * 1000
        answer = ask(port)
        if answer is None:
            raise BenchmarkError(f"{name} does not answer again")
    return Start(milliseconds, cpu, answer[1])


def processor_time(pid: int) -> float:
    """Return the seconds that a process has run for; 0 if it has ended.

    Threads that have ended count, too.
    """
    try:
        # The clock that clock_getcpuclockid(3) names, which Python does not call.
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def measure_reload(name: str, folder: Path, rounds: int) -> list[float]:
    """Return the milliseconds from saving to the first new answer, for each round."""
    save_version(folder, 0)
    port = free_port()
    with running(name, reload_command(name, folder, port), port, folder) as server:
        server.wait_until_it_answers("/")
        return [
            _reload_once(port, folder, number + 1, pause=1.5 + (number + 0.5) / rounds)
            for number in range(rounds)
        ]


def _reload_once(port: int, folder: Path, version: int, *, pause: float) -> float:
    # A watcher looks once a second or oftener, and begins when its process does: pauses
    # that are spread over a second meet each part of its own equally often.
    time.sleep(pause)
    begun = time.perf_counter()
    save_version(folder, version)
    while (answer := ask(port)) is None or answer[0] != version:
        if time.perf_counter() > begun + RELOAD_TIMEOUT:
            raise BenchmarkError(f"the old code answers {RELOAD_TIMEOUT:.0f} s later")
        time.sleep(POLL)
    return (time.perf_counter() - begun) * 1000


def ask(port: int) -> tuple[int, int] | None:
    """Return the version that answers, and its modules; None if none answers."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        client.request("GET", "/", headers={"Connection": "close"})
        answer = client.getresponse()
        content = answer.read().split()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        client.close()
    if answer.status != 200 or len(content) != 2:
        return None
    return int(content[0]), int(content[1])


def compare(
    names: Sequence[str], rounds: int, measure: Callable[[str], Start]
) -> dict[str, list[Start]]:
    """Measure all by turns, in the other order each time.

    One start of each comes before, so that all modules are compiled.
    """
    for name in names:
        measure(name)
    found: dict[str, list[Start]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[:: -1 if number % 2 else 1]:
            found[name].append(measure(name))
    return found


def render_starts(title: str, found: dict[str, list[Start]], ours: str) -> str:
    """Return a table: a line for each server."""
    lines = [
        f"| {title} | first answer, ms | CPU, ms | modules | CPU of {ours} by its |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, starts in found.items():
        pairs = zip(found[ours], starts, strict=True)
        ratio = median(own.cpu / other.cpu for own, other in pairs)
        lines.append(
            f"| {name} | {median(each.milliseconds for each in starts):.0f} "
            f"| {median(each.cpu for each in starts):.0f} | {starts[-1].modules} "
            f"| {ratio:.2f} |"
        )
    return "\n".join(lines)


def render_reloads(found: dict[str, list[float]]) -> str:
    """Return a table: a line for each server that watches files."""
    lines = [
        "| saved file | first new answer, ms | least | most |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {median(times):.0f} | {min(times):.0f} | {max(times):.0f} |"
        for name, times in found.items()
    ]
    return "\n".join(lines)


def show(folder: Path, rounds: int, only: str | None) -> None:
    """Measure, and print each table when it is done."""
    if only != "reload":
        names = ("djserve", *PEERS)
        for title, application, contenders, ours in (
            ("Application", "site_raw:application", names, "djserve"),
            ("Django", "site_asgi:application", names, "djserve"),
            ("Development", "", [*RUNSERVERS], "djserve runserver"),
        ):
            measure = partial(measure_start, application=application, folder=folder)
            found = compare(contenders, rounds, measure)
            print(render_starts(title, found, ours), end="\n\n", flush=True)
    if only != "start":
        reloads = {
            name: measure_reload(name, folder, rounds)
            for name in (*RUNSERVERS, UVICORN_RELOAD)
        }
        print(render_reloads(reloads))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("start", "reload"))
    options = parser.parse_args()
    _, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    with tempfile.TemporaryDirectory(prefix="djserve-bench-") as name:
        write_site(Path(name))
        try:
            show(Path(name), options.rounds, options.only)
        except BenchmarkError as error:
            sys.exit(str(error))
        finally:
            processes.end_all()


if __name__ == "__main__":
    main()
