"""The consumer of WebTransport sessions, message by message and with a layer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from channels.exceptions import (
    AcceptConnection,
    DenyConnection,
    InvalidChannelLayerError,
)
from channels.testing import ApplicationCommunicator
from django.test import override_settings

from djserve.channels import WebTransportConsumer

SCOPE = {"type": "webtransport", "path": "/", "headers": []}
CONNECT = {"type": "webtransport.connect"}
ACCEPT = {"type": "webtransport.accept", "headers": []}
DISCONNECT = {"type": "webtransport.disconnect", "code": 7, "reason": ""}
LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.fixture(autouse=True)
def without_layer() -> Iterator[None]:
    """The project's own layer has sockets."""
    with override_settings(CHANNEL_LAYERS={}):
        yield


class Recorder(WebTransportConsumer):
    """A consumer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        Recorder.last = self

    last: Recorder

    async def receive_stream(
        self, stream: int | str, data: bytes, *, more: bool, unidirectional: bool
    ) -> None:
        self.told.append((stream, data, more, unidirectional))

    async def receive_datagram(self, data: bytes) -> None:
        self.told.append(data)

    async def stream_reset(self, stream: int | str, code: int) -> None:
        self.told.append(("reset", stream, code))

    async def stream_stopped(self, stream: int | str, code: int) -> None:
        self.told.append(("stopped", stream, code))

    async def disconnect(self, code: int | None) -> None:
        self.told.append(("disconnect", code))


def converse(consumer: type[WebTransportConsumer], *messages: dict[str, Any]) -> Any:
    """Send messages to a consumer; return what it has sent until it ended."""

    async def run() -> list[Any]:
        communicator = ApplicationCommunicator(consumer.as_asgi(), dict(SCOPE))
        for message in messages:
            await communicator.send_input(message)
        await communicator.wait(timeout=60)
        sent = []
        while not communicator.output_queue.empty():
            sent.append(communicator.output_queue.get_nowait())
        return sent

    return asyncio.run(run())


def test_each_message_has_its_method() -> None:
    stream = {"type": "webtransport.stream.receive", "stream": 4, "data": b"x"}
    sent = converse(
        Recorder,
        CONNECT,
        {**stream, "more_data": False, "unidirectional": True},
        {"type": "webtransport.datagram.receive", "data": b"quick"},
        {"type": "webtransport.stream.reset", "stream": 8, "code": 1},
        {"type": "webtransport.stream.stop", "stream": "mine", "code": 2},
        DISCONNECT,
    )

    assert sent == [ACCEPT]
    assert Recorder.last.told == [
        (4, b"x", False, True),
        b"quick",
        ("reset", 8, 1),
        ("stopped", "mine", 2),
        ("disconnect", 7),
    ]


def test_reset_ends_both_sides_by_default() -> None:
    reset = {"type": "webtransport.stream.reset", "code": 7}
    sent = converse(
        WebTransportConsumer,
        CONNECT,
        {**reset, "stream": 8},
        # The consumer's own: its side is the consumer's to end.
        {**reset, "stream": "mine"},
        DISCONNECT,
    )

    assert sent == [ACCEPT, {**reset, "stream": 8}]


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (AcceptConnection, ACCEPT),
        (DenyConnection, {"type": "webtransport.close", "code": 0, "reason": ""}),
    ],
)
def test_exceptions_of_channels_decide(error: type, answer: dict[str, Any]) -> None:
    class Deciding(WebTransportConsumer):
        async def connect(self) -> None:
            raise error

    assert converse(Deciding, CONNECT, DISCONNECT) == [answer]


@pytest.mark.parametrize(
    ("name", "arguments", "sent"),
    [
        (
            "send_stream",
            {"stream": "news", "data": b"x", "unidirectional": True},
            {"stream": "news", "data": b"x", "more_data": True, "unidirectional": True},
        ),
        ("reset_stream", {"stream": 4, "code": 5}, {"stream": 4, "code": 5}),
        ("stop_stream", {"stream": 4}, {"stream": 4, "code": 0}),
        ("send_datagram", {"data": b"x"}, {"data": b"x"}),
        ("close", {"code": 5, "reason": "r"}, {"code": 5, "reason": "r"}),
    ],
)
def test_each_method_sends_its_message(
    name: str, arguments: dict[str, Any], sent: dict[str, Any]
) -> None:
    class Sending(WebTransportConsumer):
        async def connect(self) -> None:
            await self.accept()
            call: Coroutine[Any, Any, None] = getattr(self, name)(**arguments)
            await call

    messages = converse(Sending, CONNECT, DISCONNECT)

    del messages[1]["type"]
    assert messages[1] == sent


def test_groups_are_joined_and_left() -> None:
    class Grouped(Recorder):
        groups = ("all",)

        async def say(self, event: dict[str, Any]) -> None:
            await self.send_datagram(event["data"])

    async def run() -> None:
        communicator = ApplicationCommunicator(Grouped.as_asgi(), dict(SCOPE))
        await communicator.send_input(CONNECT)
        await communicator.receive_output(timeout=60)
        layer = Recorder.last.channel_layer
        await layer.group_send("all", {"type": "say", "data": b"hi"})
        got = await communicator.receive_output(timeout=60)
        assert got == {"type": "webtransport.datagram.send", "data": b"hi"}
        await communicator.send_input(DISCONNECT)
        await communicator.wait(timeout=60)
        assert "all" not in layer.groups

    with override_settings(CHANNEL_LAYERS=LAYERS):
        asyncio.run(run())


@pytest.mark.parametrize("end", ["fault in connect", "fault", "cancelled"])
def test_groups_are_left_without_a_disconnect(end: str) -> None:
    class Failing(Recorder):
        groups = ("all", "some")

        async def connect(self) -> None:
            if end == "fault in connect":
                raise RuntimeError("as planned")
            await self.accept()

        async def receive_datagram(self, data: bytes) -> None:
            raise RuntimeError("as planned")

    async def run() -> None:
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        accepted = asyncio.Event()

        async def send(message: dict[str, Any]) -> None:
            accepted.set()

        inbox.put_nowait(CONNECT)
        if end == "fault":
            inbox.put_nowait({"type": "webtransport.datagram.receive", "data": b"x"})
        call = asyncio.create_task(Failing.as_asgi()(dict(SCOPE), inbox.get, send))
        if end == "cancelled":
            await accepted.wait()
            assert Recorder.last.channel_layer.groups.keys() == {"all", "some"}
            call.cancel()
        with pytest.raises((RuntimeError, asyncio.CancelledError)):
            await call
        assert not Recorder.last.channel_layer.groups

    with override_settings(CHANNEL_LAYERS=LAYERS):
        asyncio.run(run())


def test_groups_without_a_layer_are_a_clear_error() -> None:
    class Grouped(Recorder):
        groups = ("all",)

    with pytest.raises(InvalidChannelLayerError, match="groups need a channel layer"):
        converse(Grouped, CONNECT)
