"""The table of faults in docs/explanation/behaviour.md, driven over real sockets."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]

# Each coroutine commits one fault; its docstring is the table's first column.
APPLICATION = '''
import asyncio
import inspect
import os
import tempfile

START = {"type": "http.response.start", "status": 200, "headers": []}
LENGTH_6 = {**START, "headers": [(b"content-length", b"6")]}
MORE = {"type": "http.response.body", "body": b"more", "more_body": True}
LAST = {"type": "http.response.body", "body": b"last"}


async def raise_before(receive, send):
    """raises an exception before the response"""
    raise ValueError("fault")


async def raise_within(receive, send):
    """raises an exception within the response"""
    await send(START)
    await send(MORE)
    raise ValueError("fault")


async def raise_after(receive, send):
    """raises an exception after the response"""
    await send(START)
    await send(LAST)
    raise ValueError("fault")


async def exit_process(receive, send):
    """raises SystemExit"""
    raise SystemExit(3)


async def cancel(receive, send):
    """lets its own CancelledError through"""
    task = asyncio.ensure_future(asyncio.sleep(10))
    task.cancel()
    await task


async def return_before(receive, send):
    """returns without a response"""


async def return_within(receive, send):
    """returns within the response"""
    await send(START)
    await send(MORE)


async def disorder(receive, send):
    """sends messages out of order"""
    await send(LAST)


async def send_again(receive, send):
    """sends a message after the response"""
    await send(START)
    await send(LAST)
    await send(LAST)


async def unknown(receive, send):
    """sends a message of an unknown type"""
    await send({"type": "http.response.unknown"})


async def bad_status(receive, send):
    """sends a status that is not an int from 200 to 999"""
    await send({**START, "status": "200"})


async def bad_headers(receive, send):
    """sends headers that are no pairs of bytes"""
    await send({**START, "headers": [("name", 1)]})
    await send(LAST)


async def split_header(receive, send):
    """sends a header with a control byte"""
    await send({**START, "headers": [(b"a", b"b\\r\\nset-cookie: c=d")]})
    await send(LAST)


async def bad_body(receive, send):
    """sends a body that is not bytes"""
    await send(START)
    await send({**LAST, "body": "text"})


async def too_much(receive, send):
    """sends more content than its Content-Length"""
    await send(LENGTH_6)
    await send(MORE)
    await send(LAST)


async def too_little(receive, send):
    """sends less content than its Content-Length"""
    await send(LENGTH_6)
    await send(MORE)
    await send({**LAST, "body": b"5"})


async def no_file(receive, send):
    """sends a file that does not exist"""
    await send(START)
    await send({"type": "http.response.pathsend", "path": "/nonexistent/file"})


async def shrinking_file(receive, send):
    """sends a file that is truncated while it is sent"""
    await send(START)
    with tempfile.TemporaryFile() as file:
        file.truncate(64 << 20)
        message = {"type": "http.response.zerocopysend", "file": file, "offset": 0}
        sending = asyncio.ensure_future(send(message))
        while "shrink" not in asked:
            await asyncio.sleep(0.01)
        file.truncate(10)
        ended.append("shrink")
        await sending


async def late(receive, send):
    """takes longer than `request_timeout` to begin"""
    await send(START)
    await asyncio.sleep(30)


async def go_on(receive, send):
    """keeps sending after the client has disconnected"""
    await send(START)
    while True:
        await send(MORE)
        await asyncio.sleep(0.01)


async def end_empty(receive, send):
    """sends the empty last message after the client has gone"""
    await send(START)
    await send(MORE)
    await receive()
    while (await receive())["type"] != "http.disconnect":
        pass
    await send({**LAST, "body": b""})


async def convert(receive, send):
    """turns the `OSError` of `send` into its own exception"""
    await send(START)
    try:
        while True:
            await send(MORE)
            await asyncio.sleep(0.01)
    except OSError:
        raise LookupFailed


class LookupFailed(Exception):
    pass


FAULTS = {fault.__doc__: fault for name, fault in list(globals().items())
          if inspect.iscoroutinefunction(fault)}
asked = set()
ended = []


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    title = scope["query_string"].decode().replace("+", " ")
    if scope["path"] == "/fault":
        try:
            await FAULTS[title](receive, send)
        finally:
            ended.append(title)
    else:
        asked.add(title)
        body = b"ended" if title in ended else b"running"
        await send(START)
        await send({**LAST, "body": "\\n".join(FAULTS).encode() if not title else body})
'''


def read_table() -> dict[str, tuple[str, str]]:
    """The documented outcomes: fault -> (what the client gets, what the log gets)."""
    text = (ROOT / "docs" / "explanation" / "behaviour.md").read_text()
    section = text.partition("### Faults of")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", section, re.M)
    return {fault: (client, log) for fault, client, log in rows[2:]}


TABLE = read_table()


class Server:
    """One process for the whole table: no fault may harm the next row."""

    def __init__(self, folder: Path) -> None:
        (folder / "faults.py").write_text(APPLICATION)
        self.log = folder / "log"
        command = [
            sys.executable,
            "-m",
            "djserve",
            "faults:app",
            "-p",
            "0",
            "-t",
            "3",
        ]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT
            )
        self.port = self._wait_for_port()

    def _wait_for_port(self) -> int:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", self.output()):
                return int(found[1])
            time.sleep(0.05)
        pytest.fail(f"No address in the server's output:\n{self.output()}")

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 120)

    def ask(self, query: str = "") -> str:
        with self.connect() as client:
            client.sendall(request("/ask", query, b"Connection: close\r\n"))
            return receive_all(client).partition(b"\r\n\r\n")[2].decode()

    def wait_until_ended(self, fault: str) -> None:
        deadline = time.monotonic() + 120
        while self.ask(fault) != "ended":
            assert time.monotonic() < deadline, f"The call did not end: {fault}"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("faults"))
    yield server
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(120) == 0


def request(path: str, query: str = "", fields: bytes = b"") -> bytes:
    target = f"{path}?{query.replace(' ', '+')}".encode()
    return b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"


def receive_all(client: socket.socket) -> bytes:
    data = b""
    while chunk := client.recv(1 << 20):
        data += chunk
    return data


def receive_response(client: socket.socket) -> tuple[int, bytes]:
    """Read one response that has a Content-Length; return status and content."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = client.recv(65536)
        assert chunk, data
        data += chunk
    head, _, content = data.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    assert found, head
    while len(content) < int(found[1]):
        content += client.recv(65536)
    return int(head[9:12]), content


def is_complete(data: bytes) -> bool:
    head, _, content = data.partition(b"\r\n\r\n")
    if found := re.search(rb"content-length: (\d+)", head):
        return len(content) >= int(found[1])
    return content.endswith(b"0\r\n\r\n")


def commit(server: Server, fault: str) -> str:
    """Commit a fault as a client that is still there; return what the client got."""
    with server.connect() as client:
        client.sendall(request("/fault", fault))
        if "aborted" in TABLE[fault][0]:
            data = client.recv(12)
            if "truncated" in fault:
                # Far more is to come than fits between the server and this client.
                server.wait_until_ended("shrink")
            data += receive_all(client)
            assert data.startswith(b"HTTP/1.1 200 OK\r\n")
            return "an aborted response" if not is_complete(data) else "whole"
        status, content = receive_response(client)
        client.sendall(request("/ask"))
        assert receive_response(client)[0] == 200
        answer = "the response" if content == b"last" else str(status)
        return f"{answer}; the connection is kept"


def leave(server: Server, fault: str) -> str:
    """Commit a fault as a client that goes after the first bytes."""
    with server.connect() as client:
        client.sendall(request("/fault", fault))
        assert client.recv(12) == b"HTTP/1.1 200"
    return "nothing, it has gone"


def logged_since(server: Server, start: int) -> str:
    """What the log got: nothing, or one entry with or without a traceback."""
    text = server.output()[start:]
    faults = len(re.findall(r"^.*Application .* in GET /fault$", text, re.M))
    assert text.count("ERROR") == faults, text
    assert "never retrieved" not in text, text
    if text.count("Answered GET /fault with 503: ") == 1:
        return "one line"
    if not faults:
        return "nothing"
    assert faults == 1, text
    is_trace = "Traceback (most recent call last)" in text
    return "one traceback" if is_trace else "one line"


def test_table_and_application_have_the_same_faults(server: Server) -> None:
    assert sorted(server.ask().split("\n")) == sorted(TABLE)


@pytest.mark.parametrize("fault", TABLE)
def test_fault_has_its_documented_outcome(server: Server, fault: str) -> None:
    start = len(server.output())
    client = (leave if "gone" in TABLE[fault][0] else commit)(server, fault)
    server.wait_until_ended(fault)

    assert (client, logged_since(server, start)) == TABLE[fault]
