"""Traces of a Django project, sent to a collector as in production."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.sync.client
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from tests.support.otlp import Collector

pytestmark = pytest.mark.e2e

TIMEOUT = 120
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

SETTINGS = """
SECRET_KEY = "only for a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site_urls"
INSTALLED_APPS = ["djserve", "channels"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ASGI_APPLICATION = "site_urls.application"
DJSERVE = {"TRACING": True}
"""

URLS = """
import os

from channels.generic.websocket import WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path
from opentelemetry import trace

tracer = trace.get_tracer("site")


class Echo(WebsocketConsumer):
    def receive(self, text_data):
        with tracer.start_as_current_span("inner echo"):
            self.send(text_data)


def sync_view(request, number):
    with tracer.start_as_current_span(f"inner {os.getpid()}"):
        return HttpResponse(os.getpid())


async def async_view(request):
    with tracer.start_as_current_span("inner async"):
        return HttpResponse("async")


def broken(request):
    raise LookupError("lost")


urlpatterns = [
    path("sync/<int:number>/", sync_view),
    path("async/", async_view),
    path("broken/", broken),
]
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("echo/", Echo.as_asgi())]),
    }
)
"""

MANAGE = """
import sys

from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""


class SpanCollector(Collector):
    """A receiver of spans over OTLP, and what it has received."""

    def __init__(self) -> None:
        self._spans: list[dict[str, Any]] = []
        super().__init__("traces", ExportTraceServiceRequest)

    def take(self, message: Any) -> None:
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                self._spans += map(read_span, scope.spans)

    def wait(self, *names: str) -> dict[str, dict[str, Any]]:
        """Return spans by their names once there are spans of all these names."""

        def missing() -> set[str]:
            return {*names} - {span["name"] for span in self._spans}

        assert self.wait_for(lambda: not missing()), (
            f"{missing()} missing among {self._spans}"
        )
        return {span["name"]: span for span in self._spans}


def read_span(span: Any) -> dict[str, Any]:
    found = {"name": span.name, "id": span.span_id.hex()}
    found |= {"parent": span.parent_span_id.hex(), "trace": span.trace_id.hex()}
    for pair in span.attributes:
        found[pair.key] = pair.value.string_value or pair.value.int_value
    return found


@pytest.fixture
def collector() -> Iterator[SpanCollector]:
    collector = SpanCollector()
    yield collector
    collector.close()


@pytest.fixture
def serve(
    tmp_path: Path,
    start_server: Callable[..., Any],
    free_port: int,
    collector: SpanCollector,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """Give ``serve(*command)`` for a command that serves the project."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "site_settings")
    (tmp_path / "site_settings.py").write_text(SETTINGS)
    (tmp_path / "site_urls.py").write_text(URLS)
    (tmp_path / "manage.py").write_text(MANAGE)

    def serve(*command: str) -> Any:
        words = [word.format(port=free_port) for word in command]
        environment = collector.environment
        return start_server(*words, port=free_port, cwd=tmp_path, env=environment)

    return serve


RUNASGI = ("manage.py", "runasgi", "127.0.0.1:{port}")
RUNSERVER = ("manage.py", "runserver", "--noreload", "127.0.0.1:{port}")
ALONE = ("-m", "djserve", "site_urls:application", "--bind", "127.0.0.1:{port}")


@pytest.mark.parametrize(
    "command", [RUNASGI, RUNSERVER, ALONE], ids=["runasgi", "runserver", "djserve"]
)
def test_views_are_traced_by_each_command(
    serve: Callable[..., Any], collector: SpanCollector, command: tuple[str, ...]
) -> None:
    server = serve(*command)
    with httpx.Client(base_url=server.url, timeout=TIMEOUT) as client:
        client.get("/sync/5/", headers={"traceparent": PARENT})
        client.get("/async/")
        assert client.get("/broken/").status_code == 500

    names = ("GET /sync/<int:number>/", "GET /async/", "GET /broken/", "inner async")
    found = collector.wait(*names)
    assert found["GET /sync/<int:number>/"]["parent"] == "b7ad6b7169203331"
    assert found["GET /broken/"]["error.type"] == "LookupError"


def test_spans_of_views_are_children(
    serve: Callable[..., Any], collector: SpanCollector
) -> None:
    server = serve(*RUNASGI)
    process = httpx.get(f"{server.url}/sync/5/", timeout=TIMEOUT).text
    httpx.get(f"{server.url}/async/", timeout=TIMEOUT)

    inner = f"inner {process}"
    outer = "GET /sync/<int:number>/"
    found = collector.wait(outer, inner, "GET /async/", "inner async")
    assert found[inner]["parent"] == found[outer]["id"]
    assert found["inner async"]["parent"] == found["GET /async/"]["id"]


def test_span_of_a_consumer_is_a_child(
    serve: Callable[..., Any], collector: SpanCollector
) -> None:
    url = f"ws://127.0.0.1:{serve(*RUNASGI).port}/echo/"
    with websockets.sync.client.connect(url, open_timeout=TIMEOUT) as client:
        client.send("a")
        assert client.recv(TIMEOUT) == "a"

    found = collector.wait("GET", "inner echo")
    assert found["GET"]["url.scheme"] == "ws"
    assert found["inner echo"]["parent"] == found["GET"]["id"]


def test_forked_workers_send_their_spans(
    serve: Callable[..., Any], collector: SpanCollector
) -> None:
    server = serve(*RUNASGI, "--workers", "2")
    workers: set[str] = set()
    deadline = time.monotonic() + TIMEOUT
    while len(workers) < 2 and time.monotonic() < deadline:
        # A connection each time: the kernel chooses who accepts it.
        workers.add(httpx.get(f"{server.url}/sync/5/", timeout=TIMEOUT).text)

    assert len(workers) == 2
    collector.wait(*(f"inner {worker}" for worker in workers))
    assert "Each worker loads the application for itself" not in server.output


def test_wrong_exporter_stops_the_start_in_one_line(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")

    with pytest.raises(pytest.fail.Exception) as caught:
        serve(*RUNASGI)
    assert "Server ended with 2" in str(caught.value)
    assert "no exporter 'carrier-pigeon' is installed" in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_missing_library_stops_the_start_in_one_line(
    serve: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: str,
) -> None:
    hiding = "import sys\nsys.modules['opentelemetry'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hiding)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "plain_app.py").write_text("def app(scope, receive, send): ...\n")

    with pytest.raises(pytest.fail.Exception) as caught:
        words = ("--bind", "127.0.0.1:{port}", "--tracing", "--workers", workers)
        serve("-m", "djserve", "plain_app:app", *words)
    assert "Server ended with 2" in str(caught.value)
    assert str(caught.value).count("TRACING needs the package opentelemetry-api") == 1
