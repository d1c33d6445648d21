"""The end of connections: when each is told, and how long it has."""

from __future__ import annotations

import asyncio

import pytest
from h2.connection import H2Connection

from djserve.conf.schema import DrainConfig, LifecycleConfig, ServerConfig
from tests.server.sites import GET, Site, on_loop
from tests.support.waiting import settle, wait_until

# The payload of a close frame with code 1012, and a first GOAWAY.
SERVICE_RESTART = b"\x03\xf4Service Restart"
GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00"


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
    transports = [await site.send(GET), await site.send(GET)]
    draining = asyncio.ensure_future(site.factory.drain())
    for _ in range(100):
        if any(transport.is_eof_written for transport in transports):
            break
        await asyncio.sleep(0)
    (late,) = (each for each in transports if not each.is_eof_written)
    late.feed(GET)
    await wait_until(lambda: late.is_eof_written)
    draining.cancel()

    assert late.data.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b"connection: close\r\n" in late.data


@pytest.mark.parametrize("host", ["192.0.2.1", "127.0.0.1"], ids=["HTTP/1.1", "either"])
@on_loop
async def test_new_connection_has_time_for_its_first_request(host: str) -> None:
    site = Site(ServerConfig(drain=DrainConfig(drain_idle_timeout=0)))
    idle, new = await site.send(GET), site.connect(host)
    draining = asyncio.ensure_future(site.factory.drain())
    await wait_until(lambda: idle.is_eof_written)
    later = site.connect(host)
    await settle()
    both = (new, later)
    assert not any(each.is_eof_written for each in both)
    for transport in both:
        transport.feed(GET)
    await wait_until(lambda: all(each.is_eof_written for each in both))
    draining.cancel()

    for transport in both:
        assert transport.data.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("host", ["192.0.2.1", "127.0.0.1"], ids=["HTTP/1.1", "either"])
@on_loop
async def test_connection_that_stays_silent_is_ended(host: str) -> None:
    lifecycle = LifecycleConfig(shutdown_timeout=0.2)
    site = Site(
        ServerConfig(drain=DrainConfig(drain_idle_timeout=0), lifecycle=lifecycle)
    )
    silent = site.connect(host)
    draining = asyncio.ensure_future(site.factory.drain())
    await wait_until(lambda: silent.is_eof_written)
    draining.cancel()

    assert silent.data == b""


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
