"""A session as a conversation: what is joined, what waits, what may be sent when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from djserve.asgi.application import ApplicationCalls
from djserve.asgi.webtransport import (
    DATAGRAM_LIMIT,
    QUEUE_LIMIT,
    WebTransportExchange,
)
from djserve.errors import (
    ApplicationError,
    ClientDisconnected,
    SendAfterClose,
    UnexpectedMessage,
)
from djserve.interfaces import RequestHead

ACCEPT = {"type": "webtransport.accept"}


class Session:
    """An open session in memory (interfaces.WebTransport)."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.full: set[int] = set()
        self.observer: Any = None
        self.opened = 0

    def open_stream(self, is_unidirectional: bool) -> int:
        self.opened += 1
        return 4 * self.opened + (3 if is_unidirectional else 1)

    def send(self, *call: Any) -> None:
        self.calls.append(call)

    def is_writable(self, stream_id: int) -> bool:
        return stream_id not in self.full

    def reset_stream(self, *call: Any) -> None:
        self.calls.append(("reset", *call))

    def stop_stream(self, *call: Any) -> None:
        if call[1] < 0:
            raise ValueError("a code has 32 bits")
        self.calls.append(("stop", *call))

    def consumed(self, *call: Any) -> None:
        self.calls.append(("consumed", *call))

    def send_datagram(self, data: bytes) -> None:
        self.calls.append((data,))

    def close(self, code: int, reason: str) -> None:
        self.calls.append(("close", code, reason))
        self.observer.closed(code, reason)


class Stream:
    """The stream of a request for a session (interfaces.SessionStream)."""

    def __init__(self) -> None:
        self.session = Session()
        self.headers: Any = None
        self.responses: list[tuple[int, bytes]] = []
        self.is_aborted = False

    def open_session(self, headers: Any, observer: Any) -> Session:
        self.headers = headers
        self.session.observer = observer
        return self.session

    def send_response(self, status: int, headers: Any, data: bytes, more: bool) -> None:
        assert type(status) is int
        assert not more
        self.responses.append((status, data))

    def abort(self) -> None:
        self.is_aborted = True


Talk = Callable[[Any, Any], Awaitable[None]]
Watch = Callable[[WebTransportExchange, Stream], Awaitable[None]]


def converse(talk: Talk, watch: Watch) -> list[int]:
    """Run an application beside what happens to its session; return the statuses."""
    statuses: list[int] = []

    async def run() -> None:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await talk(receive, send)

        def finish(
            head: Any, scope: Any, started: float, status: int, size: int
        ) -> None:
            statuses.append(status)

        stream: Any = Stream()
        calls = ApplicationCalls(application, asyncio.get_running_loop(), 10.0)
        head = RequestHead("CONNECT", b"/", b"", [], "3")
        scope: Any = {
            "type": "webtransport",
            "path": "/",
            "client": None,
            "headers": [],
        }
        exchange = WebTransportExchange(scope, head, stream, calls, 5.0, finish)
        exchange.start()
        await settle()
        await watch(exchange, stream)
        await settle()
        await calls.cancel_all(1.0)

    asyncio.run(run())
    return statuses


def takes_streams(exchange: WebTransportExchange) -> bool:
    return exchange.takes_streams


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def until_disconnect(receive: Any, got: list[Any]) -> None:
    while True:
        got.append(await receive())
        if got[-1]["type"] == "webtransport.disconnect":
            return


def read_behind(gate: asyncio.Event, got: list[Any]) -> Talk:
    """Return an application that accepts, and reads once the gate is open."""

    async def talk(receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await gate.wait()
        await until_disconnect(receive, got)

    return talk


def test_bytes_are_joined_and_credited_when_they_are_taken() -> None:
    got: list[Any] = []
    gate = asyncio.Event()

    async def watch(exchange: WebTransportExchange, stream: Stream) -> None:
        for byte in b"joined":
            exchange.stream_received(4, bytes([byte]), False)
        exchange.stream_received(6, b"other", True)
        exchange.stream_received(4, b"", True)
        assert (exchange.held_size, stream.session.calls) == (11, [])
        gate.set()
        await settle()
        assert exchange.held_size == 0
        assert stream.session.calls == [
            ("consumed", 4, 6, True),
            ("consumed", 6, 5, True),
        ]
        exchange.closed(9, "bye")

    statuses = converse(read_behind(gate, got), watch)

    keys = ("type", "stream", "data", "more_data", "unidirectional")
    assert [tuple(message.get(key) for key in keys) for message in got[:2]] == [
        ("webtransport.stream.receive", 4, b"joined", False, False),
        ("webtransport.stream.receive", 6, b"other", False, True),
    ]
    assert got[2] == {"type": "webtransport.disconnect", "code": 9, "reason": "bye"}
    assert statuses == [200]


def test_reset_takes_back_what_waits() -> None:
    got: list[Any] = []
    gate = asyncio.Event()

    async def watch(exchange: WebTransportExchange, stream: Stream) -> None:
        exchange.stream_received(4, b"seen", False)
        gate.set()
        await settle()
        exchange.stream_received(4, b"half", False)
        exchange.stream_reset(4, 7)
        assert exchange.held_size == 0
        assert ("consumed", 4, 0, True) not in stream.session.calls
        await settle()
        assert stream.session.calls[-1] == ("consumed", 4, 0, True)
        exchange.closed(None, "")

    converse(read_behind(gate, got), watch)

    assert [message["type"].split(".")[-1] for message in got] == [
        "receive",
        "reset",
        "disconnect",
    ]
    assert (got[0]["data"], got[1]["code"]) == (b"seen", 7)


def test_streams_that_were_never_seen_leave_no_trace() -> None:
    got: list[Any] = []
    gate = asyncio.Event()

    async def watch(exchange: WebTransportExchange, stream: Stream) -> None:
        for number in range(QUEUE_LIMIT + 5):
            assert takes_streams(exchange)
            exchange.stream_received(4 * number, b"half", False)
            exchange.stream_reset(4 * number, 7)
            # Our side would keep the stream open, and the peer from another.
            ended = [("reset", 4 * number, 7), ("consumed", 4 * number, 0, True)]
            assert stream.session.calls[-2:] == ended
        for number in range(QUEUE_LIMIT):
            assert takes_streams(exchange)
            exchange.stream_received(4 * number, b"x", True)
        assert not takes_streams(exchange)
        gate.set()
        await settle()
        assert takes_streams(exchange)
        exchange.closed(0, "")

    converse(read_behind(gate, got), watch)

    assert {message["type"] for message in got[:-1]} == {"webtransport.stream.receive"}
    assert len(got) == QUEUE_LIMIT + 1


def test_end_of_the_session_gives_credit_for_what_waits() -> None:
    got: list[Any] = []
    gate = asyncio.Event()

    async def watch(exchange: WebTransportExchange, stream: Stream) -> None:
        exchange.stream_received(4, b"open", False)
        exchange.stream_received(6, b"ended", True)
        exchange.closed(0, "")
        credit = [("consumed", 4, 4, False), ("consumed", 6, 5, False)]
        assert stream.session.calls == credit
        gate.set()
        await settle()
        assert stream.session.calls == credit

    converse(read_behind(gate, got), watch)

    assert [message.get("data") for message in got] == [b"open", b"ended", None]


def test_name_of_a_stream_that_is_over_opens_another() -> None:
    async def talk(receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        message = {"type": "webtransport.stream.send", "stream": "news", "data": b"a"}
        await send(message)
        await receive()
        await send(message)
        await until_disconnect(receive, [])

    async def watch(exchange: WebTransportExchange, stream: Stream) -> None:
        exchange.stream_ended(5)
        exchange.datagram_received(b"")
        await settle()
        assert stream.session.calls == [(5, b"a", False), (9, b"a", False)]
        assert len(exchange._names) == len(exchange._ids) == 1
        exchange.closed(0, "")

    converse(talk, watch)


def test_datagrams_beyond_the_limit_are_lost() -> None:
    got: list[Any] = []
    gate = asyncio.Event()

    async def watch(exchange: WebTransportExchange, stream: Stream) -> None:
        for number in range(DATAGRAM_LIMIT + 5):
            exchange.datagram_received(b"%d" % number)
        gate.set()
        await settle()
        assert exchange.held_size == 0
        exchange.datagram_received(b"again")
        exchange.closed(0, "")

    converse(read_behind(gate, got), watch)

    expected = [*(b"%d" % number for number in range(DATAGRAM_LIMIT)), b"again"]
    assert [message["data"] for message in got[:-1]] == expected


def test_names_open_streams_and_stand_for_them() -> None:
    got: list[Any] = []

    async def talk(receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        message = {"type": "webtransport.stream.send", "stream": "news"}
        await send({**message, "data": b"a"})
        await send({**message, "data": bytearray(b"b"), "more_data": False})
        stop = {"type": "webtransport.stream.stop", "stream": "news", "code": 3}
        await send(stop)
        with pytest.raises(ApplicationError, match="no stream 'other'"):
            await send({**stop, "stream": "other"})
        with pytest.raises(ApplicationError, match="32 bits"):
            await send({**stop, "code": -1})
        with pytest.raises(ApplicationError, match="code must be int, got '1'"):
            await send({**stop, "code": "1"})
        await until_disconnect(receive, got)

    async def watch(exchange: WebTransportExchange, stream: Stream) -> None:
        assert stream.session.calls == [
            (5, b"a", False),
            (5, b"b", True),
            ("stop", 5, 3),
        ]
        exchange.stream_received(5, b"answer", True)
        await settle()
        exchange.closed(0, "")

    converse(talk, watch)

    assert (got[0]["stream"], got[0]["data"]) == ("news", b"answer")


def test_send_waits_for_its_stream() -> None:
    progress: list[str] = []

    async def talk(receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        await send({"type": "webtransport.stream.send", "stream": 4, "data": b"x"})
        progress.append("sent")
        await until_disconnect(receive, [])

    async def watch(exchange: WebTransportExchange, stream: Stream) -> None:
        stream.session.full.add(4)
        exchange.stream_received(4, b"x", False)
        await settle()
        assert not progress
        stream.session.full.clear()
        exchange.stream_writable(4)
        await settle()
        assert progress == ["sent"]
        exchange.closed(0, "")

    converse(talk, watch)


def test_client_that_leaves_before_it_is_accepted() -> None:
    got: list[Any] = []

    async def talk(receive: Any, send: Any) -> None:
        await until_disconnect(receive, got)
        with pytest.raises(ClientDisconnected):
            await send(ACCEPT)
        with pytest.raises(ClientDisconnected):
            await receive()

    async def watch(exchange: WebTransportExchange, stream: Stream) -> None:
        exchange.connection_lost(None)

    assert converse(talk, watch) == [0]
    assert got[-1]["code"] is None


def test_messages_out_of_order_are_errors() -> None:
    async def talk(receive: Any, send: Any) -> None:
        message = {"type": "webtransport.datagram.send", "data": b"x"}
        with pytest.raises(UnexpectedMessage, match="CONNECTING"):
            await send(message)
        await send(ACCEPT)
        with pytest.raises(UnexpectedMessage, match="OPEN"):
            await send(ACCEPT)
        await send({"type": "webtransport.close", "code": 4, "reason": "done"})
        await send({"type": "webtransport.close"})
        with pytest.raises(SendAfterClose):
            await send(message)

    async def watch(exchange: WebTransportExchange, stream: Stream) -> None:
        assert stream.session.calls == [("close", 4, "done")]

    assert converse(talk, watch) == [200]


def test_fault_after_the_acceptance_ends_the_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        raise RuntimeError("as planned")

    async def watch(exchange: WebTransportExchange, stream: Stream) -> None:
        assert stream.session.calls == [("close", 1011, "")]

    assert converse(talk, watch) == [200]
    assert "WebTransport session /" in caplog.text
