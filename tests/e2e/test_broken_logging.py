"""A filter of the project's that raises for what djserve logs: each client is answered.

It is asked for every line, in the middle of what djserve does about it: to answer for
a fault, to refuse a request, to note the end of a response in the access log.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.conftest import ServerProcess, find_free_port, server_starter
from tests.e2e.clients import ONE, connect, open_websocket, read_all
from tests.support.exceptions import FAIL

pytestmark = pytest.mark.e2e

APPLICATION = (
    FAIL
    + """
import logging
import os
import re


class Broken(logging.Filter):
    def filter(self, record):
        found = re.search("/log/([A-Za-z]+)", record.getMessage())
        if found:
            fail(found[1])
        return True


handler = logging.StreamHandler()
handler.addFilter(Broken())
logging.getLogger().addHandler(handler)
logging.getLogger("djserve.access").addHandler(handler)
logging.getLogger("djserve.access").propagate = False


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
    if scope["path"].endswith("/fault"):
        raise LookupError("planned fault")
    await send({"type": "http.response.start", "status": 200})
    if scope["path"].endswith("/within"):
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise LookupError("planned fault")
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""
)

EXCEPTIONS = ["ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("logging")
    (folder / "site_of_logging.py").write_text(APPLICATION)
    port = find_free_port()
    with server_starter(folder) as start:
        arguments = ("-m", "djserve", "site_of_logging:app", "--bind")
        yield start(*arguments, f"127.0.0.1:{port}", port=port, cwd=folder)


def ask(server: ServerProcess, path: str, method: str = "GET") -> bytes:
    with connect(server.port) as sock:
        text = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        sock.sendall(text.encode())
        return read_all(sock)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_filter_that_raises_keeps_no_client_from_its_answer(
    server: ServerProcess, name: str
) -> None:
    pid = b"\r\n\r\n%d" % server.process.pid

    assert ask(server, f"/log/{name}").endswith(pid)
    assert ask(server, f"/log/{name}/fault").startswith(b"HTTP/1.1 500 ")
    assert not ask(server, f"/log/{name}/within").endswith(b"0\r\n\r\n")
    assert ask(server, f"/log/{name}", "CONNECT").startswith(b"HTTP/1.1 501 ")
    with open_websocket(server.port, f"/log/{name}/fault") as sock:
        sock.sendall(ONE)
        assert sock.recv(4, socket.MSG_WAITALL) == b"\x88\x02\x03\xf3"
    assert ask(server, "/").endswith(pid)

    log = server.output
    assert f"{name}: planned" in log
    assert "LookupError: planned fault" in log
