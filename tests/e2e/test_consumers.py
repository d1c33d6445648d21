"""Channels' consumers whose client leaves while they work: all are told, none fails."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import h2.events
import pytest
from asgiref.sync import async_to_sync
from channels.auth import AuthMiddlewareStack
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)
from channels.middleware import BaseMiddleware
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import SessionMiddlewareStack
from django.urls import path

from djserve.handlers import parallel_consumers
from djserve.testing.live import LiveServer
from tests.e2e.clients import (
    CLOSE,
    ONE,
    HTTP2Client,
    ask_for_websocket,
    connect,
    end,
    open_websocket,
)
from tests.support.waiting import settle, wait_until

pytestmark = pytest.mark.e2e

CLIENTS = 30
seen: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    seen.clear()
    yield
    seen.clear()


async def client_has_gone(scope: Any) -> None:
    """Return once the server has learned that the client is not there any more."""
    seen["working"] += 1
    exchange = scope["exchange"]
    ended = getattr(exchange, "has_ended", None) or exchange._has_ended
    await wait_until(ended)


class Async(AsyncWebsocketConsumer):
    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await client_has_gone(self.scope)
        await self.send(text_data=text_data)
        await self.send(bytes_data=b"more", close=True)
        seen["went on"] += 1

    async def disconnect(self, code: int) -> None:
        seen["disconnect"] += 1


class AsyncJson(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await client_has_gone(self.scope)
        await self.send_json(content)
        seen["went on"] += 1

    async def disconnect(self, code: int) -> None:
        seen["disconnect"] += 1


class Sync(WebsocketConsumer):
    def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        async_to_sync(client_has_gone)(self.scope)
        self.send(text_data=text_data)
        seen["went on"] += 1

    def disconnect(self, code: int) -> None:
        seen["disconnect"] += 1


class Json(JsonWebsocketConsumer):
    def receive_json(self, content: Any, **kwargs: Any) -> None:
        async_to_sync(client_has_gone)(self.scope)
        self.send_json(content)
        seen["went on"] += 1

    def disconnect(self, code: int) -> None:
        seen["disconnect"] += 1


class Slow(AsyncWebsocketConsumer):
    """Accepts a client that has left while it was asked for."""

    async def connect(self) -> None:
        await client_has_gone(self.scope)
        await self.accept()
        await self.send(text_data="welcome")
        seen["went on"] += 1

    async def disconnect(self, code: int) -> None:
        seen["disconnect"] += 1


class Closing(AsyncWebsocketConsumer):
    """Closes the socket, and gets an event for its group before the disconnect."""

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        seen["working"] += 1
        await self.close()
        await self.send(text_data="too late")
        seen["went on"] += 1

    async def disconnect(self, code: int) -> None:
        seen["disconnect"] += 1


class Grouped(AsyncWebsocketConsumer):
    """Gets an event for its group after the client has left, before it is told."""

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await client_has_gone(self.scope)
        await self.channel_layer.send(self.channel_name, {"type": "late.event"})
        # The layer's answer is taken from it by a task.
        await settle()

    async def late_event(self, event: Any) -> None:
        assert not seen["disconnect"]
        await self.send(text_data="late")
        seen["went on"] += 1

    async def disconnect(self, code: int) -> None:
        seen["disconnect"] += 1


class Noting(BaseMiddleware):
    """A middleware of a project that stands between the server and the consumer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        async def noting_send(message: Any) -> None:
            await send(message)

        async def noting_receive() -> Any:
            return await receive()

        return await super().__call__(dict(scope), noting_receive, noting_send)


def route(consumer: Any) -> Any:
    return URLRouter([path("", consumer)])


STACKS: dict[str, Callable[[Any], Any]] = {
    "alone": lambda consumer: consumer,
    "routed": lambda consumer: URLRouter([path("", route(consumer))]),
    "by-type": lambda consumer: ProtocolTypeRouter({"websocket": route(consumer)}),
    "session": lambda consumer: SessionMiddlewareStack(route(consumer)),
    "authenticated": lambda consumer: AllowedHostsOriginValidator(
        AuthMiddlewareStack(route(consumer))
    ),
    "own-middleware": lambda consumer: Noting(Noting(route(consumer))),
    "parallel": lambda consumer: parallel_consumers(Noting(route(consumer))),
}


def with_exchange(application: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen["begun"] += 1
        scope["exchange"] = receive.__self__
        try:
            await application(scope, receive, send)
        finally:
            seen["ended"] += 1

    return app


def serve(consumer: Any, stack: str = "alone") -> LiveServer:
    application = STACKS[stack](consumer.as_asgi())
    return LiveServer(with_exchange(application), settings={"LIFESPAN": "off"})


def until(name: str, count: int) -> None:
    asyncio.run(wait_until(lambda: seen[name] >= count))


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name != "asyncio"
    ]


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("consumer", [Async, AsyncJson, Sync, Json])
def test_every_consumer_is_told_that_its_client_has_left(
    consumer: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(consumer, "parallel") as server:
        clients = [open_websocket(server.port) for _ in range(CLIENTS)]
        for client in clients:
            client.sendall(2 * ONE)
        until("working", 1)
        for client in clients:
            if how == "close":
                client.sendall(CLOSE)
            end(client, how)
        until("disconnect", CLIENTS)
        until("ended", CLIENTS)

    assert seen["disconnect"] == seen["ended"] == CLIENTS
    assert seen["went on"] == seen["working"] == 2 * CLIENTS
    assert faults(caplog) == []


@pytest.mark.parametrize("stack", STACKS)
def test_whatever_stands_around_the_consumer(
    stack: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    with serve(Async, stack) as server:
        client = open_websocket(server.port)
        client.sendall(ONE)
        until("working", 1)
        end(client, "reset")
        until("ended", 1)

    assert (seen["disconnect"], seen["went on"]) == (1, 1)
    assert faults(caplog) == []


def test_event_of_the_channel_layer_may_come_first(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    }
    with serve(Grouped) as server:
        client = open_websocket(server.port)
        client.sendall(ONE)
        until("working", 1)
        end(client, "reset")
        until("ended", 1)

    assert (seen["disconnect"], seen["went on"]) == (1, 1)
    assert faults(caplog) == []


def test_client_that_leaves_before_it_is_accepted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve(Slow) as server:
        sock = ask_for_websocket(server.port)
        until("working", 1)
        end(sock, "close")
        until("ended", 1)

    assert (seen["disconnect"], seen["went on"]) == (1, 1)
    assert faults(caplog) == []


def test_consumer_that_has_closed_may_be_late_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve(Closing) as server:
        client = open_websocket(server.port)
        client.sendall(ONE)
        until("ended", 1)
        end(client, "close")

    assert (seen["disconnect"], seen["went on"]) == (1, 1)
    assert faults(caplog) == []


@pytest.mark.parametrize("how", ["reset of the stream", "close", "reset"])
@pytest.mark.parametrize("consumer", [Async, Sync])
def test_consumer_over_http2_is_told(
    consumer: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(consumer, "parallel") as server:
        client = HTTP2Client(server.port)
        for _ in range(CLIENTS):
            stream_id = client.ask_for_websocket()
            client.wait_for(stream_id, h2.events.ResponseReceived)
            client.h2.send_data(stream_id, ONE)
        client.flush()
        until("working", CLIENTS)
        if how == "reset of the stream":
            for number in range(CLIENTS):
                client.h2.reset_stream(2 * number + 1)
            client.flush()
            until("ended", CLIENTS)
        end(client.sock, how)
        until("ended", CLIENTS)

    assert seen["disconnect"] == seen["went on"] == CLIENTS
    assert faults(caplog) == []


class OwnRequest(AsyncHttpConsumer):
    """Takes its request in its own way, without Channels' clean-up around it."""

    async def http_request(self, message: Any) -> None:
        await self.send_headers(status=200)
        await self.send_body(b"begun", more_body=True)
        await client_has_gone(self.scope)
        await self.send_body(b"late", more_body=True)

    async def disconnect(self) -> None:
        seen["disconnect"] += 1


class Working(AsyncHttpConsumer):
    """Never stops to send by itself."""

    async def handle(self, body: bytes) -> None:
        await self.send_headers(status=200)
        await self.send_body(b"begun", more_body=True)
        await client_has_gone(self.scope)
        while True:
            await self.send_body(b"more", more_body=True)

    async def disconnect(self) -> None:
        seen["disconnect"] += 1


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("protocol", ["1.1", "2"])
@pytest.mark.parametrize("consumer", [OwnRequest, Working])
def test_consumer_of_http_is_told(
    consumer: Any, protocol: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(consumer) as server:
        if protocol == "2":
            client = HTTP2Client(server.port)
            client.open((":method", "GET"), is_whole=True)
            sock = client.sock
        else:
            sock = connect(server.port)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert sock.recv(12) == b"HTTP/1.1 200"
        until("working", 1)
        end(sock, how)
        until("ended", 1)

    assert seen["disconnect"] == 1
    assert faults(caplog) == []


def test_other_applications_are_told_by_the_error_of_the_specification() -> None:
    async def only_sends(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await client_has_gone(scope)
        with pytest.raises(OSError):
            await send({"type": "websocket.send", "text": "late"})
        seen["raised"] += 1

    server = LiveServer(with_exchange(only_sends), settings={"LIFESPAN": "off"})
    with server:
        client = open_websocket(server.port)
        until("working", 1)
        end(client, "reset")
        until("ended", 1)

    assert seen["raised"] == 1
