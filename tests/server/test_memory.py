"""What waits over all connections, and who is closed for it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from djserve.conf.schema import BoundsConfig, ServerConfig
from djserve.instrumentation.limits import limits_reached
from djserve.server.memory import ClientMemory
from djserve.testing.transport import MemoryTransport
from tests.server.sites import GET, Site, on_loop
from tests.server.test_factory import HANDSHAKE
from tests.support.logs import own_messages
from tests.support.waiting import settle

MIB = 2**20


class Guest:
    """A connection that holds so much."""

    def __init__(self, held_size: int) -> None:
        self.held_size = held_size
        self.is_aborted = False

    def abort_transport(self) -> None:
        self.is_aborted = True


def watch(*guests: Guest, limit: int) -> ClientMemory:
    connections: Any = set(guests)
    return ClientMemory(connections, limit, asyncio.get_running_loop())


@on_loop
async def test_nothing_happens_up_to_the_limit() -> None:
    guests = [Guest(500), Guest(500)]
    memory = watch(*guests, limit=1000)
    memory.tick()

    assert memory.size == 1000
    assert not any(guest.is_aborted for guest in guests)


@on_loop
async def test_those_that_hold_most_are_closed() -> None:
    before = limits_reached()["CLIENT_MEMORY_LIMIT"]
    large, medium, small = Guest(600), Guest(300), Guest(200)
    memory = watch(small, large, medium, limit=1000)
    memory.tick()

    assert [g.is_aborted for g in (large, medium, small)] == [True, False, False]
    assert limits_reached()["CLIENT_MEMORY_LIMIT"] == before + 1


def test_closing_is_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    @on_loop
    async def run() -> None:
        memory = watch(Guest(600), limit=500)
        memory.tick()
        memory.tick()

    with caplog.at_level(logging.WARNING, "djserve"):
        run()

    assert len(own_messages(caplog)) == 1
    assert "CLIENT_MEMORY_LIMIT" in own_messages(caplog)[0]


@on_loop
async def test_large_sizes_are_looked_at_more_often() -> None:
    guest = Guest(600)
    memory = watch(guest, limit=1000)
    memory.tick()
    guest.held_size = 1001
    await asyncio.sleep(0.06)
    assert guest.is_aborted

    guest.held_size = 0
    await asyncio.sleep(0.06)
    guest.held_size = 600
    await asyncio.sleep(1)

    assert memory.size == 0


class Broken(Guest):
    """A connection that fails at what it is asked, or told."""

    def __init__(self, held_size: int | None) -> None:
        self._held_size = held_size
        self.is_aborted = False

    @property
    def held_size(self) -> int:  # type: ignore[override]
        if self._held_size is None:
            raise AttributeError
        return self._held_size

    def abort_transport(self) -> None:
        raise AttributeError


@pytest.mark.parametrize("held_size", [None, 900])
def test_one_that_fails_leaves_the_limit_to_the_others(
    held_size: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    guest = Guest(600)

    @on_loop
    async def run() -> None:
        memory = watch(Broken(held_size), guest, limit=500)
        memory.tick()
        memory.tick()
        assert memory.size == 600 + (held_size or 0)

    with caplog.at_level(logging.ERROR, "djserve.error"):
        run()

    assert guest.is_aborted
    assert len(own_messages(caplog)) == 1


# What each protocol holds.

LONG = b"\x82\xff" + (MIB - 100).to_bytes(8, "big") + bytes(4)


async def hold(data: bytes, more: bytes = b"") -> tuple[Site, MemoryTransport]:
    site = Site()
    site.go.clear()
    if b"/stay" in data:
        site.go.set()
    transport = await site.send(data)
    if more:
        transport.feed(more)
    await settle()
    return site, transport


def held(site: Site) -> int:
    site.factory.memory.tick()
    return site.factory.memory.size


STAY = HANDSHAKE.replace(b"/ws", b"/stay") + b"\r\n"


@pytest.mark.parametrize(
    ("data", "more", "size"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nX: " + bytes(1000), b"", 1000, id="head"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n",
            bytes(50_000),
            50_000,
            id="content",
        ),
        pytest.param(GET, GET * 100, len(GET) * 100, id="sent ahead"),
        pytest.param(STAY, LONG + bytes(500_000), 500_000, id="half a message"),
        pytest.param(
            STAY, b"\x02\xfe\x9c\x40" + bytes(4) + bytes(40_000), 40_000, id="fragment"
        ),
    ],
)
def test_what_is_held_is_counted(data: bytes, more: bytes, size: int) -> None:
    @on_loop
    async def run() -> None:
        site, transport = await hold(data, more)
        assert size <= held(site) <= size + 100
        transport.lose()
        assert held(site) == 0
        site.go.set()
        await site.calls.cancel_all(1)

    run()


@on_loop
async def test_messages_that_wait_for_the_application_are_counted() -> None:
    site, transport = await hold(STAY)
    for connection in site.factory.connections:
        connection.tick(1.0)
    # The application takes the first one and ends; nothing of it waits.
    transport.feed((b"\x82\xfe\x03\xe8" + bytes(4) + bytes(1000)) * 3)

    assert held(site) == 3000
    await site.calls.cancel_all(1)


@on_loop
async def test_half_sent_messages_are_bounded_together() -> None:
    config = ServerConfig(bounds=BoundsConfig(client_memory_limit=2 * MIB))
    site = Site(config)
    transports = [await site.send(STAY) for _ in range(8)]
    for transport in transports:
        transport.feed(LONG + bytes(MIB // 2))
    honest = await site.send(GET)

    site.factory.memory.tick()

    assert sum(transport.is_aborted for transport in transports) == 5
    assert not honest.is_aborted
    await site.calls.cancel_all(1)
