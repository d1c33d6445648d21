"""No application call outlives its connection, in whatever order things happen."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trustme

from djserve.testing.live import LiveServer
from tests.e2e.clients import HANDSHAKE, connect, end
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.e2e

seen: Counter[str] = Counter()


async def accept_the_lost(scope: Any, receive: Any, send: Any) -> None:
    """Accept as soon as the transport has ended, whoever has been told of that."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await receive()
    transport = receive.__self__._stream._transport
    seen["asked"] += 1
    try:
        while not transport.is_closing():  # noqa: ASYNC110 - each turn counts
            await asyncio.sleep(0)
        try:
            await send({"type": "websocket.accept"})
        except OSError:
            seen["too late"] += 1
        seen["last: " + (await receive())["type"]] += 1
    finally:
        seen["ended"] += 1


def wait_for(name: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not seen[name]:
        assert time.monotonic() < deadline, seen
        time.sleep(0.01)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("tls", [True, False])
def test_client_that_leaves_while_it_is_accepted_is_told_of(
    tls: bool, how: str, tmp_path: Path
) -> None:
    seen.clear()
    settings: dict[str, Any] = {"HTTP2": False}
    if tls:
        issued = trustme.CA().issue_cert("localhost")
        pem = tmp_path / "cert.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
        settings |= {"CERTFILE": str(pem), "KEYFILE": str(pem)}
    with LiveServer(accept_the_lost, settings=settings) as server:
        sock = connect(server.port)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            sock = context.wrap_socket(sock)
        sock.sendall(b"GET / HTTP/1.1\r\n" + HANDSHAKE)
        wait_for("asked")
        end(sock, how)
        wait_for("ended")

    assert seen["last: websocket.disconnect"] == 1
