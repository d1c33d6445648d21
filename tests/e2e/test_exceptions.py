"""Every kind of exception, from every place of an application, on each protocol.

The rows "raises ..." of docs/explanation/behaviour.md. One process for all: none may
harm the next.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h2.events
import pytest

from tests.conftest import find_free_port
from tests.e2e.clients import (
    ONE,
    HTTP2Client,
    ask_for_websocket,
    connect,
    open_websocket,
    read_all,
    read_head,
)
from tests.support.exceptions import FAIL

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120

SETTINGS = """
import asyncio
import os

from django.conf import settings

settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF="project", MIDDLEWARE=[],
    ASGI_APPLICATION="project.application", INSTALLED_APPS=["djserve", "channels"],
    LOGGING={
        "version": 1, "disable_existing_loggers": False,
        "handlers": {"out": {"class": "logging.StreamHandler"}},
        "loggers": {"django.request": {"handlers": ["out"], "level": "ERROR",
                                       "propagate": False}},
    },
)

from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from djserve.handlers import get_asgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path, re_path
"""

VIEWS = '''
def view(request, name):
    fail(name)


async def aview(request, name):
    await asyncio.sleep(0)
    fail(name)


async def child(request, name):
    """In a task that the view waits for."""
    async def work():
        fail(name)
    await asyncio.gather(work())


def stream(request, name):
    def parts():
        yield b"begun"
        fail(name)
    return StreamingHttpResponse(parts())


async def astream(request, name):
    async def parts():
        yield b"begun"
        fail(name)
    return StreamingHttpResponse(parts())


async def raw_before(scope, receive, send):
    fail(scope["url_route"]["kwargs"]["name"])


async def raw_within(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    fail(scope["url_route"]["kwargs"]["name"])


class Handling(AsyncHttpConsumer):
    async def handle(self, body):
        fail(self.scope["url_route"]["kwargs"]["name"])


class Connecting(AsyncWebsocketConsumer):
    async def connect(self):
        fail(self.scope["url_route"]["kwargs"]["name"])


class Receiving(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        fail(self.scope["url_route"]["kwargs"]["name"])


class SyncConnecting(WebsocketConsumer):
    def connect(self):
        fail(self.scope["url_route"]["kwargs"]["name"])


class SyncReceiving(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        fail(self.scope["url_route"]["kwargs"]["name"])


urlpatterns = [
    path("pid/", lambda request: HttpResponse(str(os.getpid()))),
    path("view/<name>/", view), path("aview/<name>/", aview),
    path("child/<name>/", child),
    path("stream/<name>/", stream), path("astream/<name>/", astream),
]
alone = ProtocolTypeRouter({"http": get_asgi_application()})
application = alone if os.environ["ALONE"] else ProtocolTypeRouter({
    "http": URLRouter([
        path("raw-before/<name>/", raw_before), path("raw-within/<name>/", raw_within),
        path("handling/<name>/", Handling.as_asgi()),
        re_path("", get_asgi_application()),
    ]),
    "websocket": URLRouter([
        path("connecting/<name>/", Connecting.as_asgi()),
        path("receiving/<name>/", Receiving.as_asgi()),
        path("sync-connecting/<name>/", SyncConnecting.as_asgi()),
        path("sync-receiving/<name>/", SyncReceiving.as_asgi()),
    ]),
})
'''

PROJECT = SETTINGS + FAIL + VIEWS

EXCEPTIONS = [
    "ValueError",
    "GeneratorExit",
    "KeyboardInterrupt",
    "SystemExit",
    "CancelledError",
    "StopIteration",
    "StopAsyncIteration",
    "RecursionError",
    "MemoryError",
    "OwnBase",
    "group",
]
DJANGO = ["view", "aview", "child", "stream", "astream"]
BEFORE = ["view", "aview", "child", "raw-before", "handling"]
WITHIN = ["stream", "astream", "raw-within"]
REFUSED = ["connecting", "sync-connecting"]
CLOSED = ["receiving", "sync-receiving"]
OUTCOMES = {
    **dict.fromkeys(BEFORE, "500"),
    **dict.fromkeys(WITHIN, "broken off"),
    **dict.fromkeys(REFUSED, "500"),
    **dict.fromkeys(CLOSED, "1011"),
}


class Server:
    def __init__(self, folder: Path, alone: str) -> None:
        (folder / "project.py").write_text(PROJECT)
        self.is_alone = bool(alone)
        self.port = find_free_port()
        self.log = folder / "log"
        command = f"import project; from django.core.management import {CALL}"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"{command}; {RUN % self.port}"],
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "PYTHONUNBUFFERED": "1",
                    "ALONE": alone,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.wait_for("Listening on")
        self.pid = self.ask_for_pid()

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, start: int = 0) -> str:
        deadline = time.monotonic() + PATIENCE
        while text not in self.output()[start:]:
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.01)
        return self.output()[start:]

    def ask_for_pid(self) -> bytes:
        with connect(self.port) as sock:
            sock.sendall(b"GET /pid/ HTTP/1.0\r\nHost: a\r\n\r\n")
            return read_all(sock).rpartition(b"\r\n\r\n")[2]


CALL = "execute_from_command_line as call"
RUN = 'call(["manage.py", "runasgi", "--bind", "127.0.0.1:%d"])'


@pytest.fixture(scope="module", params=["routed", "alone"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Django's handler behind a router, and alone, where calls need no task."""
    alone = "yes" if request.param == "alone" else ""
    server = Server(tmp_path_factory.mktemp("exceptions"), alone)
    yield server
    server.process.terminate()
    assert server.process.wait(PATIENCE) == 0


def over_http1(server: Server, place: str, path: str) -> str:
    if place in CLOSED:
        with open_websocket(server.port, path) as sock:
            sock.sendall(ONE)
            return str(int.from_bytes(sock.recv(4, socket.MSG_WAITALL)[2:], "big"))
    if place in REFUSED:
        with ask_for_websocket(server.port, path) as sock:
            return read_head(sock)[9:12].decode()
    with connect(server.port) as sock:
        sock.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        status = read_head(sock)[9:12].decode()
        if place in BEFORE:
            # The connection is kept.
            sock.sendall(b"GET /pid/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert read_all(sock).endswith(server.pid)
            return status
        content = read_all(sock)
        assert b"begun" in content
        return "whole" if content.endswith(b"0\r\n\r\n") else "broken off"


def over_http2(server: Server, place: str, path: str) -> str:
    client = HTTP2Client(server.port)
    with client.sock:
        if place in REFUSED + CLOSED:
            stream_id = client.ask_for_websocket(path)
        else:
            stream_id = client.ask((":method", "GET"), (":path", path), is_whole=True)
        response = client.wait_for(stream_id, h2.events.ResponseReceived)
        status = dict(response.headers)[b":status"].decode()
        if place in CLOSED:
            client.h2.send_data(stream_id, ONE)
            client.flush()
            frame = client.wait_for(stream_id, h2.events.DataReceived).data
            return str(int.from_bytes(frame[2:4], "big"))
        ends = (h2.events.StreamEnded, h2.events.StreamReset)
        last = client.wait_for(stream_id, *ends)
        return "broken off" if isinstance(last, h2.events.StreamReset) else status


@pytest.mark.parametrize("protocol", [over_http1, over_http2])
@pytest.mark.parametrize("name", EXCEPTIONS)
@pytest.mark.parametrize("place", OUTCOMES)
def test_exception_has_its_outcome_and_one_traceback(
    server: Server, place: str, name: str, protocol: object
) -> None:
    if server.is_alone and place not in DJANGO:
        pytest.skip("nothing but Django there")
    start = len(server.output())
    path = f"/{place}/{name}/"

    outcome = protocol(server, place, path)  # type: ignore[operator]
    logged = server.wait_for(path, start)

    assert outcome == OUTCOMES[place]
    assert server.ask_for_pid() == server.pid
    logged = server.output()[start:]
    # Django says it in its own words where it has made the response.
    records = re.findall(
        r"^.*(?:Application (?:raised|broke)|Internal Server).*$", logged, re.M
    )
    assert len(records) == 1, logged
    assert "Traceback (most recent call last)" in logged
    assert "never retrieved" not in logged
