"""WebSocket and WebTransport sessions that the application has not accepted yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from djserve.asgi.application import ApplicationCalls
from djserve.asgi.handshake import HandshakeExchange
from djserve.asgi.websocket import WebSocketExchange
from djserve.asgi.webtransport import WebTransportExchange
from djserve.conf.schema import WebSocketConfig
from djserve.errors import ClientDisconnected
from djserve.interfaces import RequestHead
from djserve.protocols.websocket.handshake import Handshake
from tests.support.logs import own_records
from tests.support.waiting import PATIENCE, settle

TIMEOUT = 5.0
TEXT = [(b"content-type", b"text/plain; charset=utf-8")]

Application = Callable[[Any, Any, Any], Awaitable[None]]


class Stream:
    """The request's stream in memory: what it was answered with."""

    is_writable = True

    def __init__(self) -> None:
        self.responses: list[tuple[int, Any, bytes, bool]] = []
        self.is_aborted = False

    def send_response(self, *response: Any, more: bool) -> None:
        self.responses.append((*response, more))

    def abort(self) -> None:
        self.is_aborted = True


class Entry:
    """The log's part of a WebSocket."""

    def __init__(self, statuses: list[int]) -> None:
        self.rejected = statuses.append

    def accepted(self) -> None: ...
    def closed(self, code: int) -> None: ...


class Client:
    """A client that has asked for a session of a kind, and the exchange for it."""

    def __init__(self, kind: str, application: Application) -> None:
        self.stream: Any = Stream()
        self.statuses: list[int] = []
        self.calls = ApplicationCalls(application, asyncio.get_running_loop(), 10.0)
        self.exchange = self._make(kind)

    def _make(self, kind: str) -> HandshakeExchange:
        scope: Any = {"type": kind, "path": "/", "client": None, "headers": []}
        head = RequestHead("CONNECT", b"/", b"", [], "3")
        if kind == "webtransport":

            def finish(
                head: Any, scope: Any, started: float, status: int, size: int
            ) -> None:
                self.statuses.append(status)

            return WebTransportExchange(
                scope, head, self.stream, self.calls, TIMEOUT, finish
            )
        return WebSocketExchange(
            scope,
            head,
            Handshake(b"k", []),
            self.stream,
            WebSocketConfig(websocket_connect_timeout=TIMEOUT),
            write_timeout=30.0,
            calls=self.calls,
            entry=Entry(self.statuses),
        )

    async def begin(self) -> None:
        self.exchange.start()
        await settle()

    async def end(self) -> None:
        await self.calls.wait(PATIENCE)


@pytest.fixture(params=["websocket", "webtransport"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def undecided(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("what", "status", "body"),
    [
        ("close", 403, b"Forbidden"),
        ("return", 500, b"Internal Server Error"),
        ("raise", 500, b"Internal Server Error"),
        ("late", 503, b"Service Unavailable"),
        ("drain", 503, b"Service Unavailable"),
    ],
)
def test_session_that_is_not_accepted(
    what: str, status: int, body: bytes, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if what == "close":
            await send({"type": f"{kind}.close"})
        elif what == "raise":
            raise RuntimeError("as planned")
        elif what != "return":
            assert (await receive())["type"] == f"{kind}.disconnect"

    async def main() -> None:
        client = Client(kind, application)
        await client.begin()
        if what == "late":
            client.exchange.tick(0.0)
            client.exchange.tick(TIMEOUT - 0.1)
            assert client.stream.responses == []
            client.exchange.tick(TIMEOUT)
        elif what == "drain":
            client.exchange.drain()
            client.exchange.drain()
        assert client.stream.responses == [(status, TEXT, body, False)]
        assert client.statuses == [status]
        await client.end()

    asyncio.run(main())
    faults = [record for record in own_records(caplog) if record.exc_info]
    assert len(faults) == (what in ("return", "raise"))


def test_time_that_the_server_lets_the_application_wait_does_not_count(
    kind: str,
) -> None:
    async def main() -> None:
        client = Client(kind, undecided)
        await client.begin()
        client.exchange.waiting_time = lambda: 10.0
        for now in (100.0, 109.9 + TIMEOUT):
            client.exchange.tick(now)
        assert client.stream.responses == []
        client.exchange.tick(110.0 + TIMEOUT)
        assert client.statuses == [503]
        await client.end()

    asyncio.run(main())


def test_application_that_accepts_too_late_is_told_that_the_client_has_gone(
    kind: str,
) -> None:
    """It cannot have known: that is no mistake of its own."""
    heard: list[type[BaseException]] = []
    is_drained = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await is_drained.wait()
        try:
            await send({"type": f"{kind}.accept"})
        except Exception as error:
            heard.append(type(error))

    async def main() -> None:
        client = Client(kind, application)
        await client.begin()
        client.exchange.drain()
        is_drained.set()
        await client.end()
        assert client.statuses == [503]

    asyncio.run(main())
    assert heard == [ClientDisconnected]


def test_client_that_leaves_or_sends_too_early_is_recorded_without_a_status(
    kind: str,
) -> None:
    async def main() -> None:
        client = Client(kind, undecided)
        await client.begin()
        client.exchange.data_received(b"early")
        assert client.stream.is_aborted
        client.exchange.connection_lost(None)
        assert client.statuses == [0]
        assert client.stream.responses == []
        await client.calls.cancel_all(PATIENCE)

    asyncio.run(main())
