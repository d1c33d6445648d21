"""Connections to protocols, heads to exchanges, and the end of them all."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import logging
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from h2.connection import H2Connection

from djserve.asgi.application import ApplicationCalls
from djserve.asgi.origin import OriginPolicy
from djserve.asgi.scope import ScopeBuilder
from djserve.conf.schema import (
    DrainConfig,
    HTTPConfig,
    LifecycleConfig,
    ProxyConfig,
    ServerConfig,
)
from djserve.interfaces import ConnectionInfo
from djserve.server.factory import ConnectionFactory
from djserve.testing.transport import MemoryTransport
from tests.logs import own_records
from tests.virtual_time import run_in_virtual_time
from tests.waiting import settle, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from djserve.asgi.types import Receive, Scope, Send
    from djserve.instrumentation.events import RequestRecord

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)

# The payload of a close frame with code 1012, and a first GOAWAY.
SERVICE_RESTART = b"\x03\xf4Service Restart"
GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00"


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test that is a coroutine on a loop of its own, whose clock is virtual."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_in_virtual_time(test(*args, **kwargs))

    return run


class Log:
    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.clients: list[tuple[str, int] | None] = []

    def request_finished(self, record: RequestRecord) -> None:
        self.statuses.append(record.status)

    def websocket_connecting(self, record: RequestRecord) -> None: ...
    def websocket_accepted(self, record: RequestRecord) -> None: ...

    def websocket_rejected(self, record: RequestRecord) -> None:
        self.statuses.append(record.status)
        self.clients.append(record.client)

    def websocket_closed(self, record: RequestRecord) -> None: ...


class Site:
    """A factory with an application that keeps its scopes and may be held up."""

    def __init__(
        self, config: ServerConfig | None = None, policy: OriginPolicy | None = None
    ) -> None:
        self.scopes: list[Scope] = []
        self.go = asyncio.Event()
        self.go.set()
        self.log = Log()
        self.calls = ApplicationCalls(self.application, asyncio.get_running_loop(), 1.0)
        self.factory = ConnectionFactory(
            config or ServerConfig(), self.calls, ScopeBuilder(), self.log, policy
        )

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await self.go.wait()
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            if scope["path"] == "/stay":
                await receive()
        else:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"ok"})

    def connect(self, host: str = "192.0.2.1") -> MemoryTransport:
        transport = MemoryTransport()
        info = ConnectionInfo((host, 50000), ("192.0.2.2", 80))
        transport.set_protocol(self.factory.open_connection(transport, info))
        return transport

    async def send(self, data: bytes, host: str = "192.0.2.1") -> MemoryTransport:
        transport = self.connect(host)
        transport.feed(data)
        await settle()
        return transport


def date_in(data: bytes) -> float:
    found = re.search(rb"\r\ndate: ([^\r]+)\r\n", data)
    assert found
    return email.utils.parsedate_to_datetime(found[1].decode()).timestamp()


@on_loop
async def test_request_reaches_the_application() -> None:
    site = Site()
    transport = await site.send(GET)

    assert transport.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [scope["type"] for scope in site.scopes] == ["http"]
    assert site.log.statuses == [200]


@on_loop
async def test_handshake_reaches_the_application_as_a_websocket() -> None:
    site = Site()
    transport = await site.send(HANDSHAKE + b"\r\n")

    assert transport.data.startswith(b"HTTP/1.1 101 ")
    assert [scope["type"] for scope in site.scopes] == ["websocket"]
    transport.lose()
    await site.calls.cancel_all(1)


@on_loop
async def test_malformed_handshake_is_refused() -> None:
    site = Site()
    data = HANDSHAKE.replace(b"Version: 13", b"Version: 7") + b"\r\n"
    transport = await site.send(data)

    assert transport.data.startswith(b"HTTP/1.1 426 ")
    assert site.scopes == []
    assert site.log.statuses == [426]


@pytest.mark.parametrize(
    ("origin", "status"),
    [(b"http://a", b"101"), (b"http://b", b"403"), (b"null", b"403")],
)
@on_loop
async def test_origin_is_checked(origin: bytes, status: bytes) -> None:
    site = Site(policy=OriginPolicy(allowed_hosts=("a",)))
    transport = await site.send(HANDSHAKE + b"Origin: " + origin + b"\r\n\r\n")

    assert transport.data[9:12] == status
    assert len(site.scopes) == (status == b"101")
    transport.lose()
    await site.calls.cancel_all(1)


@pytest.mark.parametrize(
    ("host", "client"),
    [("127.0.0.1", "203.0.113.9"), ("192.0.2.1", "192.0.2.1")],
)
@on_loop
async def test_only_a_trusted_proxy_is_believed(host: str, client: str) -> None:
    site = Site(ServerConfig(proxy=ProxyConfig(proxy_headers=True)))
    await site.send(GET[:-2] + b"X-Forwarded-For: 203.0.113.9\r\n\r\n", host)

    assert site.scopes[0]["client"][0] == client


@on_loop
async def test_proxies_are_not_believed_by_default() -> None:
    site = Site()
    await site.send(GET[:-2] + b"X-Forwarded-For: 203.0.113.9\r\n\r\n", "127.0.0.1")

    assert site.scopes[0]["client"][0] == "127.0.0.1"


def test_refused_request_is_told_to_both_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "djserve")

    async def drive() -> Site:
        site = Site()
        await site.send(b"oops\r\n\r\n")
        return site

    site = asyncio.run(drive())
    assert site.log.statuses == [400]
    assert "Refused a request from 192.0.2.1:50000: " in caplog.text
    assert all(record.exc_info is None for record in own_records(caplog))


@on_loop
async def test_request_refused_within_its_content_is_logged_once() -> None:
    site = Site(ServerConfig(http=HTTPConfig(body_size_limit=4)))
    site.go.clear()
    head = GET.replace(b"GET", b"POST")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
    transport = await site.send(head + b"5\r\nhello\r\n")

    assert transport.data.startswith(b"HTTP/1.1 413 ")
    assert site.log.statuses == [413]
    await site.calls.cancel_all(1)


def test_refused_origin_is_explained_to_the_operator_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "djserve")

    async def drive() -> MemoryTransport:
        site = Site(policy=OriginPolicy(allowed_hosts=("a",)))
        return await site.send(HANDSHAKE + b"Origin: http://b\r\n\r\n")

    transport = asyncio.run(drive())
    assert transport.data.endswith(b"\r\n\r\nForbidden\n")
    assert "Origin 'http://b' may not open a WebSocket here" in caplog.text


@on_loop
async def test_refused_request_is_logged_with_the_forwarded_client() -> None:
    site = Site(
        ServerConfig(proxy=ProxyConfig(proxy_headers=True)),
        OriginPolicy(allowed_hosts=("a",)),
    )
    fields = b"Origin: http://b\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"
    await site.send(HANDSHAKE + fields, "127.0.0.1")

    assert site.log.statuses == [403]
    assert site.log.clients == [("203.0.113.9", 0)]


@on_loop
async def test_date_is_renewed_by_the_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    first = date_in((await site.send(GET)).data)
    later = time.time() + 90
    monkeypatch.setattr(time, "time", lambda: later)
    assert date_in((await site.send(GET)).data) == first

    site.factory.tick(0.0)
    assert date_in((await site.send(GET)).data) == int(later)
    assert abs(first - later) > 80


@pytest.mark.parametrize(("name", "expected"), [("me", True), ("", False)])
@on_loop
async def test_server_field_is_a_setting(name: str, expected: bool) -> None:
    site = Site(ServerConfig(http=HTTPConfig(server_name=name)))

    assert (b"\r\nserver: me\r\n" in (await site.send(GET)).data) is expected


@on_loop
async def test_lost_connections_are_forgotten() -> None:
    site = Site()
    transport = await site.send(GET)
    assert len(site.factory.connections) == 1

    transport.lose()
    assert site.factory.connections == set()


@on_loop
async def test_drain_waits_for_the_last_connection() -> None:
    site = Site()
    site.go.clear()
    idle, busy = site.connect(), await site.send(GET)
    drained = asyncio.ensure_future(site.factory.drain())
    await wait_until(lambda: idle.is_eof_written)
    assert not busy.is_eof_written

    idle.lose()
    site.go.set()
    await settle()
    assert busy.data.endswith(b"\r\n\r\nok")
    assert b"connection: close\r\n" in busy.data
    assert not drained.done()

    busy.lose()
    await drained


@on_loop
async def test_request_that_meets_the_end_of_idle_connections_is_answered() -> None:
    site = Site(ServerConfig(drain=DrainConfig(drain_idle_timeout=0)))
    transports = [site.connect(), site.connect()]
    draining = asyncio.ensure_future(site.factory.drain())
    for _ in range(100):
        if any(transport.is_eof_written for transport in transports):
            break
        await asyncio.sleep(0)
    (late,) = (each for each in transports if not each.is_eof_written)
    late.feed(GET)
    await wait_until(lambda: late.is_eof_written)
    draining.cancel()

    assert late.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in late.data


def open_websockets(count: int) -> bytes:
    """Return what an HTTP/2 client sends to open WebSockets on one connection."""
    client = H2Connection()
    client.initiate_connection()
    for stream_id in range(1, 2 * count, 2):
        fields = [(":method", "CONNECT"), (":protocol", "websocket")]
        fields += [(":scheme", "http"), (":authority", "a"), (":path", "/stay")]
        client.send_headers(stream_id, [*fields, ("sec-websocket-version", "13")])
    return bytes(client.data_to_send())


@on_loop
async def test_websockets_on_one_connection_are_closed_over_the_drain_time() -> None:
    drain = DrainConfig(drain_idle_timeout=0, websocket_drain_time=1000)
    lifecycle = LifecycleConfig(shutdown_timeout=9000)
    site = Site(ServerConfig(drain=drain, lifecycle=lifecycle))
    transport = await site.send(open_websockets(3), "127.0.0.1")
    draining = asyncio.ensure_future(site.factory.drain())
    await wait_until(lambda: SERVICE_RESTART in transport.data)
    await wait_until(lambda: GOAWAY in transport.data)
    await settle()
    draining.cancel()

    assert transport.data.count(SERVICE_RESTART) == 1


@on_loop
async def test_all_websockets_on_one_connection_are_told_of_the_restart() -> None:
    drain = DrainConfig(drain_idle_timeout=0, websocket_drain_time=0.1)
    site = Site(ServerConfig(drain=drain))
    transport = await site.send(open_websockets(3), "127.0.0.1")
    draining = asyncio.ensure_future(site.factory.drain())
    await wait_until(lambda: transport.data.count(SERVICE_RESTART) == 3)
    draining.cancel()


@on_loop
async def test_drain_of_nothing_is_done_at_once() -> None:
    await Site().factory.drain()


@on_loop
async def test_drain_awaits_connections_that_are_still_to_come() -> None:
    site = Site(ServerConfig(drain=DrainConfig(drain_idle_timeout=0)))
    opening = [1]
    draining = asyncio.ensure_future(site.factory.drain(lambda: len(opening)))
    # Idle connections are ended long before.
    early = site.connect()
    await wait_until(lambda: early.is_eof_written)
    early.lose()

    transport = await site.send(GET)
    opening.clear()
    assert transport.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in transport.data
    assert not draining.done()
    transport.lose()
    await asyncio.wait_for(draining, 60)


@on_loop
async def test_drain_ends_once_the_last_handshake_has_failed() -> None:
    site = Site()
    opening = [1]
    draining = asyncio.ensure_future(site.factory.drain(lambda: len(opening)))
    await settle()
    assert not draining.done()

    opening.clear()
    await asyncio.wait_for(draining, 60)


@on_loop
async def test_connection_that_comes_while_draining_is_not_kept() -> None:
    site = Site()
    await site.factory.drain()
    transport = await site.send(GET + GET)

    assert transport.is_eof_written
    assert transport.data.count(b"HTTP/1.1 ") <= 1


@on_loop
async def test_abort_drops_every_connection() -> None:
    site = Site()
    transports = [site.connect(), site.connect()]

    assert site.factory.abort() == 2
    assert all(transport.is_aborted for transport in transports)
