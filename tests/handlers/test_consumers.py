"""Synchronous consumers of different sockets run at the same time."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import httpx
import pytest
import sentry_sdk
from asgiref.sync import sync_to_async
from channels.generic.websocket import WebsocketConsumer
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.urls import re_path

from djserve.asgi.application import takes_websockets
from djserve.asgi.types import Receive, Scope, Send
from djserve.handlers import parallel_consumers
from djserve.handlers.consumers import refuse_websockets
from djserve.handlers.runtime import make_pool
from djserve.handlers.threads.pool import ThreadPool
from djserve.testing.live import LiveServer
from tests.support.waiting import wait_until

# The channel layer opens a socket when it is first used.
pytestmark = pytest.mark.e2e

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


@pytest.mark.django_db
def test_consumers_of_different_sockets_meet(pool: ThreadPool) -> None:
    Meeting.barrier = threading.Barrier(SOCKETS)
    application = parallel_consumers(Meeting.as_asgi(), pool)

    async def main() -> list[list[str]]:
        sockets = [converse(application, [str(n)]) for n in range(SOCKETS)]
        return await asyncio.gather(*sockets)

    assert asyncio.run(main()) == [[f"met {n}"] for n in range(SOCKETS)]


@pytest.mark.django_db
def test_messages_of_one_socket_keep_their_order(pool: ThreadPool) -> None:
    texts = [str(number) for number in range(30)]

    answers = asyncio.run(converse(parallel_consumers(Echo.as_asgi(), pool), texts))

    assert answers == texts


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


@pytest.mark.parametrize(("kind", "ours"), [("websocket", True), ("http", False)])
def test_only_sockets_are_given_a_lease(
    kind: str, ours: bool, pool: ThreadPool
) -> None:
    name = thread_name(lambda app: parallel_consumers(app, pool), kind)

    assert name.startswith("djserve-") is ours


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


def test_server_is_told_where_no_websocket_is_taken() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None: ...

    refusing = refuse_websockets(application)

    assert takes_websockets(application)
    assert takes_websockets(parallel_consumers(application))
    assert not takes_websockets(refusing)
    assert not takes_websockets(parallel_consumers(refusing))
