"""What a consumer may send too late, and when it is told so after all."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import channels.consumer
import pytest
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from djserve.asgi.consumers import attend_consumers
from djserve.errors import ApplicationError, ClientDisconnected, SendAfterClose

CONNECT = {"type": "websocket.connect"}
DISCONNECT = {"type": "websocket.disconnect", "code": 1001}
WEBSOCKET = {"type": "websocket", "path": "/"}
HTTP = {"type": "http", "path": "/"}


@pytest.fixture(autouse=True)
def _attended() -> None:
    attend_consumers()


def run(
    consumer: type[Any],
    error: Callable[[], BaseException],
    *messages: dict[str, Any],
    scope: dict[str, Any] = WEBSOCKET,
) -> int:
    """Run a consumer on messages with a ``send`` that raises; return its attempts."""
    left = list(messages)
    attempts = 0

    async def receive() -> dict[str, Any]:
        return left.pop(0)

    async def send(message: Any) -> None:
        nonlocal attempts
        attempts += 1
        raise error()

    asyncio.run(consumer.as_asgi()(dict(scope), receive, send))
    return attempts


class Plain(AsyncWebsocketConsumer):
    pass


class Returning(AsyncWebsocketConsumer):
    async def disconnect(self, code: int) -> None:
        await self.send(text_data="goodbye")


class Streaming(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        while True:
            await self.send_body(b"more", more_body=True)


@pytest.mark.parametrize(
    "error", [ClientDisconnected, lambda: SendAfterClose("websocket.send", "CLOSED")]
)
def test_what_is_sent_too_late_is_dropped(error: Any) -> None:
    assert run(Plain, error, CONNECT, DISCONNECT) == 1


@pytest.mark.parametrize("error", [ApplicationError, OSError, ValueError])
def test_other_errors_are_the_consumers_own(error: Any) -> None:
    with pytest.raises(error):
        run(Plain, error, CONNECT, DISCONNECT)


def test_consumer_that_knows_is_told_by_an_error() -> None:
    with pytest.raises(ClientDisconnected):
        run(Returning, ClientDisconnected, DISCONNECT)


def test_endless_answer_to_a_request_ends() -> None:
    request = {"type": "http.request", "body": b""}

    with pytest.raises(ClientDisconnected):
        run(Streaming, ClientDisconnected, request, scope=HTTP)


def test_class_is_changed_once() -> None:
    call = channels.consumer.AsyncConsumer.__call__
    attend_consumers()

    assert channels.consumer.AsyncConsumer.__call__ is call


def test_channels_need_not_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "channels.consumer")
    attend_consumers()

    assert "channels.consumer" not in sys.modules


def test_consumer_keeps_nothing_of_the_call() -> None:
    made: list[Any] = []

    class Kept(AsyncWebsocketConsumer):
        async def disconnect(self, code: int) -> None:
            made.append(self)

    run(Kept, ClientDisconnected, DISCONNECT)

    assert "dispatch" not in vars(made[0])
