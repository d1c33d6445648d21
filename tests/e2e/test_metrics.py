"""Metrics and health, read as a monitoring system reads them, during a load."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import find_free_port, server_starter
from tests.e2e.workers import DEADLINE, wait_for

pytestmark = pytest.mark.e2e

SETTINGS = """
SECRET_KEY = "only for a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site_urls"
INSTALLED_APPS = ["djserve"]
ASGI_APPLICATION = "site_urls.application"
DJSERVE = {"WORKERS": 2}
"""

URLS = """
import asyncio
from pathlib import Path

from django.core.asgi import get_asgi_application
from django.http import Http404, HttpResponse
from django.urls import include, path

django = get_asgi_application()


def index(request):
    return HttpResponse("index")


def slow(request):
    Path("begun").touch()
    open("gate").close()  # a FIFO: until somebody writes to it
    return HttpResponse("slow")


async def later(request, number):
    await asyncio.sleep(0)
    return HttpResponse("later")


def broken(request):
    raise Http404


shop = [path("later/<int:number>", later, name="later"), path("broken", broken)]
urlpatterns = [
    path("", index),
    path("slow", slow),
    path("shop/", include((shop, "shop"))),
]


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    else:
        await django(scope, receive, send)
"""

MANAGE = """
import sys

from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""


ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": "site_settings"}


def fill(folder: Path) -> Path:
    """Put a Django project with manage.py into a folder."""
    (folder / "site_settings.py").write_text(SETTINGS)
    (folder / "site_urls.py").write_text(URLS)
    (folder / "manage.py").write_text(MANAGE)
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return fill(tmp_path)


class Site:
    """A project that is served, with its metrics' port and its control socket."""

    def __init__(self, server: Any, folder: Path, metrics: int) -> None:
        self.server = server
        self.folder = folder
        self.metrics_url = f"http://127.0.0.1:{metrics}"

    def samples(self) -> Counter[tuple[str, str]]:
        """Return the metrics by name and the status label, summed over the others."""
        found: Counter[tuple[str, str]] = Counter()
        text = fetch(f"{self.metrics_url}/metrics")[1]
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, sample.labels.get("status", ""))
                found[key] += int(sample.value)
        return found

    def counters(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return all that may only grow: counters, and the parts of histograms."""
        text = fetch(f"{self.metrics_url}/metrics")[1]
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            if family.type in ("counter", "histogram")
            for sample in family.samples
        }

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``manage.py djserve ...``."""
        socket_path = ("--control-socket", str(self.folder / "control"))
        return subprocess.run(
            [sys.executable, "manage.py", "djserve", *socket_path, *words],
            cwd=self.folder,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture
def start(
    start_server: Callable[..., Any], site: Path, free_port: int
) -> Callable[..., Site]:
    """Give ``start(*options)``: the project, served with metrics."""
    return partial(serve, start_server, site, free_port)


def serve(
    start_server: Callable[..., Any], folder: Path, port: int, *options: str
) -> Site:
    metrics = find_free_port()
    server = start_server(
        *("manage.py", "runasgi", f"127.0.0.1:{port}"),
        *("--metrics-bind", f"127.0.0.1:{metrics}", "--metrics-path", "/metrics"),
        *("--control-socket", str(folder / "control")),
        *options,
        port=port,
        cwd=folder,
        env=ENVIRONMENT,
    )
    server.wait_for("Supervisor")
    return Site(server, folder, metrics)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A project that is served for the tests that leave its workers alone."""
    folder = fill(tmp_path_factory.mktemp("metrics"))
    with server_starter(folder) as start:
        yield serve(start, folder, find_free_port())


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_counters_equal_those_of_the_load_tool(
    start: Callable[..., Site], require_program: Callable[..., str]
) -> None:
    site = start()
    h2load = require_program("h2load")
    before = site.samples()[("djserve_requests_total", "200")]
    output = subprocess.run(
        [h2load, "--h1", "-n", "2000", "-c", "8", "-t", "1", site.server.url + "/"],
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout
    counted = re.search(r"(\d+) succeeded", output)
    assert counted is not None
    # A worker may still be noting what it has just answered.
    wait_for(
        lambda: (
            site.samples()[("djserve_requests_total", "200")] - before >= 2000
            and site.samples()[("djserve_connections_total", "")] >= 8
        )
    )
    after = site.samples()

    assert after[("djserve_requests_total", "200")] - before == int(counted[1]) == 2000
    assert after[("djserve_request_duration_seconds_count", "")] >= 2000


def test_counters_only_grow_while_workers_come_and_go(
    start: Callable[..., Site], require_program: Callable[..., str]
) -> None:
    site = start("--worker-max-requests", "400")
    words = [require_program("h2load"), "--h1", "-n", "1000", "-c", "8", "-t", "1"]
    scrapes = [site.counters()]
    counted = []
    for _ in range(4):
        with subprocess.Popen(
            [*words, site.server.url + "/"], stdout=subprocess.PIPE, text=True
        ) as load:
            scrapes.append(site.counters())
            while load.poll() is None:
                scrapes.append(site.counters())
            output = load.stdout.read() if load.stdout else ""
        counted += re.findall(r"(\d+) succeeded", output)
    requests = frozenset(
        {"method": "GET", "status": "200", "protocol": "HTTP/1.1"}.items()
    )
    total = ("djserve_requests_total", requests)
    wait_for(lambda: site.counters().get(total, 0) >= 4000)
    site.server.wait_for("it has answered")
    scrapes.append(site.counters())

    assert len(scrapes) > 3
    for before, after in pairwise(scrapes):
        assert {name for name in before if after[name] < before[name]} == set()
    assert scrapes[-1][total] == sum(map(int, counted)) == 4000
    count = ("djserve_request_duration_seconds_count", frozenset[tuple[str, str]]())
    assert scrapes[-1][count] == 4000
    size = ("djserve_response_bytes_total", frozenset[tuple[str, str]]())
    assert scrapes[-1][size] == 4000 * len("index")


def test_counters_outlive_their_workers(start: Callable[..., Site]) -> None:
    site = start()
    for _ in range(10):
        fetch(site.server.url + "/")
    site.server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: site.server.output.count("has ended") == 2)

    assert site.samples()[("djserve_requests_total", "200")] == 10


def test_times_are_told_by_view_over_all_workers(start: Callable[..., Site]) -> None:
    site = start()

    def counts() -> dict[str, float]:
        return {
            dict(labels)["view"]: value
            for (name, labels), value in site.counters().items()
            if name == "djserve_view_duration_seconds_count"
        }

    for number in range(4):
        for path in ("/", f"/shop/later/{number}", "/shop/broken", "/nothing"):
            fetch(site.server.url + path)
    expected = {"site_urls.index": 4, "shop:later": 4, "shop:site_urls.broken": 4}
    wait_for(lambda: counts() == expected)
    site.server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: site.server.output.count("has ended") == 2)
    fetch(site.server.url + "/")

    wait_for(lambda: counts() == expected | {"site_urls.index": 5})


def test_websockets_and_their_messages_are_counted(shared: Site) -> None:
    site = shared
    url = site.server.url.replace("http", "ws")
    with websockets.sync.client.connect(
        url + "/", origin=None, open_timeout=DEADLINE
    ) as client:
        for _ in range(5):
            client.send("text")
            client.recv(timeout=DEADLINE)
        wait_for(lambda: site.samples()[("djserve_websocket_messages_total", "")] >= 10)
        samples = site.samples()

    assert samples[("djserve_websockets_open", "")] == 1
    assert samples[("djserve_websocket_messages_total", "")] == 10


def test_metrics_on_the_servers_own_address_are_the_same(shared: Site) -> None:
    site = shared
    count = 'djserve_requests_total{method="GET",protocol="HTTP/1.1",status="200"}'
    deadline = time.monotonic() + DEADLINE
    fetch(site.server.url + "/")
    # A worker may still be noting the request that it has just answered.
    while count not in (answer := fetch(f"{site.server.url}/metrics"))[1]:
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)

    assert answer[0] == 200


def test_health_is_told_without_the_application(shared: Site) -> None:
    site = shared

    assert fetch(f"{site.metrics_url}/healthz") == (200, "ok\n")
    assert fetch(f"{site.metrics_url}/readyz") == (200, "ready\n")
    assert fetch(f"{site.server.url}/readyz") == (200, "ready\n")
    assert fetch(f"{site.metrics_url}/other")[0] == 404


def test_one_process_tells_its_metrics_too(
    start_server: Callable[..., Any], site: Path, free_port: int
) -> None:
    words = ("manage.py", "runasgi", f"127.0.0.1:{free_port}", "--workers", "1")
    server = start_server(
        *words,
        *("--metrics-path", "/metrics"),
        port=free_port,
        cwd=site,
        env=ENVIRONMENT,
    )

    assert fetch(f"{server.url}/healthz") == (200, "ok\n")
    assert "djserve_workers 1.0" in fetch(f"{server.url}/metrics")[1]


def test_status_shows_a_running_view_with_its_stack(shared: Site) -> None:
    site = shared
    os.mkfifo(site.folder / "gate")
    deadline = time.monotonic() + DEADLINE
    with socket.create_connection(("127.0.0.1", site.server.port)) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for((site.folder / "begun").exists)
        # A worker that is slow to answer the supervisor is left out.
        while "in slow" not in (page := site.manage("status", "--stacks").stdout):
            assert time.monotonic() < deadline, page
        (site.folder / "gate").open("w").close()

    assert "2 of 2 workers" in page
    assert "GET /slow in site_urls.slow" in page
    assert re.search(r"site_urls\.py:\d+ in slow", page)


def test_status_is_told_as_json(shared: Site) -> None:
    site = shared
    status = json.loads(site.manage("status", "--json").stdout)

    assert status["supervisor"] == site.server.process.pid
    assert [worker["state"] for worker in status["workers"]] == ["ready", "ready"]
    assert all(worker["memory"] > 2**20 for worker in status["workers"])


def test_workers_are_scaled_reloaded_and_drained(start: Callable[..., Site]) -> None:
    site = start()
    assert site.manage("scale", "3").returncode == 0
    wait_for(lambda: site.server.output.count("is ready") == 3)
    assert site.manage("reload").stdout == "Reloaded: generation 2\n"
    assert site.manage("drain").returncode == 0

    assert site.server.process.wait(120) == 0


def test_reload_of_broken_code_is_told(start: Callable[..., Site]) -> None:
    site = start()
    (site.folder / "site_urls.py").write_text("def broken(:\n")
    outcome = site.manage("reload")

    assert outcome.returncode == 1
    assert "The old workers stay" in outcome.stderr
    assert "SyntaxError" in site.server.output
    assert fetch(site.server.url + "/")[0] == 200


def test_absent_supervisor_is_told(site: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "manage.py", "djserve", "--control-socket", "x", "status"],
        cwd=site,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
    )

    assert outcome.returncode == 1
    assert "No supervisor answers" in outcome.stderr
