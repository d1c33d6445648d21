"""Consumers' database connections are looked at without a hop, and in time."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import channels.consumer
import channels.db
import channels.generic.websocket
import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.testing import WebsocketCommunicator
from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from djserve.handlers import channels_connections, parallel_consumers
from djserve.handlers.channels_connections import (
    aclose_old_connections,
    defer_connection_checks,
)
from djserve.handlers.runtime import make_lease, make_pool
from djserve.handlers.threads.hops import current_lease, enter_lease, leave_lease
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.pool import ThreadPool

ALIAS = "aged"

Talk = Callable[[WebsocketCommunicator], Any]


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    pool = make_pool(1)
    yield pool
    assert pool.close(60)


@pytest.fixture
def _database(tmp_path: Path, django_db_blocker: Any) -> Iterator[None]:
    """Add a real database, in a file: one in memory is never closed."""
    connections.settings[ALIAS] = {
        **connections.settings["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "aged.sqlite3"),
        "CONN_MAX_AGE": 3600,
        "OPTIONS": {},
    }
    with django_db_blocker.unblock():
        yield
    del connections.settings[ALIAS]


def use_database() -> tuple[BaseDatabaseWrapper, Any]:
    """Make a query; return this thread's connection and what it wraps."""
    wrapper = connections[ALIAS]
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
    return wrapper, wrapper.connection


def make_old(wrapper: BaseDatabaseWrapper) -> None:
    assert wrapper.close_at is not None
    wrapper.close_at = time.monotonic() - 1


class Consumer(AsyncWebsocketConsumer):
    """Uses the database for each message in bytes; returns each text."""

    seen: list[tuple[BaseDatabaseWrapper, Any]]

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None
    ) -> None:
        if bytes_data is not None:
            self.seen.append(await sync_to_async(use_database)())
        await self.send(text_data=text_data or "used")


async def exchange(socket: WebsocketCommunicator, **message: Any) -> str:
    await socket.send_to(**message)
    return str(await socket.receive_from(timeout=60))


def converse(pool: ThreadPool, talk: Talk) -> list[tuple[BaseDatabaseWrapper, Any]]:
    """Talk with a consumer; return what it saw of the database."""
    Consumer.seen = []

    async def main() -> None:
        application = parallel_consumers(Consumer.as_asgi(), pool)
        socket = WebsocketCommunicator(application, "/")
        connected, _ = await socket.connect(timeout=60)
        assert connected
        await talk(socket)
        await socket.disconnect(timeout=60)

    asyncio.run(main())
    return Consumer.seen


@pytest.fixture(params=["put off", "with a hop"])
def _check(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the consumer's connections checked by us, then by Channels itself."""
    defer_connection_checks()
    if request.param == "with a hop":
        monkeypatch.setattr(
            channels.consumer,
            "aclose_old_connections",
            channels_connections._with_hop,
        )


def test_messages_that_touch_no_database_take_no_thread(pool: ThreadPool) -> None:
    async def talk(socket: WebsocketCommunicator) -> None:
        for number in range(5):
            assert await exchange(socket, text_data=str(number)) == str(number)

    converse(pool, talk)

    assert pool.stats().threads == 0


@pytest.mark.usefixtures("_check", "_database")
def test_connection_within_its_age_is_used_again(pool: ThreadPool) -> None:
    async def talk(socket: WebsocketCommunicator) -> None:
        await exchange(socket, bytes_data=b"1")
        await exchange(socket, bytes_data=b"2")

    (_, first), (_, second) = converse(pool, talk)

    assert second is first


@pytest.mark.usefixtures("_check", "_database")
def test_connection_past_its_age_is_closed_before_it_is_used(pool: ThreadPool) -> None:
    async def talk(socket: WebsocketCommunicator) -> None:
        await exchange(socket, bytes_data=b"1")
        make_old(Consumer.seen[0][0])
        await exchange(socket, text_data="between")
        await exchange(socket, bytes_data=b"2")

    (_, first), (_, second) = converse(pool, talk)

    assert second is not first


@pytest.mark.usefixtures("_check", "_database")
def test_connection_that_is_left_without_autocommit_is_closed(pool: ThreadPool) -> None:
    async def talk(socket: WebsocketCommunicator) -> None:
        await exchange(socket, bytes_data=b"1")
        Consumer.seen[0][0].autocommit = False
        await exchange(socket, bytes_data=b"2")

    (_, first), (_, second) = converse(pool, talk)

    assert second is not first


@pytest.mark.usefixtures("_database")
def test_outside_of_a_lease_old_connections_are_closed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Clients of Channels' tests that overlap leave one that does nothing in its place.
    monkeypatch.setattr(channels.db, "close_old_connections", close_old_connections)

    async def main() -> None:
        async with ThreadSensitiveContext():
            wrapper, _ = await sync_to_async(use_database)()
            make_old(wrapper)
            await aclose_old_connections()
            assert wrapper.connection is None

    asyncio.run(main())


def test_channels_looks_the_function_up_where_it_is_replaced(pool: ThreadPool) -> None:
    parallel_consumers(Consumer.as_asgi(), pool)

    for module in (channels.db, channels.consumer, channels.generic.websocket):
        assert module.aclose_old_connections is aclose_old_connections


def test_channels_without_the_function_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channels_connections, "_with_hop", None)
    monkeypatch.delattr(channels.db, "aclose_old_connections")

    defer_connection_checks()

    assert not hasattr(channels.db, "aclose_old_connections")


@pytest.mark.usefixtures("_without_channels")
def test_without_channels_nothing_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels_connections, "_with_hop", None)

    defer_connection_checks()

    assert channels_connections._with_hop is None


def test_channels_that_cannot_be_imported_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(channels, "db")
    monkeypatch.setitem(sys.modules, "channels.db", None)

    with pytest.raises(ModuleNotFoundError, match=r"channels\.db"):
        defer_connection_checks()


# What leases and hops have for this module.


def test_preceding_job_runs_once_before_the_next(pool: ThreadPool) -> None:
    lease = Lease(pool, held=False)
    order: list[str] = []

    def check() -> None:
        order.append("check")

    for _ in range(3):
        lease.precede(check)
    assert not lease.was_used
    lease.submit(order.append, "call").result(60)
    lease.submit(order.append, "call").result(60)

    assert order == ["check", "call", "call"]


def test_lease_of_a_context_is_the_current_one(pool: ThreadPool) -> None:
    lease = make_lease(pool)
    assert current_lease() is None

    token = enter_lease(lease)

    assert current_lease() is lease
    leave_lease(token)
    assert current_lease() is None


def test_thread_that_waits_for_a_coroutine_comes_before_the_lease(
    pool: ThreadPool,
) -> None:
    async def find() -> Lease | None:
        return current_lease()

    async def main() -> Lease | None:
        token = enter_lease(make_lease(pool))
        try:
            return await sync_to_async(async_to_sync(find))()
        finally:
            leave_lease(token)

    assert asyncio.run(main()) is None
