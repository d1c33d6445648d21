"""What a consumer may send too late, and when it is told so after all."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any

import channels.consumer
import pytest
from channels.exceptions import StopConsumer
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from djserve.asgi import consumers
from djserve.asgi.consumers import DROPPED_MESSAGES, attend_consumers
from djserve.errors import ApplicationError, ClientDisconnected, SendAfterClose

# The channel layer opens a socket when it is first used.
pytestmark = pytest.mark.e2e

CONNECT = {"type": "websocket.connect"}
TEXT = {"type": "websocket.receive", "text": "x"}
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


def test_what_disconnect_sends_is_dropped_and_it_runs_to_its_end() -> None:
    parted: list[int] = []

    class Polite(AsyncWebsocketConsumer):
        async def disconnect(self, code: int) -> None:
            await self.send(text_data="goodbye")
            parted.append(code)

    run(Polite, ClientDisconnected, DISCONNECT)

    assert parted == [1001]


def test_disconnect_that_sends_without_end_is_ended() -> None:
    class Endless(AsyncWebsocketConsumer):
        async def disconnect(self, code: int) -> None:
            while True:
                await self.send(text_data="goodbye")

    with pytest.raises(ClientDisconnected):
        run(Endless, ClientDisconnected, DISCONNECT)


@pytest.mark.parametrize("calls_super", [True, False])
def test_consumer_with_a_call_of_its_own_is_handed_the_disconnect(
    calls_super: bool,
) -> None:
    parted: list[int] = []

    class Own(AsyncWebsocketConsumer):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if calls_super:
                await super().__call__(scope, receive, send)
                return
            self.scope, self.channel_layer, self.base_send = scope, None, send
            with contextlib.suppress(StopConsumer):
                while True:
                    await self.dispatch(await receive())

        async def receive(self, *args: Any, **kwargs: Any) -> None:
            await self.send("too late")

        async def disconnect(self, code: int) -> None:
            parted.append(code)

    attend_consumers()
    run(Own, ClientDisconnected, CONNECT, TEXT, DISCONNECT)

    assert parted == [1001]


def test_task_that_only_sends_holds_neither_the_loop_nor_the_disconnect() -> None:
    parted: list[int] = []

    class Ticking(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            self.task = asyncio.create_task(self.tick())

        async def tick(self) -> None:
            while True:
                await self.send(text_data="tick")

        async def disconnect(self, code: int) -> None:
            self.task.cancel()
            parted.append(code)

    attempts = run(Ticking, ClientDisconnected, CONNECT, DISCONNECT)

    assert parted == [1001]
    assert attempts < DROPPED_MESSAGES


def test_task_that_outlives_its_consumer_is_told() -> None:
    ended: list[BaseException] = []
    tasks: list[asyncio.Task[None]] = []

    class Forgetful(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            tasks.append(asyncio.create_task(self.tick()))

        async def tick(self) -> None:
            try:
                while True:
                    await self.send(text_data="tick")
            except ClientDisconnected as error:
                ended.append(error)

    async def converse() -> None:
        left: list[dict[str, Any]] = [CONNECT, DISCONNECT]

        async def receive() -> dict[str, Any]:
            return left.pop(0)

        async def send(message: Any) -> None:
            raise ClientDisconnected

        await Forgetful.as_asgi()(dict(WEBSOCKET), receive, send)
        await asyncio.gather(*tasks)

    asyncio.run(converse())

    assert len(ended) == 1


@pytest.mark.parametrize("pauses", [False, True], ids=["without a pause", "pausing"])
@pytest.mark.parametrize("is_lost", [False, True], ids=["waits", "lost"])
def test_answer_without_end_ends_and_the_disconnect_is_handed_over(
    pauses: bool, is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pauses:
        monkeypatch.setattr(consumers, "DROPPING_SECONDS", 0.0)
        monkeypatch.setattr(consumers, "DROPPED_MESSAGES", sys.maxsize)
    parted: list[int] = []

    class Endless(AsyncWebsocketConsumer):
        async def receive(self, **data: Any) -> None:
            while True:
                await self.send(text_data="tick")
                if pauses:
                    await asyncio.sleep(0.001)

        async def disconnect(self, code: int) -> None:
            await self.send(text_data="goodbye")
            parted.append(code)

    left: list[dict[str, Any]] = [TEXT] if is_lost else [TEXT, DISCONNECT]

    async def receive() -> dict[str, Any]:
        if not left:
            raise ClientDisconnected
        message: dict[str, Any] = left.pop(0)
        return message

    async def send(message: Any) -> None:
        raise ClientDisconnected

    async def converse() -> None:
        await Endless.as_asgi()(dict(WEBSOCKET), receive, send)

    asyncio.run(converse())

    assert parted == [1006 if is_lost else 1001]


def test_error_of_the_consumer_itself_is_not_taken_for_a_disconnect() -> None:
    class Faulty(AsyncWebsocketConsumer):
        async def receive(self, **data: Any) -> None:
            await self.send(text_data="dropped")
            raise ValueError

    with pytest.raises(ValueError):
        run(Faulty, ClientDisconnected, TEXT, DISCONNECT)


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
