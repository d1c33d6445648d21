"""A project with many of the packages at once, behind nginx."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.ecosystem.package import Package, folder
from tests.ecosystem.packages.additions import Allauth, DebugToolbar
from tests.ecosystem.packages.agents import Sentry
from tests.ecosystem.packages.interfaces import RestFramework, WhiteNoise
from tests.ecosystem.users import USERS

if TYPE_CHECKING:
    from tests.ecosystem.client import Call, Run

PARTS: list[Package] = [
    WhiteNoise(),
    Sentry(),
    DebugToolbar(),
    RestFramework(),
    Allauth(),
]
CROWD = USERS[:20]
ROUNDS = 10
PATHS = {
    "/sync/": 200,
    "/async/": 200,
    "/sync-raising/": 500,
    "/async-raising/": 500,
    "/sync-stream/": 200,
    "/async-stream/": 200,
    "/api/who/": 200,
    "/api/users/": 200,
    "/celery/": 200,
    "/static/{}.txt": 200,
}
"""Each is asked for by each user in each round."""

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    map $http_upgrade $upgraded {{ default upgrade; "" ""; }}
    upstream application {{ server 127.0.0.1:{upstream}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $upgraded;
            # A whole response is read by the proxy before a client that is slow.
            proxy_buffering on;
        }}
    }}
}}
"""


def merge(name: str) -> list[Any]:
    """Return the parts' lists of that name as one, without repetitions."""
    return list(dict.fromkeys(entry for part in PARTS for entry in getattr(part, name)))


def merge_dicts(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


class Crowd(Package):
    """The packages of a usual project, under 2,000 requests of 20 users."""

    name = "crowd"
    kind = "project"
    counted = (
        "2,000 requests of 20 users behind nginx, with Sentry, debug toolbar, DRF, "
        "allauth, WhiteNoise, Celery's client and Channels"
    )
    apps = merge("apps")
    first = merge("first")
    last = merge("last")
    settings = {
        **merge_dicts(part.settings for part in PARTS),
        # Pages of errors with all variables would be most of the work.
        "DEBUG": False,
        "DEBUG_TOOLBAR_CONFIG": {
            **DebugToolbar.settings["DEBUG_TOOLBAR_CONFIG"],
            "IS_RUNNING_TESTS": False,
        },
        "DEBUG_TOOLBAR_PANELS": [
            "debug_toolbar.panels.history.HistoryPanel",
            "debug_toolbar.panels.request.RequestPanel",
            "debug_toolbar.panels.sql.SQLPanel",
        ],
    }

    def __init__(self, rounds: int = ROUNDS) -> None:
        self.rounds = rounds
        each = len(CROWD) * rounds
        self.expected = {
            "transaction": each * len(PATHS),
            "error": 2 * each,
            # A view shows once what it sees, a stream of three parts thrice.
            "isolation scope": each * (2 + 2 * 3),
            "context": each * (2 + 2 * 3),
            "context on a hop": 2 * each,
            "query": 2 * each,
            "task": each,
            "tracebacks": 2 * each,
        }

    @property
    def version(self) -> str:
        return ""

    def start(self) -> None:
        for part in PARTS:
            part.start()

    def urls(self) -> list[Any]:
        from django.http import HttpRequest, HttpResponse
        from django.urls import include, path

        def send_task(request: HttpRequest) -> HttpResponse:
            name = request.user.get_username()
            celery().send_task("work", args=[name])
            return HttpResponse(name)

        parts = [pattern for part in PARTS for pattern in part.urls()]
        return [
            *parts,
            # The toolbar itself names its URLs where DEBUG is set only.
            path("__debug__/", include("debug_toolbar.urls")),
            path("celery/", send_task),
        ]

    def look(self, request: Any) -> dict[str, Any]:
        return {
            key: value for part in PARTS for key, value in part.look(request).items()
        }

    def work(self, request: Any) -> dict[str, Any]:
        return {
            key: value for part in PARTS for key, value in part.work(request).items()
        }

    def calls(self) -> list[Call]:
        from tests.ecosystem.client import Call

        return [
            Call(
                user,
                f"{path.format(user.name)}?who={user.name}",
                status=status,
                check=_check_of(path, status),
            )
            for _ in range(self.rounds)
            for path, status in PATHS.items()
            for user in CROWD
        ]

    def front(self, port: int, place: Path) -> AbstractContextManager[int]:
        return nginx(port, place)

    def collect(self, run: Run) -> None:
        for path in (run.place / "tasks").iterdir():
            message = path.read_text()
            body = base64.b64decode(json.loads(message)["body"]).decode()
            right = json.loads(body)[0][0]
            run.add("task", right, re.findall(r"user\d{3}", body + message))


def _check_of(path: str, status: int) -> str:
    if status == 500:
        return ""
    return "shown" if "sync" in path else "name"


@functools.cache
def celery() -> Any:
    """Return the client of Celery, whose messages become files of the run."""
    from celery import Celery

    tasks = folder() / "tasks"
    tasks.mkdir(exist_ok=True)
    control = folder() / "control"
    options = {
        "data_folder_in": str(tasks),
        "data_folder_out": str(tasks),
        "control_folder": str(control),
    }
    client = Celery(broker="filesystem://")
    client.conf.broker_transport_options = options
    return client


@contextlib.contextmanager
def nginx(upstream: int, place: Path) -> Iterator[int]:
    """Run nginx before a server for the block; give its port."""
    from tests.conftest import ServerProcess, find_free_port, find_program

    port = find_free_port()
    configuration = place / "nginx.conf"
    configuration.write_text(NGINX.format(folder=place, port=port, upstream=upstream))
    log = place / "nginx.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [find_program("nginx"), "-c", str(configuration), "-p", str(place)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = ServerProcess(process, port, log)
    try:
        server.wait_until_ready(60)
        yield port
    finally:
        server.stop()
