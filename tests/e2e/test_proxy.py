"""nginx, HAProxy and Caddy, by deploy/machines/, before two servers and Redis."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
import websockets.sync.client

from tests.conftest import find_free_port, find_program, server_starter
from tests.e2e.workers import DEADLINE, wait_for
from tests.support.waiting import can_connect

pytestmark = pytest.mark.e2e

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "machines"

# A chat of one room: what one says is heard by all, on whichever server they are.
# The first message tells which server it is.
APPLICATION = """
import json
import os

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from django.conf import settings

settings.configure(
    SECRET_KEY="only for a test",
    ALLOWED_HOSTS=["*"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # Without it Redis' client gives up when the layer's reads of 5 seconds do.
            "CONFIG": {
                "hosts": [{"address": os.environ["REDIS"], "socket_timeout": None}]
            },
        }
    },
)

import django

django.setup()


class Chat(AsyncWebsocketConsumer):
    async def connect(self):
        await self.channel_layer.group_add("room", self.channel_name)
        await self.accept()
        await self.send(os.environ["NAME"])

    async def disconnect(self, code):
        await self.channel_layer.group_discard("room", self.channel_name)

    async def receive(self, text_data=None, bytes_data=None):
        await self.channel_layer.group_send(
            "room", {"type": "said", "text": text_data}
        )

    async def said(self, event):
        await self.send(event["text"])


async def tell(scope, receive, send):
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = json.dumps(
        {
            "client": scope["client"][0],
            "scheme": scope["scheme"],
            "server": os.environ["NAME"],
            "request_id": headers.get("x-request-id", ""),
        }
    ).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


application = ProtocolTypeRouter({"http": tell, "websocket": Chat.as_asgi()})
"""


@contextmanager
def running(words: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a program until the end of the block, once its port is open."""
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output)
    try:
        wait_for(lambda: can_connect(port) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE)


class Pair:
    """Two servers: their processes, their ports, and those of their metrics."""

    def __init__(self, servers: list[Any], ports: list[int], health: list[int]) -> None:
        self.servers = servers
        self.ports = ports
        self.health = health


@contextmanager
def running_pair(folder: Path, *options: str) -> Iterator[Pair]:
    """Run two servers that share one Redis."""
    (folder / "app.py").write_text(APPLICATION)
    shared, one, two, *health = [find_free_port() for _ in range(5)]
    words = [find_program("redis-server"), "--port", str(shared), "--save", ""]
    redis = running([*words, "--dir", str(folder)], shared, folder / "redis.log")
    with redis, server_starter(folder) as start:
        servers = [
            start(
                *("-m", "djserve", "app:application", "--workers", "2"),
                *("--bind", f"127.0.0.1:{port}", "--lifespan", "off"),
                *("--metrics-bind", f"127.0.0.1:{probe}"),
                *("--websocket-drain-time", "0.5"),
                *options,
                port=port,
                cwd=folder,
                env={
                    "DJANGO_SETTINGS_MODULE": "",
                    "NAME": name,
                    "REDIS": f"redis://127.0.0.1:{shared}/0",
                },
            )
            for name, port, probe in zip("ab", (one, two), health, strict=True)
        ]
        for server in servers:
            server.wait_for("Supervisor")
        yield Pair(servers, [one, two], health)


def adapt(name: str, front: int, pair: Pair, folder: Path) -> Path:
    """Copy a file with the ports of this test in the place of its own."""
    text = (DEPLOY / name).read_text()
    text = re.sub(r"\b8080\b", str(front), text)
    for old, new in zip((8001, 8002), pair.ports, strict=True):
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    for old, new in zip((9001, 9002), pair.health, strict=True):
        text = text.replace(f"port {old}", f"port {new}")
    text = text.replace("/run/nginx.pid", str(folder / "nginx.pid"))
    text = text.replace("example.com {", f"http://127.0.0.1:{front} {{")
    path = folder / name
    path.write_text(text)
    return path


@contextmanager
def running_nginx(folder: Path) -> Iterator[tuple[int, Pair]]:
    """Run nginx in front of two servers that believe its headers."""
    with running_pair(folder, "--proxy-headers") as pair:
        front = find_free_port()
        path = adapt("nginx.conf", front, pair, folder)
        words = [find_program("nginx"), "-c", str(path), "-p", str(folder)]
        options = f"daemon off; error_log {folder}/error.log;"
        with running([*words, "-g", options], front, folder / "nginx.log"):
            wait_for_both(front)
            yield front, pair


@contextmanager
def running_haproxy(folder: Path) -> Iterator[tuple[int, Pair]]:
    """Run HAProxy in front of two servers that take the PROXY protocol."""
    with running_pair(folder, "--proxy-protocol") as pair:
        front = find_free_port()
        path = adapt("haproxy.cfg", front, pair, folder)
        words = [find_program("haproxy"), "-db", "-f", str(path)]
        with running(words, front, folder / "haproxy.log"):
            wait_for_both(front)
            yield front, pair


@contextmanager
def running_caddy(folder: Path) -> Iterator[tuple[int, Pair]]:
    """Run Caddy in front of two servers that tell their health at their address."""
    options = ("--proxy-headers", "--metrics-path", "/metrics")
    with running_pair(folder, *options) as pair:
        front = find_free_port()
        path = adapt("Caddyfile", front, pair, folder)
        # The other tests' Caddy would want the same port for its administration.
        path.write_text("{\n\tadmin off\n}\n" + path.read_text())
        words = ["env", f"HOME={folder}", f"XDG_DATA_HOME={folder}"]
        words += [find_program("caddy"), "run", "--adapter", "caddyfile"]
        with running([*words, "--config", str(path)], front, folder / "caddy.log"):
            wait_for_both(front)
            yield front, pair


def wait_for_both(front: int) -> None:
    """Return once the proxy sends requests to either server."""
    wait_for(lambda: len({ask(front)["server"] for _ in range(4)}) == 2)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Pair]]:
    with running_nginx(tmp_path_factory.mktemp("nginx")) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def caddy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Pair]]:
    """For tests that leave both servers running."""
    with running_caddy(tmp_path_factory.mktemp("caddy")) as proxy:
        yield proxy


@pytest.fixture
def own_caddy(tmp_path: Path) -> Iterator[tuple[int, Pair]]:
    with running_caddy(tmp_path) as proxy:
        yield proxy


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[tuple[int, Pair]]:
    with running_haproxy(tmp_path) as proxy:
        yield proxy


def ask(port: int, **headers: str) -> dict[str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers=headers)
    with urllib.request.urlopen(request, timeout=DEADLINE) as response:
        answer: dict[str, str] = json.loads(response.read())
    return answer


def connect(port: int) -> websockets.sync.client.ClientConnection:
    return websockets.sync.client.connect(
        f"ws://127.0.0.1:{port}/", open_timeout=DEADLINE
    )


def test_nginx_tells_the_client_and_names_the_request(nginx: tuple[int, Pair]) -> None:
    front, _ = nginx
    answer = ask(front, **{"X-Forwarded-For": "203.0.113.9"})

    assert answer["client"] == "203.0.113.9"
    assert re.fullmatch(r"[0-9a-f]{32}", answer["request_id"])


def test_message_crosses_from_one_server_to_the_other_behind_nginx(
    nginx: tuple[int, Pair],
) -> None:
    front, pair = nginx
    first, second = pair.ports
    with connect(first) as one, connect(second) as two, connect(front) as third:
        names = [client.recv(timeout=DEADLINE) for client in (one, two, third)]
        one.send("hello")

        assert names[:2] == ["a", "b"]
        assert two.recv(timeout=DEADLINE) == "hello"
        assert third.recv(timeout=DEADLINE) == "hello"


def ask_from(host: str, port: int, path: str = "/", head: str = "") -> bytes:
    """Return the whole answer to a request that comes from another address."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{head}"
    with socket.create_connection(
        ("127.0.0.1", port), DEADLINE, source_address=(host, 0)
    ) as client:
        client.sendall(request.encode() + b"Connection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_message_crosses_behind_caddy(caddy: tuple[int, Pair]) -> None:
    front, pair = caddy
    with connect(pair.ports[0]) as one, connect(front) as other:
        one.recv(timeout=DEADLINE)
        other.recv(timeout=DEADLINE)
        one.send("hello")

        assert other.recv(timeout=DEADLINE) == "hello"


def test_haproxy_tells_the_client_by_the_proxy_protocol(
    haproxy: tuple[int, Pair],
) -> None:
    front, _ = haproxy

    assert b'"client": "127.0.0.7"' in ask_from("127.0.0.7", front)


def test_caddy_tells_the_client_and_names_the_request(caddy: tuple[int, Pair]) -> None:
    front, _ = caddy
    answer = ask_from("127.0.0.7", front, head="X-Forwarded-For: 203.0.113.9\r\n")

    assert b'"client": "127.0.0.7"' in answer
    assert re.search(rb'"request_id": "[0-9a-f]{8}-[0-9a-f-]{27}"', answer)


def test_caddy_keeps_metrics_and_health_inside(caddy: tuple[int, Pair]) -> None:
    front, pair = caddy

    assert ask_from("127.0.0.1", front, "/metrics").startswith(b"HTTP/1.1 404 ")
    inside = ask_from("127.0.0.1", pair.ports[1], "/readyz")
    assert inside.startswith(b"HTTP/1.1 200 ")


def connect_to(name: str, front: int) -> websockets.sync.client.ClientConnection:
    """Connect through the proxy until it has chosen this server."""
    others = []
    for _ in range(20):
        client = connect(front).__enter__()
        if client.recv(timeout=DEADLINE) == name:
            break
        # Closed later: the proxy chooses the server with the fewest connections.
        others.append(client)
    else:
        pytest.fail(f"the proxy never chose {name}")
    for other in others:
        other.close()
    return client


class Listener:
    """A user who comes back when the server says so, and keeps what was heard."""

    def __init__(self, client: websockets.sync.client.ClientConnection, front: int):
        self._client = client
        self._front = front
        self.heard: list[list[int]] = [[]]
        self.codes: list[int | None] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self.codes or self.codes[-1] == 1012:
            try:
                while True:
                    self.heard[-1].append(int(self._client.recv(timeout=DEADLINE)))
            except websockets.exceptions.ConnectionClosed as error:
                self.codes.append(error.rcvd.code if error.rcvd else None)
            if self.codes[-1] == 1012:
                self._client = connect_to("b", self._front)
                self.heard.append([])

    def end(self) -> None:
        self._client.close()
        self._thread.join(DEADLINE)


def test_drained_server_loses_no_message_behind_haproxy(
    haproxy: tuple[int, Pair],
) -> None:
    front, pair = haproxy
    speaker = connect_to("b", front)
    steady = Listener(connect_to("b", front), front)
    moved = Listener(connect_to("a", front), front)
    sent: list[int] = []

    def speak_until(condition: Callable[[], object]) -> None:
        def speak_on() -> object:
            # The layer drops what its listeners are too slow for.
            if steady.heard[-1][-1:] == sent[-1:]:
                sent.append(len(sent))
                speaker.send(str(sent[-1]))
            return condition()

        wait_for(speak_on, interval=0.01)

    speak_until(lambda: len(sent) == 100)
    pair.servers[0].process.terminate()
    speak_until(lambda: len(moved.heard) == 2 and len(moved.heard[1]) >= 50)
    wait_for(lambda: steady.heard[-1][-1:] == sent[-1:] == moved.heard[-1][-1:])
    for client in (steady, moved):
        client.end()
    speaker.close()

    assert steady.heard == [sent]
    assert moved.codes[0] == 1012
    for heard in moved.heard:
        # Nothing is missing from the first to the last that a connection has heard.
        assert heard == list(range(heard[0], heard[-1] + 1))
    assert len(moved.heard) == 2
    assert pair.servers[0].process.wait(DEADLINE) == 0


@pytest.mark.parametrize("proxy", ["haproxy", "own_caddy"], ids=["haproxy", "caddy"])
def test_requests_through_a_proxy_do_not_fail_while_a_server_stops(
    proxy: str, request: pytest.FixtureRequest
) -> None:
    front, pair = request.getfixturevalue(proxy)
    answers = [ask(front)["server"] for _ in range(20)]
    pair.servers[0].process.terminate()

    def has_ended() -> bool:
        answers.append(ask(front)["server"])
        return pair.servers[0].process.poll() is not None

    wait_for(has_ended, interval=0.01)
    assert set(answers) == {"a", "b"}
    assert {ask(front)["server"] for _ in range(20)} == {"b"}
