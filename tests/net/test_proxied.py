"""Connections that begin with the PROXY protocol, on real sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, StreamEnded

from djserve.net.proxied import ProxiedListener
from djserve.net.proxy_protocol import ProxyHeader
from djserve.testing.live import LiveServer
from tests.support.logs import own_records
from tests.support.waiting import PATIENCE, settle, wait_until

pytestmark = pytest.mark.e2e

V1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 443\r\n"


class Recorder(asyncio.Protocol):
    """Keeps the header of its connection and the bytes that follow."""

    def __init__(self, made: list[Recorder], header: ProxyHeader | None) -> None:
        self.header = header
        self.data = b""
        made.append(self)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._transport.write(b"done")
        self._transport.close()


class Bench:
    """A listener on a loop of its own, and blocking clients for it."""

    def __init__(self, trusts: Callable[[str], bool], timeout: float = 60) -> None:
        self.made: list[Recorder] = []
        self.loop = asyncio.new_event_loop()
        sock = socket.create_server(("127.0.0.1", 0))
        self.address = sock.getsockname()
        self.opening: WeakSet[Any] = WeakSet()
        self.listener = ProxiedListener(
            self.loop,
            sock,
            lambda h: Recorder(self.made, h),
            trusts,
            {},
            timeout,
            self.opening,
        )

    def send(self, *parts: bytes) -> bytes:
        """Send the parts and return what is answered until the end."""

        async def talk() -> bytes:
            reader, writer = await asyncio.open_connection(*self.address)
            try:
                for part in parts:
                    writer.write(part)
                    await settle()
                return await asyncio.wait_for(reader.read(), 60)
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

        return self.loop.run_until_complete(talk())

    def close(self) -> None:
        self.listener.close()
        self.listener.close()
        self.loop.run_until_complete(settle())
        self.loop.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(lambda host: host == "127.0.0.1")
    yield bench
    bench.close()


def test_header_is_taken_and_the_rest_goes_to_the_protocol(bench: Bench) -> None:
    assert bench.send(V1 + b"GET /") == b"done"
    (connection,) = bench.made
    assert connection.data == b"GET /"
    assert connection.header == ProxyHeader(("203.0.113.9", 5555), ("192.0.2.1", 443))


def test_header_may_come_in_pieces(bench: Bench) -> None:
    assert bench.send(V1[:9], V1[9:], b"GET /") == b"done"


@pytest.mark.parametrize("rest", [V1[9:], b"4 no header\r\n"])
def test_connection_is_opening_until_its_header_is_there_or_refused(
    bench: Bench, rest: bytes
) -> None:
    # Counted at once, whenever the garbage collector runs.
    gc.disable()

    async def talk() -> None:
        _, writer = await asyncio.open_connection(*bench.address)
        writer.write(V1[:9])
        await wait_until(lambda: len(bench.opening) == 1)
        writer.write(rest)
        await wait_until(lambda: not bench.opening)
        writer.close()

    try:
        bench.loop.run_until_complete(talk())
    finally:
        gc.enable()


def test_connection_without_a_header_is_closed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "djserve.net")

    assert bench.send(b"GET / HTTP/1.1\r\n\r\n") == b""
    assert bench.made == []
    assert "without a PROXY header" in caplog.text


@pytest.mark.parametrize("is_reset", [False, True])
def test_peer_that_goes_before_its_header_is_no_news(
    bench: Bench, caplog: pytest.LogCaptureFixture, is_reset: bool
) -> None:
    caplog.set_level("DEBUG", "djserve.net")

    async def check() -> None:
        # As a balancer looks whether a port is open.
        client = socket.create_connection(bench.address, 60)
        await wait_until(lambda: len(bench.opening) == 1)
        if is_reset:
            linger = struct.pack("ii", 1, 0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.close()
        await wait_until(lambda: not bench.opening)

    bench.loop.run_until_complete(check())

    assert [record.levelname for record in own_records(caplog)] == ["DEBUG"]


def test_header_that_does_not_come_in_time_closes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "djserve.net")
    bench = Bench(lambda host: True, timeout=0.1)
    try:
        assert bench.send(b"PROXY ") == b""
        assert "it took too long" in caplog.text
    finally:
        bench.close()


def test_untrusted_peer_needs_no_header_and_can_send_none() -> None:
    bench = Bench(lambda host: False)
    try:
        assert bench.send(V1) == b"done"
        assert bench.made[0].header is None
        assert bench.made[0].data == V1
    finally:
        bench.close()


async def tell_the_client(scope: Any, receive: Any, send: Any) -> None:
    host = scope["client"][0].encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": host})


def test_trusted_proxy_may_begin_with_http2_whichever_client_it_names() -> None:
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
    client.send_headers(1, [*fields, (":authority", "a")], end_stream=True)
    settings = {"PROXY_PROTOCOL": True, "LIFESPAN": "off"}
    events: list[Event] = []
    with LiveServer(tell_the_client, settings=settings) as server:
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address, PATIENCE) as sock:
            sock.sendall(V1 + client.data_to_send())
            while not any(isinstance(event, StreamEnded) for event in events):
                data = sock.recv(65536)
                assert data, "The server has closed the connection"
                events += client.receive_data(data)

    answer = [event.data for event in events if isinstance(event, DataReceived)]
    assert b"".join(answer) == b"203.0.113.9"
