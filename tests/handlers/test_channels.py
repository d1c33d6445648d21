"""Sockets side by side, the handler in routers, connections without a hop."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import channels.consumer
import channels.db
import channels.generic.websocket
import httpx
import pytest
import sentry_sdk
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.handlers import asgi
from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.urls import re_path

from djserve.asgi.application import ApplicationCalls, takes_websockets
from djserve.asgi.types import Message, Receive, Scope, Send
from djserve.asgi.webtransport import WebTransportExchange
from djserve.handlers import ASGIHandler, parallel_consumers, replace_handler
from djserve.handlers import channels as djserve_channels
from djserve.handlers.channels import (
    aclose_old_connections,
    defer_connection_checks,
    refuse_websockets,
)
from djserve.handlers.runtime import make_lease, make_pool
from djserve.handlers.threads.asgiref_compat import (
    current_lease,
    enter_lease,
    leave_lease,
)
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.pool import ThreadPool
from djserve.interfaces import RequestHead
from djserve.testing.live import LiveServer
from tests.support.waiting import wait_until

# The channel layer does, when it is first used.
opens_a_socket = pytest.mark.e2e

SOCKETS = 4


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    pool = make_pool(SOCKETS)
    yield pool
    assert pool.close(60)


class Meeting(WebsocketConsumer):
    """Answers once as many messages are being handled as there are sockets."""

    barrier: threading.Barrier

    def receive(self, text_data: str | None = None, bytes_data: Any = None) -> None:
        self.barrier.wait(60)
        self.send(text_data=f"met {text_data}")


class Echo(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: Any = None) -> None:
        self.send(text_data=text_data)


class Tagged(WebsocketConsumer):
    """Sets its tag, and tells the tag of its scope once all have set theirs."""

    barrier: threading.Barrier

    def receive(self, text_data: str | None = None, bytes_data: Any = None) -> None:
        sentry_sdk.set_tag("who", text_data)
        self.barrier.wait(60)
        self.send(text_data=sentry_sdk.get_isolation_scope()._tags["who"])


async def converse(application: Any, texts: list[str]) -> list[str]:
    socket = WebsocketCommunicator(application, "/")
    connected, _ = await socket.connect(timeout=60)
    assert connected
    for text in texts:
        await socket.send_to(text_data=text)
    answers = [await socket.receive_from(timeout=60) for _ in texts]
    await socket.disconnect(timeout=60)
    return answers


@opens_a_socket
@pytest.mark.django_db
def test_sockets_share_no_scope_of_sentry(pool: ThreadPool) -> None:
    Tagged.barrier = threading.Barrier(SOCKETS)

    async def main() -> list[list[str]]:
        # What a line in the log makes, before any socket.
        sentry_sdk.get_isolation_scope().set_tag("who", "the process")
        application = parallel_consumers(Tagged.as_asgi(), pool)
        names = [f"user {number}" for number in range(SOCKETS)]
        return list(
            await asyncio.gather(*(converse(application, [name]) for name in names))
        )

    assert asyncio.run(main()) == [[f"user {number}"] for number in range(SOCKETS)]


@opens_a_socket
def test_webtransport_sessions_share_no_scope_of_sentry(pool: ThreadPool) -> None:
    heard: dict[str, str] = {}

    async def main() -> None:
        sentry_sdk.get_isolation_scope().set_tag("who", "the process")
        together = asyncio.Barrier(SOCKETS)

        async def session(scope: Scope, receive: Receive, send: Send) -> None:
            sentry_sdk.set_tag("who", scope["path"])
            await together.wait()
            heard[scope["path"]] = sentry_sdk.get_isolation_scope()._tags["who"]

        async def receive() -> Message:
            return {"type": "webtransport.connect"}

        async def send(message: Message) -> None: ...

        application = parallel_consumers(session, pool)
        paths = [f"/{number}/" for number in range(SOCKETS)]
        scopes = [{"type": "webtransport", "path": path} for path in paths]
        await asyncio.gather(*(application(each, receive, send) for each in scopes))

    asyncio.run(main())

    assert heard == {f"/{number}/": f"/{number}/" for number in range(SOCKETS)}


@opens_a_socket
def test_requests_beside_django_share_no_scope_of_sentry() -> None:
    together = asyncio.Barrier(SOCKETS)
    heard: dict[str, str] = {}

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        sentry_sdk.set_tag("who", scope["path"])
        await together.wait()
        raise LookupError(scope["path"])

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tags = sentry_sdk.get_isolation_scope()._tags
            heard[record.getMessage().split()[-1]] = tags["who"]

    routes = [re_path("", cast("Any", application))]
    parallel = parallel_consumers(URLRouter(routes))
    with LiveServer(parallel, settings={"LIFESPAN": "off"}) as server:
        logger = logging.getLogger("djserve.error")
        listener = Listener()
        logger.addHandler(listener)
        try:
            with ThreadPoolExecutor(SOCKETS) as clients:
                urls = [f"{server.url}/{number}/" for number in range(SOCKETS)]
                ask = partial(httpx.get, timeout=60)
                statuses = [answer.status_code for answer in clients.map(ask, urls)]
        finally:
            logger.removeHandler(listener)

    assert statuses == [500] * SOCKETS
    assert heard == {f"/{number}/": f"/{number}/" for number in range(SOCKETS)}


@opens_a_socket
@pytest.mark.django_db
def test_consumers_of_different_sockets_meet(pool: ThreadPool) -> None:
    Meeting.barrier = threading.Barrier(SOCKETS)
    application = parallel_consumers(Meeting.as_asgi(), pool)

    async def main() -> list[list[str]]:
        sockets = [converse(application, [str(n)]) for n in range(SOCKETS)]
        return await asyncio.gather(*sockets)

    assert asyncio.run(main()) == [[f"met {n}"] for n in range(SOCKETS)]


@opens_a_socket
@pytest.mark.django_db
def test_messages_of_one_socket_keep_their_order(pool: ThreadPool) -> None:
    texts = [str(number) for number in range(30)]

    answers = asyncio.run(converse(parallel_consumers(Echo.as_asgi(), pool), texts))

    assert answers == texts


@opens_a_socket
@pytest.mark.django_db
def test_idle_socket_holds_no_thread(pool: ThreadPool) -> None:
    async def main() -> None:
        socket = WebsocketCommunicator(parallel_consumers(Echo.as_asgi(), pool), "/")
        await socket.connect(timeout=60)
        await socket.send_to(text_data="hello")
        await socket.receive_from(timeout=60)
        await wait_until(lambda: pool.stats().running == pool.stats().parked == 0)
        await socket.disconnect(timeout=60)

    asyncio.run(main())


def thread_name(application: Any, kind: str) -> str:
    names: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        names.append(await sync_to_async(lambda: threading.current_thread().name)())

    asyncio.run(application(app)({"type": kind}, None, None))
    return names[0]


@opens_a_socket
@pytest.mark.parametrize(("kind", "ours"), [("websocket", True), ("http", False)])
def test_only_sockets_are_given_a_lease(
    kind: str, ours: bool, pool: ThreadPool
) -> None:
    name = thread_name(lambda app: parallel_consumers(app, pool), kind)

    assert name.startswith("djserve-") is ours


@opens_a_socket
def test_session_waits_for_a_thread_at_the_expense_of_the_server(
    single: ThreadPool,
) -> None:
    decided: list[str] = []
    may_end = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await sync_to_async(decided.append)(scope["path"])
        await asyncio.Event().wait()

    def take_time() -> None:
        may_end.wait(60)

    async def main() -> None:
        make_lease(single, "another", "another").post(take_time)
        loop = asyncio.get_running_loop()
        calls = ApplicationCalls(parallel_consumers(application, single), loop, 10.0)
        stream = Refusals()
        head = RequestHead("CONNECT", b"/", b"", [], "3")
        scope = {"type": "webtransport", "path": "/", "client": None}
        exchange = WebTransportExchange(scope, head, cast(Any, stream), calls, 0.1)
        exchange.start()
        # So long as the only thread is another's.
        await wait_until(lambda: exchange.waiting_time and exchange.waiting_time() > 1)
        exchange.tick(0.0)
        exchange.tick(1.0)
        assert stream.statuses == []
        may_end.set()
        await wait_until(lambda: decided)
        exchange.tick(1000.0)
        assert stream.statuses == [503]
        await calls.wait(60)

    asyncio.run(main())


class Refusals:
    """A request's stream: the statuses that it was refused with."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def send_response(self, status: int, *response: Any, more: bool) -> None:
        self.statuses.append(status)


async def answer_of(kind: str) -> list[Any]:
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "answer"})

    async def receive() -> Any:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await refuse_websockets(application)({"type": kind}, receive, send)
    return sent


@opens_a_socket
@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("websocket", ["websocket.close"]),
        ("http", ["answer"]),
        ("lifespan", ["answer"]),
    ],
)
def test_only_websockets_are_refused(kind: str, sent: list[str]) -> None:
    assert asyncio.run(answer_of(kind)) == sent


@opens_a_socket
def test_server_is_told_where_no_websocket_is_taken() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None: ...

    refusing = refuse_websockets(application)

    assert takes_websockets(application)
    assert takes_websockets(parallel_consumers(application))
    assert not takes_websockets(refusing)
    assert not takes_websockets(parallel_consumers(refusing))


class Subclass(asgi.ASGIHandler):
    pass


class RouterSubclass(ProtocolTypeRouter):
    pass


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    pass


def test_handler_of_django_is_replaced() -> None:
    application, replaced = replace_handler(asgi.ASGIHandler())

    assert replaced
    assert type(application) is ASGIHandler


def test_http_entry_of_a_router_is_replaced() -> None:
    router = ProtocolTypeRouter({"http": asgi.ASGIHandler(), "websocket": websocket})
    application, replaced = replace_handler(router)

    assert replaced
    assert type(application) is ProtocolTypeRouter
    assert type(application.application_mapping["http"]) is ASGIHandler
    assert application.application_mapping["websocket"] is websocket


def test_router_that_was_given_is_not_changed() -> None:
    router = ProtocolTypeRouter({"http": asgi.ASGIHandler()})
    replace_handler(router)

    assert type(router.application_mapping["http"]) is asgi.ASGIHandler


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Subclass, id="subclass"),
        pytest.param(ASGIHandler, id="ours already"),
        pytest.param(lambda: websocket, id="any application"),
        pytest.param(lambda: ASGIStaticFilesHandler(asgi.ASGIHandler()), id="wrapper"),
        pytest.param(lambda: ProtocolTypeRouter({"http": Subclass()}), id="in router"),
        pytest.param(
            lambda: ProtocolTypeRouter({"websocket": websocket}), id="no http"
        ),
        pytest.param(
            lambda: RouterSubclass({"http": asgi.ASGIHandler()}), id="router subclass"
        ),
    ],
)
def test_other_applications_are_left_alone(make: Any) -> None:
    given = make()

    assert replace_handler(given) == (given, False)


ALIAS = "aged"

Talk = Callable[[WebsocketCommunicator], Any]


@pytest.fixture
def single() -> Iterator[ThreadPool]:
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


def talk_with(pool: ThreadPool, talk: Talk) -> list[tuple[BaseDatabaseWrapper, Any]]:
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
            djserve_channels._with_hop,
        )


def test_messages_that_touch_no_database_take_no_thread(single: ThreadPool) -> None:
    async def talk(socket: WebsocketCommunicator) -> None:
        for number in range(5):
            assert await exchange(socket, text_data=str(number)) == str(number)

    talk_with(single, talk)

    assert single.stats().threads == 0


@pytest.mark.usefixtures("_check", "_database")
def test_connection_within_its_age_is_used_again(single: ThreadPool) -> None:
    async def talk(socket: WebsocketCommunicator) -> None:
        await exchange(socket, bytes_data=b"1")
        await exchange(socket, bytes_data=b"2")

    (_, first), (_, second) = talk_with(single, talk)

    assert second is first


@pytest.mark.usefixtures("_check", "_database")
def test_connection_past_its_age_is_closed_before_it_is_used(
    single: ThreadPool,
) -> None:
    async def talk(socket: WebsocketCommunicator) -> None:
        await exchange(socket, bytes_data=b"1")
        make_old(Consumer.seen[0][0])
        await exchange(socket, text_data="between")
        await exchange(socket, bytes_data=b"2")

    (_, first), (_, second) = talk_with(single, talk)

    assert second is not first


@pytest.mark.usefixtures("_check", "_database")
def test_connection_that_is_left_without_autocommit_is_closed(
    single: ThreadPool,
) -> None:
    async def talk(socket: WebsocketCommunicator) -> None:
        await exchange(socket, bytes_data=b"1")
        Consumer.seen[0][0].autocommit = False
        await exchange(socket, bytes_data=b"2")

    (_, first), (_, second) = talk_with(single, talk)

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


def test_channels_looks_the_function_up_where_it_is_replaced(
    single: ThreadPool,
) -> None:
    parallel_consumers(Consumer.as_asgi(), single)

    for module in (channels.db, channels.consumer, channels.generic.websocket):
        assert module.aclose_old_connections is aclose_old_connections


def test_channels_without_the_function_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(djserve_channels, "_with_hop", None)
    monkeypatch.delattr(channels.db, "aclose_old_connections")

    defer_connection_checks()

    assert not hasattr(channels.db, "aclose_old_connections")


@pytest.mark.usefixtures("_without_channels")
def test_without_channels_nothing_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(djserve_channels, "_with_hop", None)

    defer_connection_checks()

    assert djserve_channels._with_hop is None


def test_channels_that_cannot_be_imported_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(channels, "db")
    monkeypatch.setitem(sys.modules, "channels.db", None)

    with pytest.raises(ModuleNotFoundError, match=r"channels\.db"):
        defer_connection_checks()


# What leases and hops have for this module.


def test_preceding_job_runs_once_before_the_next(single: ThreadPool) -> None:
    lease = Lease(single, held=False)
    order: list[str] = []

    def check() -> None:
        order.append("check")

    for _ in range(3):
        lease.precede(check)
    assert not lease.was_used
    lease.submit(order.append, "call").result(60)
    lease.submit(order.append, "call").result(60)

    assert order == ["check", "call", "call"]


def test_lease_of_a_context_is_the_current_one(single: ThreadPool) -> None:
    lease = make_lease(single)
    assert current_lease() is None

    token = enter_lease(lease)

    assert current_lease() is lease
    leave_lease(token)
    assert current_lease() is None


def test_thread_that_waits_for_a_coroutine_comes_before_the_lease(
    single: ThreadPool,
) -> None:
    async def find() -> Lease | None:
        return current_lease()

    async def main() -> Lease | None:
        token = enter_lease(make_lease(single))
        try:
            return await sync_to_async(async_to_sync(find))()
        finally:
            leave_lease(token)

    assert asyncio.run(main()) is None
