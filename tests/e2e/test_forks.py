"""Views that fork: what the children keep of the server, and what it feels of them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import connect, open_websocket, read_all
from tests.e2e.workers import wait_for

pytestmark = pytest.mark.e2e

PROJECT = '''
import multiprocessing
import os
import signal

from django.conf import settings

settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF="project", MIDDLEWARE=[],
    ASGI_APPLICATION="project.application", INSTALLED_APPS=["djserve"],
)

import django
from django.http import HttpResponse, JsonResponse
from django.urls import path
from djserve.handlers import get_asgi_application


def live():
    """Be a process that runs until the test lets it go."""
    with open(f"child-{os.getpid()}", "w"):
        pass
    open("gate").close()


def double_fork():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        daemon = os.fork()
        if daemon == 0:
            live()
        else:
            os.write(writer, b"%d" % daemon)
        os._exit(0)
    os.waitpid(pid, 0)
    daemon = int(os.read(reader, 100))
    os.close(reader)
    os.close(writer)
    return daemon


def start_process():
    process = multiprocessing.get_context("fork").Process(target=live)
    process.start()
    kept.append(process)
    return process.pid


kept = []
WAYS = {"double-fork": double_fork, "multiprocessing": start_process}


def start(request, way):
    return JsonResponse({"pid": WAYS[way]()})


async def astart(request, way):
    return JsonResponse({"pid": WAYS[way]()})


def stray(request):
    return HttpResponse(str(os.fork()))


async def astray(request):
    return HttpResponse(str(os.fork()))


def stray_exit(request):
    pid = os.fork()
    if pid == 0:
        raise SystemExit(0)
    return HttpResponse(str(pid))


urlpatterns = [
    path("sync/<way>", start), path("async/<way>", astart),
    path("stray/sync", stray), path("stray/async", astray),
    path("stray/exit", stray_exit),
    path("", lambda request: HttpResponse("alive")),
]
django.setup()
asgi = get_asgi_application()


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    else:
        await asgi(scope, receive, send)
'''


def ask(port: int, path: str = "/") -> bytes:
    """Return a response's content, which the end of the connection delimits."""
    with connect(port) as sock:
        sock.sendall(b"GET %s HTTP/1.0\r\nHost: a\r\n\r\n" % path.encode())
        head, _, content = read_all(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return content


class Children:
    """What a view has started; let go at the test's end."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self.pids: list[int] = []

    def start(self, way: str) -> int:
        content = ask(self._port, f"/{way}")
        self.pids.append(int(content.partition(b":")[2].strip(b" }")))
        pid = self.pids[-1]
        wait_for((self._folder / f"child-{pid}").exists)
        return pid

    def is_running(self, pid: int) -> bool:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] != "Z"

    def has_ended(self, pid: int) -> bool:
        return not self.is_running(pid)

    def end(self, pid: int, number: int = signal.SIGTERM) -> None:
        os.kill(pid, number)
        wait_for(lambda: self.has_ended(pid))


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The event loop's name; in the folder no other can be imported."""
    name: str = request.param
    if name == "uvloop":
        pytest.importorskip("uvloop")
    else:
        (tmp_path / "uvloop.py").write_text("raise ImportError('not wanted')\n")
    return name


@pytest.fixture(params=["1", "2"], ids=["alone", "supervised"])
def server(
    request: pytest.FixtureRequest,
    loop: str,
    start_server: Callable[..., Any],
    tmp_path: Path,
    free_port: int,
) -> Any:
    (tmp_path / "project.py").write_text(PROJECT)
    os.mkfifo(tmp_path / "gate")
    words = ["-m", "djserve", "project:application", "--verbosity", "2"]
    words += ["--bind", f"127.0.0.1:{free_port}", "--workers", request.param]
    words += ["--shutdown-timeout", "120"]
    server = start_server(*words, port=free_port, cwd=tmp_path)
    server.wait_for(loop)
    return server


@pytest.fixture
def children(server: Any, tmp_path: Path) -> Iterator[Children]:
    children = Children(tmp_path, server.port)
    yield children
    for pid in children.pids:
        if children.is_running(pid):
            children.end(pid, signal.SIGKILL)


@pytest.mark.parametrize("way", ["sync/double-fork", "async/multiprocessing"])
def test_child_takes_neither_signals_nor_the_port(
    server: Any, children: Children, way: str
) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        children.end(children.start(way), number)
        assert ask(server.port) == b"alive"
    assert "Stopping" not in server.output
    pid = children.start(way)
    with open_websocket(server.port):
        assert ask(server.port) == b"alive"

    server.process.send_signal(signal.SIGTERM)
    if way.endswith("multiprocessing"):
        # The server's process waits for this one at its own end.
        wait_for(lambda: not server._accepts())
    else:
        assert server.process.wait(120) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), 60)
    assert children.is_running(pid)


def test_clients_see_the_end_of_connections_that_were_open_at_the_fork(
    server: Any, children: Children
) -> None:
    with connect(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sock.recv(65536).endswith(b"alive")
        pid = children.start("sync/double-fork")
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_all(sock).endswith(b"alive")
    assert children.is_running(pid)


def test_child_that_returns_to_the_server_is_ended(
    server: Any, children: Children
) -> None:
    for kind in ("sync", "async", "exit"):
        pid = int(ask(server.port, f"/stray/{kind}"))
        wait_for(partial(children.has_ended, pid))
        assert ask(server.port) == b"alive"

    assert server.output.count("returned to the server and is ended") >= 2
    assert server.stop() == 0
