"""What a client sends while the server ends: dropped, and not answered by a reset.

The client here sends it once the server's last word has arrived, so that both cross for
certain, and reads that word only afterwards: a reset would have taken it away.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})
"""
LATE_SIZE = 200_000

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
PING = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"12345678"
DATA_WITHOUT_A_STREAM = bytes(9)
GOAWAY_TYPE = 7

# The loops differ in how they close TLS; asyncio's stands in where uvloop is missing.
START = {
    "uvloop": ["-m", "djserve"],
    "asyncio": [
        "-c",
        "import runpy, sys; sys.modules['uvloop'] = None; "
        "runpy.run_module('djserve', run_name='__main__', alter_sys=True)",
    ],
}

Connect = Callable[[str], ssl.SSLSocket]


@pytest.fixture(params=START)
def connect(
    request: pytest.FixtureRequest,
    start_server: Callable[..., object],
    free_port: int,
    tmp_path: Path,
) -> Connect:
    """Give ``connect(protocol)``: a TLS connection to a server of small contents."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    (tmp_path / "site_app.py").write_text(APPLICATION)
    command = [*START[request.param], "site_app:app"]
    options = ["-b", f"127.0.0.1:{free_port}", "--certfile", "cert.pem"]
    options += ["--body-size-limit", "1000"]
    path = os.pathsep.join([str(ROOT), "."])
    start_server(
        *command, *options, port=free_port, cwd=tmp_path, env={"PYTHONPATH": path}
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def connect(protocol: str) -> ssl.SSLSocket:
        context.set_alpn_protocols([protocol])
        sock = socket.create_connection(("127.0.0.1", free_port), 120)
        return context.wrap_socket(sock, server_hostname="127.0.0.1")

    return connect


def wait_for_bytes(client: ssl.SSLSocket) -> bytes:
    """Return what there is to read, past the session tickets of TLS 1.3."""
    client.setblocking(False)
    while True:
        assert select.select([client], [], [], 120)[0], "the server said nothing"
        try:
            return client.recv(65536)
        except ssl.SSLWantReadError:
            continue
        finally:
            client.settimeout(120)


def send_late(client: ssl.SSLSocket, piece: bytes) -> None:
    for _ in range(LATE_SIZE // len(piece)):
        client.sendall(piece)


def read_to_the_end(client: ssl.SSLSocket) -> bytes:
    pieces = []
    while data := client.recv(65536):
        pieces.append(data)
    return b"".join(pieces)


def frame_types(data: bytes) -> list[int]:
    types = []
    while data:
        types.append(data[3])
        data = data[9 + int.from_bytes(data[:3], "big") :]
    return types


def test_content_that_crosses_its_refusal_is_dropped(connect: Connect) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LATE_SIZE
    with connect("http/1.1") as client:
        client.sendall(head)
        first = wait_for_bytes(client)
        send_late(client, b"x" * 4000)
        answer = first + read_to_the_end(client)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"\r\n\r\nRequest content is too large\n")


def test_frames_that_cross_goaway_are_dropped(connect: Connect) -> None:
    with connect("h2") as client:
        client.sendall(HTTP2_PREFACE + DATA_WITHOUT_A_STREAM)
        answer = wait_for_bytes(client)
        while GOAWAY_TYPE not in frame_types(answer):
            answer += wait_for_bytes(client)
        send_late(client, PING)
        rest = read_to_the_end(client)

    assert frame_types(answer)[-1] == GOAWAY_TYPE
    assert rest == b""
