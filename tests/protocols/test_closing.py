"""Transports that are closed once, each protocol's by asyncio's own TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from hpack import Encoder

from djserve.interfaces import ConnectionInfo
from djserve.protocols.closing import close_transport
from djserve.protocols.http2 import frames
from djserve.testing.transport import MemoryTransport
from tests.server.sites import Site
from tests.support.waiting import PATIENCE, settle, wait_until

FIELDS = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a")]
HEAD = Encoder().encode(FIELDS)
FLAGS = frames.END_HEADERS | frames.END_STREAM
REQUESTS = {
    "http/1.1": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "h2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frames.pack_header(0, frames.SETTINGS, 0, 0)
    + frames.pack_header(0, frames.SETTINGS, frames.ACK, 0)
    + frames.pack_header(len(HEAD), frames.HEADERS, FLAGS, 1)
    + HEAD,
}


class Closable(asyncio.Transport):
    """A transport of the loop's, which counts how often it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closes = 0

    def is_closing(self) -> bool:
        return self.closes > 0

    def close(self) -> None:
        self.closes += 1


def test_loops_transport_is_closed_once() -> None:
    transport: Any = Closable()
    close_transport(transport)
    close_transport(transport)

    assert transport.closes == 1


def test_other_transports_are_closed_by_their_own_means() -> None:
    transport = MemoryTransport()
    close_transport(transport)

    assert transport.is_closing


class Opening(asyncio.Protocol):
    """Open a connection of a site's as djserve's own acceptor does."""

    def __init__(self, site: Site, alpn: str) -> None:
        self._open = site.factory.open_connection
        self._alpn = alpn

    def connection_made(self, transport: Any) -> None:
        info = ConnectionInfo(("127.0.0.1", 1), ("127.0.0.1", 2), {}, alpn=self._alpn)
        transport.set_protocol(self._open(transport, info))


@asynccontextmanager
async def serving(site: Site, alpn: str, folder: Path) -> AsyncIterator[ssl.SSLSocket]:
    """Serve a site with asyncio's TLS; give a client that reads when it is told to."""
    pem = folder / "pem"
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Opening(site, alpn), "127.0.0.1", 0, ssl=context
    )
    client = await asyncio.to_thread(connect, server.sockets[0].getsockname())
    try:
        yield client
    finally:
        client.close()
        await wait_until(lambda: not site.factory.connections)
        server.close()


def connect(address: tuple[str, int]) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sock = socket.socket()
    # What it does not read waits in the server soon.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.settimeout(PATIENCE)
    sock.connect(address)
    return context.wrap_socket(sock)


def read_until(client: ssl.SSLSocket, end: bytes) -> None:
    data = b""
    while not data.endswith(end):
        data += client.recv(4096)


@pytest.mark.e2e
@pytest.mark.parametrize("alpn", REQUESTS)
def test_peer_that_does_not_end_tls_harms_no_sweep(alpn: str, tmp_path: Path) -> None:
    async def run() -> None:
        site = Site()
        async with serving(site, alpn, tmp_path) as client:
            await asyncio.to_thread(client.sendall, REQUESTS[alpn])
            await asyncio.to_thread(read_until, client, b"ok")
            (connection,) = site.factory.connections
            # The keep-alive timeout, the end of lingering, and two sweeps more.
            for now in (0.0, 1000.0, 1001.0, 1100.0, 1101.0, 1102.0):
                connection.tick(now)
                await settle()
                assert connection.held_size < 1000
            assert site.factory.connections == {connection}

    asyncio.run(run())


def flood(fails: asyncio.Event) -> Callable[..., Any]:
    """Return an application that fails in a response that waits for its client."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def fill() -> None:
            while True:
                await send({**part, "body": bytes(2**18)})

        part = {"type": "http.response.body", "more_body": True}
        await send({"type": "http.response.start", "status": 200})
        filling = asyncio.ensure_future(fill())
        await fails.wait()
        filling.cancel()
        raise ConnectionError

    return application


def end_tls(client: ssl.SSLSocket) -> None:
    """Send a close_notify, and read nothing, whatever the library would read."""
    client.setblocking(False)
    with pytest.raises(ssl.SSLError):
        client.unwrap()


@pytest.mark.e2e
def test_stalled_peer_that_has_ended_tls_is_reset(tmp_path: Path) -> None:
    async def run() -> None:
        fails = asyncio.Event()
        site = Site(application=flood(fails))
        async with serving(site, "http/1.1", tmp_path) as client:
            await asyncio.to_thread(client.sendall, REQUESTS["http/1.1"])
            await wait_until(lambda: len(site.factory.connections) == 1)
            connection: Any = next(iter(site.factory.connections))
            await wait_until(lambda: not connection.is_writable)
            end_tls(client)
            await wait_until(connection._transport.is_closing)
            fails.set()
            await wait_until(lambda: not site.calls)
            connection.tick(0.0)
            connection.tick(0.5)
            connection.tick(1000.0)
            await wait_until(lambda: not site.factory.connections)

    asyncio.run(run())
