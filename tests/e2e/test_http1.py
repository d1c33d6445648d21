"""HTTP/1.1 over real sockets: independent clients, large bodies, slow peers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from tests.conftest import find_program

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
UPLOAD_SIZE = 256 * MIB
MEMORY_LIMIT = 16 * MIB

APPLICATION = """
import asyncio
from contextvars import ContextVar

disconnects = 0
former = ContextVar("former", default="nothing")


async def app(scope, receive, send):
    global disconnects
    if scope["type"] == "lifespan":
        raise NotImplementedError
    query = scope["query_string"].decode()
    if scope["path"] == "/echo":
        await respond(send, await read(receive))
    elif scope["path"] == "/count":
        await respond(send, b"%d" % await count(receive, float(query or 0)))
    elif scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200})
        try:
            for _ in range(int(query)):
                await send_part(send, b"x" * 65536, True)
        except OSError:
            disconnects += 1
            raise
        await send_part(send, b"", False)
    elif scope["path"] == "/scope":
        await respond(send, repr((scope["client"], scope["server"], scope["scheme"],
                                  sorted(scope["extensions"]))).encode())
    elif scope["path"] == "/context":
        seen = former.get()
        former.set(query)
        await read(receive)
        await respond(send, seen.encode())
    elif scope["path"] == "/disconnects":
        await respond(send, b"%d" % disconnects)
    else:
        await respond(send, scope["path"].encode())


async def read(receive):
    content = b""
    while True:
        message = await receive()
        content += message.get("body", b"")
        if not message.get("more_body"):
            return content


async def count(receive, delay):
    size = pending = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        pending += len(message.get("body", b""))
        if delay and pending > 1 << 22:
            pending = 0
            await asyncio.sleep(delay)
        if not message.get("more_body"):
            return size


async def respond(send, content):
    await send({"type": "http.response.start", "status": 200})
    await send_part(send, content, False)


async def send_part(send, content, more):
    await send({"type": "http.response.body", "body": content, "more_body": more})
"""


class Server:
    """The djserve command in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "site_app.py").write_text(APPLICATION)
        self.unix_path = str(folder / "socket")
        self.log = folder / "log"
        bind = ("-b", "127.0.0.1:0", "-b", f"unix:{self.unix_path}")
        command = [sys.executable, "-m", "djserve", "site_app:app", *bind, *options]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT
            )
        self.scheme, self.port = self._wait_for_address()
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"

    def _wait_for_address(self) -> tuple[str, int]:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"(https?)://127\.0\.0\.1:(\d+)/", self.output()):
                return found[1], int(found[2])
            time.sleep(0.05)
        pytest.fail(f"No address in the server's output:\n{self.output()}")

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(120) == 0, self.output()
        assert "Traceback" not in self.output()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 120)

    def peak_memory(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    size = str(2 * UPLOAD_SIZE)
    server = Server(tmp_path_factory.mktemp("http1"), "--body-size-limit", size)
    yield server
    server.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Give ``start(*options)``: a server of the test's own."""
    started: list[Server] = []

    def start_one(*options: str) -> Server:
        started.append(Server(tmp_path / f"server-{len(started)}", *options))
        return started[-1]

    yield start_one
    for server in started:
        server.stop()


def receive_all(client: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(65536):
            data += chunk
    return data


def curl(*arguments: str, content: bytes = b"") -> bytes:
    command = [find_program("curl"), "-sS", "--max-time", "120", *arguments]
    return subprocess.run(
        command, input=content, capture_output=True, check=True, timeout=300
    ).stdout


# Clients.


def test_httpx_gets_posts_and_streams(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=120) as client:
        assert client.get("/path").text == "/path"
        assert client.post("/echo", content=b"x" * 100_000).content == b"x" * 100_000
        parts = (b"part" * 1000 for _ in range(50))
        assert client.post("/echo", content=parts).content == b"part" * 50_000
        assert len(client.get("/stream?20").content) == 20 * 65536


def test_http_client_keeps_its_connection(server: Server) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    client.connect()
    local = client.sock.getsockname()
    for number in range(5):
        client.request("POST", "/echo", body=b"%d" % number)
        assert client.getresponse().read() == b"%d" % number
    assert client.sock.getsockname() == local
    client.close()


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl_uploads_and_downloads(server: Server, version: str) -> None:
    content = os.urandom(2 * MIB)

    echoed = curl(version, "--data-binary", "@-", f"{server.url}/echo", content=content)
    assert echoed == content
    assert len(curl(version, f"{server.url}/stream?10")) == 10 * 65536


def test_curl_waits_for_continue(server: Server) -> None:
    # Without the interim response it would wait longer than it may take in all.
    waits = ("--expect100-timeout", "600", "-H", "Expect: 100-continue", "-i")
    answer = curl(*waits, "--data-binary", "@-", f"{server.url}/echo", content=b"abc")

    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_curl_over_a_unix_socket(server: Server) -> None:
    answer = curl("--unix-socket", server.unix_path, "http://localhost/scope").decode()

    assert answer.startswith(f"(None, ({server.unix_path!r}, None), 'http'")


def test_pipelined_requests_come_back_in_order(server: Server) -> None:
    requests = [
        b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(200)
    ]
    requests.append(b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    with server.connect() as client:
        client.sendall(b"".join(requests))
        answer = receive_all(client)

    bodies = re.findall(rb"\r\n\r\n(/[0-9a-z]+)", answer)
    assert bodies == [*(b"/%d" % number for number in range(200)), b"/end"]


def test_requests_of_a_connection_share_no_context(server: Server) -> None:
    with server.connect() as client:
        # Each head comes with or after the content of the request before.
        client.sendall(
            upload_head("/context?first", 4 * MIB)
            + bytes(4 * MIB)
            + b"GET /context?second HTTP/1.1\r\nHost: a\r\n\r\n"
            + b"GET /context?third HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        answers = receive_all(client)
    assert answers.count(b"nothing") == 3, answers


def test_a_hundred_clients_at_once(server: Server) -> None:
    async def drive() -> list[str]:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        async with httpx.AsyncClient(
            base_url=server.url, limits=limits, timeout=120
        ) as client:

            async def ask(number: int) -> str:
                texts = [(await client.get(f"/{number}")).text for _ in range(5)]
                return texts[-1]

            return await asyncio.gather(*[ask(number) for number in range(100)])

    # Debug mode would make the clients slow, and says nothing of the server.
    assert asyncio.run(drive(), debug=False) == [f"/{number}" for number in range(100)]


# TLS.


def test_tls(start: Callable[..., Server], tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    server = start("--certfile", str(tmp_path / "pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with httpx.Client(base_url=server.url, verify=context, timeout=120) as client:
        assert "'https'" in client.get("/scope").text
        assert client.post("/echo", content=b"x" * MIB).content == b"x" * MIB
        assert len(client.get("/stream?40").content) == 40 * 65536


def test_early_response_over_tls_can_be_read(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    server = start("--certfile", str(tmp_path / "pem"), "--body-size-limit", "1000")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with context.wrap_socket(server.connect(), server_hostname="127.0.0.1") as client:
        client.sendall(upload_head("/any", 400_000) + b"x" * 400_000)

        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_tls_bytes_on_a_plain_port_are_refused(server: Server) -> None:
    context = ssl.create_default_context()
    with server.connect() as client, pytest.raises(ssl.SSLError):
        context.wrap_socket(client, server_hostname="127.0.0.1")


# Memory.


def upload_head(path: str, size: int, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {size}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def test_upload_to_a_slow_application_takes_no_memory(server: Server) -> None:
    httpx.post(f"{server.url}/count", content=b"x" * 4 * MIB, timeout=120)
    before = server.peak_memory()
    piece = b"x" * MIB
    with server.connect() as client:
        client.settimeout(120)
        head = upload_head("/count?0.01", UPLOAD_SIZE, "Connection: close")
        client.sendall(head)
        for _ in range(UPLOAD_SIZE // MIB):
            client.sendall(piece)
        assert receive_all(client).endswith(b"\r\n\r\n%d" % UPLOAD_SIZE)

    assert server.peak_memory() - before < MEMORY_LIMIT


def test_download_by_a_slow_reader_takes_no_memory(server: Server) -> None:
    httpx.get(f"{server.url}/stream?64", timeout=120)
    before = server.peak_memory()
    parts, size = UPLOAD_SIZE // 65536, 0
    with server.connect() as client:
        client.settimeout(120)
        client.sendall(
            b"GET /stream?%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % parts
        )
        while chunk := client.recv(MIB):
            if size // (8 * MIB) != (size + len(chunk)) // (8 * MIB):
                time.sleep(0.02)
            size += len(chunk)

    assert size > UPLOAD_SIZE
    assert server.peak_memory() - before < MEMORY_LIMIT


def test_pipelining_without_reading_takes_no_memory(server: Server) -> None:
    before = server.peak_memory()
    request = b"GET /" + b"a" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    with server.connect() as client:
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            for _ in range(64):
                client.sendall(request * 5000)

    assert server.peak_memory() - before < MEMORY_LIMIT


# Early ends.


def test_response_before_the_end_of_the_content_can_be_read(server: Server) -> None:
    size = 8 * MIB
    with server.connect() as client:
        client.sendall(upload_head("/early", size, "Connection: close"))
        client.sendall(b"x" * size)

        assert receive_all(client).endswith(b"\r\n\r\n/early")


def test_refusal_can_be_read_by_a_client_that_goes_on_sending(
    start: Callable[..., Server],
) -> None:
    server = start("--body-size-limit", "1000")
    size = 8 * MIB
    with server.connect() as client:
        client.sendall(upload_head("/any", size))
        client.sendall(b"x" * size)

        assert receive_all(client).startswith(b"HTTP/1.1 413 ")


def test_connection_goes_on_after_little_unread_content(server: Server) -> None:
    with server.connect() as client:
        client.sendall(upload_head("/early", 100_000))
        assert client.recv(4096).endswith(b"/early")
        client.sendall(b"x" * 100_000)
        client.sendall(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")

        assert client.recv(4096).endswith(b"/next")


# Slow and silent peers.


def test_slow_peers_are_ended(start: Callable[..., Server]) -> None:
    server = start("--header-timeout", "0.5", "--keep-alive-timeout", "0.5")
    # What they send is there when it accepts them, however long that takes here.
    server.process.send_signal(signal.SIGSTOP)
    with server.connect() as silent, server.connect() as late, server.connect() as idle:
        late.sendall(b"GET / HT")
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        began = time.monotonic()
        server.process.send_signal(signal.SIGCONT)

        assert receive_all(silent) == b""
        assert receive_all(late).startswith(b"HTTP/1.1 408 ")
        assert receive_all(idle).startswith(b"HTTP/1.1 200 ")
    # Before the timeouts that the server has by default.
    assert time.monotonic() - began < 10


def test_slow_content_is_refused(start: Callable[..., Server]) -> None:
    server = start("--body-timeout", "0.3", "--body-min-rate", "1000")
    with server.connect() as client:
        client.sendall(upload_head("/count", 1000) + b"x")

        assert receive_all(client).startswith(b"HTTP/1.1 408 ")


def test_reader_that_stalls_is_dropped(start: Callable[..., Server]) -> None:
    server = start("--write-timeout", "0.3")
    with server.connect() as client:
        client.sendall(b"GET /stream?10000 HTTP/1.1\r\nHost: a\r\n\r\n")
        deadline = time.monotonic() + 120
        while httpx.get(f"{server.url}/disconnects", timeout=120).text != "1":
            assert time.monotonic() < deadline
            time.sleep(0.05)
