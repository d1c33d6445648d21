from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest

from djserve.asgi.application import ApplicationCalls
from djserve.asgi.websocket import (
    COMPRESSED_IN_A_TURN,
    SENDS_IN_A_TURN,
    WebSocketExchange,
)
from djserve.conf.schema import WebSocketConfig
from djserve.errors import ApplicationError, ClientDisconnected, UnexpectedMessage
from djserve.instrumentation import limits
from djserve.interfaces import Headers, RequestHead, WireProtocol
from djserve.protocols.websocket import connection as websocket_connection
from djserve.protocols.websocket.handshake import Handshake
from djserve.testing.live import LiveServer
from djserve.testing.transport import MemoryTransport
from tests.support.logs import own_records
from tests.support.turns import TurnCounts
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from djserve.asgi.types import Application, Message, Receive, Scope, Send

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
ABNORMAL = {"type": "websocket.disconnect", "code": 1006, "reason": ""}


@pytest.fixture(autouse=True)
def enabled_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let faults be logged even where another test's dictConfig has disabled that."""
    monkeypatch.setattr(logging.getLogger("djserve.application"), "disabled", False)


class StubStream:
    """A request's stream in memory: what an exchange asks of it, it notes."""

    def __init__(self) -> None:
        self.is_writable = True
        self.extensions: dict[str, dict[str, Any]] = {}
        self.responses: list[tuple[int, Headers, bytes, bool]] = []
        self.content: list[tuple[bytes, bool]] = []
        self.is_aborted = False
        self.upgraded: Headers | None = None
        self.transport = MemoryTransport()

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        self.responses.append((status, headers, data, more))

    def send_data(self, data: bytes, more: bool) -> None:
        self.content.append((data, more))

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> MemoryTransport:
        self.upgraded = headers
        self.transport.set_protocol(receiver)
        return self.transport

    def abort(self) -> None:
        self.is_aborted = True

    def send_informational(self, status: int, headers: Headers) -> None: ...
    def send_trailers(self, headers: Headers) -> None: ...
    def push(self, path: str, headers: Headers) -> None: ...
    def request_content(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Entry:
    """The log's part."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def accepted(self) -> None:
        self.events.append("accepted")

    def rejected(self, status: int) -> None:
        self.events.append(status)

    def closed(self, code: int) -> None:
        self.events.append(("closed", code))


class Conversation:
    """One exchange with its stream: a test plays the application and the peer."""

    def __init__(self, application: Application, **config: Any) -> None:
        self.stream = StubStream()
        self.entry = Entry()
        self.calls = ApplicationCalls(application, asyncio.get_running_loop(), 10.0)
        self.exchange = WebSocketExchange(
            {"type": "websocket", "path": "/"},
            RequestHead("GET", b"/", b"", [], "1.1"),
            Handshake(b"k", ["chat", "graphql-ws"]),
            self.stream,
            WebSocketConfig(**config),
            write_timeout=30.0,
            calls=self.calls,
            entry=self.entry,
        )

    @property
    def transport(self) -> MemoryTransport:
        return self.stream.transport

    async def send(self, *messages: Message) -> None:
        for message in messages:
            await self.exchange.send(message)

    async def receive(self, count: int = 1) -> list[Message]:
        return [await self.exchange.receive() for _ in range(count)]

    async def run(self) -> None:
        """Run the application to its end."""
        self.exchange.start()
        await self.calls.wait(PATIENCE)

    def feed(self, *messages: str | bytes) -> None:
        """Send messages as the peer."""
        for message in messages:
            data = message.encode() if isinstance(message, str) else message
            opcode = 0x81 if isinstance(message, str) else 0x82
            self.transport.feed(bytes((opcode, 0x80 | len(data))) + bytes(4) + data)


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that does nothing: the test speaks for it."""


def converse(test: Callable[[Conversation], Awaitable[None]], **config: Any) -> None:
    """Run a test inside a loop, on a conversation that has not begun."""

    async def main() -> None:
        await test(Conversation(silent, **config))

    asyncio.run(main())


def converse_open(
    test: Callable[[Conversation], Awaitable[None]], **config: Any
) -> None:
    """Run a test on a conversation that has been accepted."""

    async def main(conversation: Conversation) -> None:
        await conversation.receive()
        await conversation.send(ACCEPT)
        await test(conversation)

    converse(main, **config)


def serve(application: Application, **config: Any) -> Conversation:
    """Run an application to its end and return the conversation."""

    async def main() -> Conversation:
        conversation = Conversation(application, **config)
        await conversation.run()
        return conversation

    return asyncio.run(main())


# The handshake.


def test_connect_comes_first_and_accept_upgrades() -> None:
    async def test(peer: Conversation) -> None:
        assert await peer.receive() == [{"type": "websocket.connect"}]
        await peer.send(ACCEPT)
        assert [name for name, _ in peer.stream.upgraded or []] == [
            b"sec-websocket-accept"
        ]
        assert peer.entry.events == ["accepted"]

    converse(test)


def test_accept_carries_subprotocol_and_headers() -> None:
    async def test(peer: Conversation) -> None:
        await peer.send(
            {**ACCEPT, "subprotocol": "graphql-ws", "headers": [(b"x-a", b"b")]}
        )
        assert (peer.stream.upgraded or [])[1:] == [
            (b"sec-websocket-protocol", b"graphql-ws"),
            (b"x-a", b"b"),
        ]

    converse(test)


@pytest.mark.parametrize(
    "accept",
    [
        {**ACCEPT, "subprotocol": "other"},
        {**ACCEPT, "subprotocol": b"chat"},
        {**ACCEPT, "headers": [(b"sec-websocket-protocol", b"chat")]},
        {**ACCEPT, "headers": [(b"x", b"a\r\nb: c")]},
    ],
)
def test_wrong_accept_becomes_a_500(
    accept: Message, caplog: pytest.LogCaptureFixture
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(accept)

    peer = serve(application)

    assert peer.stream.upgraded is None
    assert peer.stream.responses == [(500, TEXT, b"Internal Server Error", False)]
    assert len(own_records(caplog)) == 1
    assert own_records(caplog)[0].exc_info is not None


def test_close_before_accept_is_a_403() -> None:
    async def test(peer: Conversation) -> None:
        await peer.send(CLOSE)
        assert peer.stream.responses == [(403, TEXT, b"Forbidden", False)]
        assert (await peer.receive(2))[1] == ABNORMAL
        assert peer.entry.events == [403]

    converse(test)


def test_denial_response_is_streamed() -> None:
    async def test(peer: Conversation) -> None:
        kind = "websocket.http.response"
        await peer.send(
            {"type": f"{kind}.start", "status": 401, "headers": [(b"x-a", b"b")]}
        )
        assert peer.stream.responses == []
        await peer.send(
            {"type": f"{kind}.body", "body": b"1", "more_body": True},
            {"type": f"{kind}.body", "body": b"2", "more_body": True},
            {"type": f"{kind}.body"},
        )
        assert peer.stream.responses == [(401, [(b"x-a", b"b")], b"1", True)]
        assert peer.stream.content == [(b"2", True), (b"", False)]
        assert (await peer.receive(2))[1] == ABNORMAL
        assert peer.entry.events == [401]

    converse(test)


def test_denial_in_one_part_knows_that_it_is_whole() -> None:
    async def test(peer: Conversation) -> None:
        await peer.send(
            {"type": "websocket.http.response.start", "status": 404},
            {"type": "websocket.http.response.body", "body": b"no"},
        )
        assert peer.stream.responses == [(404, [], b"no", False)]

    converse(test)


def test_denial_waits_for_a_slow_peer() -> None:
    async def test(peer: Conversation) -> None:
        peer.stream.is_writable = False
        await peer.send({"type": "websocket.http.response.start", "status": 404})
        body = {"type": "websocket.http.response.body", "more_body": True}
        sending = asyncio.create_task(peer.exchange.send(body))
        await asyncio.sleep(0)
        assert not sending.done()
        peer.stream.is_writable = True
        peer.exchange.resume_writing()
        await sending

    converse(test)


@pytest.mark.parametrize("status", [None, "200", 101, 1000, True])
def test_denial_with_a_status_that_is_none_is_refused(status: object) -> None:
    async def test(peer: Conversation) -> None:
        with pytest.raises(ApplicationError, match="status must be"):
            await peer.send({"type": "websocket.http.response.start", "status": status})

    converse(test)


def test_no_decision_in_time_gets_503_and_cancels_the_application(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_next_log", {})
    monkeypatch.setattr(limits, "_unnamed", {})

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        peer = Conversation(application, websocket_connect_timeout=5.0)
        peer.exchange.start()
        await asyncio.sleep(0)
        for now in (100, 104.9):
            peer.exchange.tick(now)
        assert peer.stream.responses == []
        peer.exchange.tick(105)
        await peer.calls.wait(PATIENCE)
        assert peer.stream.responses == [(503, TEXT, b"Service Unavailable", False)]
        assert len(peer.calls) == 0
        assert peer.entry.events == [503]

    asyncio.run(main())
    lines = [record.getMessage() for record in own_records(caplog)]
    assert len(lines) == 1
    assert "503: neither accepted nor refused in 5 s (setting WEBSOCKET" in lines[0]


def test_drain_refuses_what_is_not_decided() -> None:
    async def test(peer: Conversation) -> None:
        peer.exchange.drain()
        peer.exchange.drain()
        assert [response[0] for response in peer.stream.responses] == [503]
        with pytest.raises(ClientDisconnected):
            await peer.send(ACCEPT)

    converse(test)


def test_client_that_leaves_before_it_is_accepted_is_disconnected() -> None:
    async def test(peer: Conversation) -> None:
        peer.exchange.eof_received()
        peer.exchange.connection_lost(None)
        assert await peer.receive(2) == [{"type": "websocket.connect"}, ABNORMAL]
        with pytest.raises(ClientDisconnected):
            await peer.send(ACCEPT)
        peer.exchange.application_finished()
        assert peer.stream.responses == []
        assert peer.entry.events == [0]

    converse(test)


def test_bytes_before_the_upgrade_break_it_off() -> None:
    async def test(peer: Conversation) -> None:
        peer.exchange.data_received(b"x")
        assert peer.stream.is_aborted
        assert (await peer.receive(2))[1] == ABNORMAL

    converse(test)


# Messages.


def test_messages_are_received_with_one_key_each() -> None:
    async def test(peer: Conversation) -> None:
        peer.feed("hi", b"\0", "", b"")
        assert await peer.receive(4) == [
            {"type": "websocket.receive", "text": "hi"},
            {"type": "websocket.receive", "bytes": b"\0"},
            {"type": "websocket.receive", "text": ""},
            {"type": "websocket.receive", "bytes": b""},
        ]

    converse_open(test)


def test_receive_waits_for_a_message() -> None:
    async def test(peer: Conversation) -> None:
        receiving = asyncio.create_task(peer.exchange.receive())
        await asyncio.sleep(0)
        assert not receiving.done()
        peer.feed("hi")
        assert (await receiving)["text"] == "hi"

    converse_open(test)


def test_two_receivers_get_one_message_each() -> None:
    async def test(peer: Conversation) -> None:
        tasks = [asyncio.create_task(peer.exchange.receive()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        peer.feed("a", "b")
        messages = await asyncio.gather(*tasks[1:])
        assert [message["text"] for message in messages] == ["a", "b"]

    converse_open(test)


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ({"text": "é"}, b"\x81\x02\xc3\xa9"),
        ({"text": ""}, b"\x81\x00"),
        ({"bytes": b"\0"}, b"\x82\x01\0"),
        ({"bytes": b""}, b"\x82\x00"),
        ({"bytes": None, "text": "a"}, b"\x81\x01a"),
        ({"bytes": b"a", "text": None}, b"\x82\x01a"),
        ({"bytes": bytearray(b"a")}, b"\x82\x01a"),
        pytest.param({"bytes": memoryview(b"a")}, b"\x82\x01a", id="memoryview"),
    ],
    ids=str,
)
def test_message_is_sent_as_its_key_says(message: Message, sent: bytes) -> None:
    async def test(peer: Conversation) -> None:
        await peer.send({"type": "websocket.send", **message})
        assert peer.transport.take() == sent

    converse_open(test)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ({}, "got neither"),
        ({"text": None, "bytes": None}, "got neither"),
        ({"text": "a", "bytes": b"b"}, "got both"),
        ({"text": b"a"}, "text must be str, got b'a'"),
        ({"bytes": "a"}, "bytes must be bytes, got 'a'"),
        ({"text": "\ud800"}, "surrogates not allowed"),
    ],
    ids=str,
)
def test_wrong_message_is_an_application_error(message: Message, fault: str) -> None:
    async def test(peer: Conversation) -> None:
        with pytest.raises(ApplicationError, match=fault):
            await peer.send({"type": "websocket.send", **message})
        assert peer.transport.take() == b""

    converse_open(test)


def test_full_inbox_holds_the_peer_back_until_it_is_half_empty() -> None:
    async def test(peer: Conversation) -> None:
        peer.feed(*"abcdef")
        assert peer.transport.reading_paused
        await peer.receive()
        held = peer.transport.reading_paused
        texts = [message["text"] for message in await peer.receive(5)]
        assert held
        assert texts == list("bcdef")
        assert not peer.transport.reading_paused

    converse_open(test, websocket_queue_limit=4)


def test_inbox_is_bounded_in_bytes_too() -> None:
    async def test(peer: Conversation) -> None:
        peer.feed(bytes(60), bytes(60), b"held")
        assert peer.transport.reading_paused
        assert len(peer.exchange._inbox) == 2
        assert [len(m["bytes"]) for m in await peer.receive(3)] == [60, 60, 4]

    converse_open(test, websocket_message_size_limit=100)


def test_send_waits_while_the_peer_takes_nothing() -> None:
    async def test(peer: Conversation) -> None:
        peer.transport.fill()
        message = {"type": "websocket.send", "text": "a"}
        sending = asyncio.create_task(peer.exchange.send(message))
        await asyncio.sleep(0)
        assert (sending.done(), peer.transport.take()) == (False, b"")
        peer.transport.drain()
        await sending
        assert peer.transport.take() == b"\x81\x01a"

    converse_open(test)


def test_send_that_waits_ends_with_the_connection() -> None:
    async def test(peer: Conversation) -> None:
        peer.transport.fill()
        message = {"type": "websocket.send", "text": "a"}
        sending = asyncio.create_task(peer.exchange.send(message))
        await asyncio.sleep(0)
        peer.transport.lose()
        with pytest.raises(ClientDisconnected):
            await sending

    converse_open(test)


def test_messages_that_are_taken_at_once_leave_turns_to_others() -> None:
    async def test(peer: Conversation) -> None:
        asyncio.get_running_loop().call_soon(peer.transport.lose)
        message = {"type": "websocket.send", "text": "a"}
        with pytest.raises(ClientDisconnected):
            for _ in range(SENDS_IN_A_TURN + 1):
                await peer.exchange.send(message)

    converse_open(test)


@pytest.mark.e2e
@pytest.mark.parametrize("letter", ["a", "\u20ac"], ids=["ASCII", "other"])
def test_compressed_messages_leave_turns_to_others(
    letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for _ in range(100):
            await send({"type": "websocket.send", "text": letter * size})
        await send(CLOSE)

    size = 10_000
    turns = TurnCounts()
    turns.count_calls(
        monkeypatch, websocket_connection, "encode", lambda data, *rest: len(data)
    )
    with (
        LiveServer(application, settings={"LIFESPAN": "off"}) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock,
    ):
        sock.sendall(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        )
        data = b""
        while not data.endswith(b"\x88\x02\x03\xe8"):
            data += sock.recv(65536)

    length = len(letter.encode()) * size
    assert b"permessage-deflate" in data
    assert turns.total == 100 * length
    assert turns.most < COMPRESSED_IN_A_TURN + length


# The end.


def test_peers_close_is_told_with_code_and_reason_once() -> None:
    async def test(peer: Conversation) -> None:
        peer.transport.feed(b"\x88\x85" + bytes(4) + b"\x0f\xa0bye")
        peer.transport.lose()
        assert await peer.receive() == [
            {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}
        ]
        with pytest.raises(ClientDisconnected):
            await peer.receive()
        assert peer.entry.events == ["accepted", ("closed", 4000)]

    converse_open(test)


def test_messages_before_the_close_are_still_received() -> None:
    async def test(peer: Conversation) -> None:
        peer.feed("a")
        peer.transport.lose()
        messages = await peer.receive(2)
        assert [m["type"] for m in messages] == [
            "websocket.receive",
            "websocket.disconnect",
        ]

    converse_open(test)


def test_send_after_a_disconnect_is_an_os_error() -> None:
    async def test(peer: Conversation) -> None:
        peer.transport.lose()
        with pytest.raises(OSError, match="disconnected"):
            await peer.send({"type": "websocket.send", "text": "a"})

    converse_open(test)


def test_close_after_a_disconnect_does_nothing() -> None:
    async def test(peer: Conversation) -> None:
        peer.transport.lose()
        await peer.send(CLOSE, CLOSE)
        assert peer.transport.take() == b""

    converse_open(test)


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ({}, b"\x88\x02\x03\xe8"),
        ({"code": None, "reason": None}, b"\x88\x02\x03\xe8"),
        ({"code": 4321, "reason": "é"}, b"\x88\x04\x10\xe1\xc3\xa9"),
    ],
    ids=str,
)
def test_close_carries_code_and_reason(message: Message, sent: bytes) -> None:
    async def test(peer: Conversation) -> None:
        await peer.send({**CLOSE, **message})
        assert peer.transport.take() == sent

    converse_open(test)


def test_own_close_is_told_to_the_application_at_once() -> None:
    async def test(peer: Conversation) -> None:
        await peer.send({**CLOSE, "code": 4000, "reason": "done"})
        assert await peer.receive() == [
            {"type": "websocket.disconnect", "code": 4000, "reason": "done"}
        ]
        with pytest.raises(UnexpectedMessage, match=r"websocket\.send.*CLOSED"):
            await peer.send({"type": "websocket.send", "text": "a"})

    converse_open(test)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ({"code": 1006}, "Close code must be"),
        ({"code": 99}, "Close code must be"),
        ({"code": "1000"}, "code must be int, got '1000'"),
        ({"code": True}, "code must be int, got True"),
        ({"reason": b"a"}, "reason must be str"),
    ],
    ids=str,
)
def test_wrong_close_is_an_application_error(message: Message, fault: str) -> None:
    async def test(peer: Conversation) -> None:
        with pytest.raises(ApplicationError, match=fault):
            await peer.send({**CLOSE, **message})
        assert peer.transport.take() == b""

    converse_open(test)


def test_drain_is_told_as_1012() -> None:
    async def test(peer: Conversation) -> None:
        connection = peer.transport.receiver
        assert connection is not None
        connection.drain()  # type: ignore[attr-defined]
        assert (await peer.receive())[0]["code"] == 1012

    converse_open(test)


def test_call_that_outlives_its_client_is_cancelled() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await asyncio.Event().wait()

    async def main() -> None:
        peer = Conversation(application)
        peer.exchange.start()
        await asyncio.sleep(0)
        peer.transport.lose()
        for now in (0, 10):
            peer.calls.tick(now)
        await peer.calls.wait(PATIENCE)
        assert len(peer.calls) == 0

    asyncio.run(main())


# The application's faults: each has one outcome.


def accepting(*messages: Message, error: Exception | None = None) -> Application:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return application


START = {"type": "websocket.http.response.start", "status": 401}
PART = {"type": "websocket.http.response.body", "body": b"a", "more_body": True}


@pytest.mark.parametrize(
    "application",
    [
        accepting(error=RuntimeError("broken")),
        accepting(START, error=RuntimeError("broken")),
        accepting(),
        accepting(START),
        accepting({"type": "websocket.send", "text": "a"}),
        accepting({"type": "http.response.start", "status": 200}),
        accepting(PART),
        accepting({}),
        accepting("accept"),  # type: ignore[arg-type]
    ],
    ids=[
        "exception",
        "exception after the denial's start",
        "returns",
        "returns after the denial's start",
        "sends first",
        "HTTP message",
        "denial without a start",
        "no type",
        "no message",
    ],
)
def test_fault_before_accept_is_a_500_and_logged_once(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    peer = serve(application)

    assert [response[:1] for response in peer.stream.responses] == [(500,)]
    assert len(own_records(caplog)) == 1
    assert peer.entry.events == [500]


@pytest.mark.parametrize(
    "application",
    [
        accepting(ACCEPT, error=RuntimeError("broken")),
        accepting(ACCEPT, ACCEPT),
        accepting(ACCEPT, START),
        accepting(ACCEPT, {"type": "websocket.send"}),
    ],
    ids=["exception", "accepts twice", "denies", "sends nothing"],
)
def test_fault_after_accept_closes_with_1011_and_is_logged_once(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    peer = serve(application)

    assert peer.transport.take()[2:4] == b"\x03\xf3"
    assert len(own_records(caplog)) == 1
    assert peer.entry.events == ["accepted", ("closed", 1011)]


@pytest.mark.parametrize(
    "application",
    [accepting(START, PART), accepting(START, PART, error=RuntimeError("broken"))],
    ids=["returns", "exception"],
)
def test_fault_within_a_denial_breaks_it_off(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    peer = serve(application)

    assert peer.stream.is_aborted
    assert len(own_records(caplog)) == 1


def test_return_after_accept_closes_with_1000(caplog: pytest.LogCaptureFixture) -> None:
    peer = serve(accepting(ACCEPT))

    assert peer.transport.take() == b"\x88\x02\x03\xe8"
    assert own_records(caplog) == []


@pytest.mark.parametrize("last", [CLOSE, {**PART, "more_body": False}])
def test_return_after_a_refusal_is_no_fault(
    last: Message, caplog: pytest.LogCaptureFixture
) -> None:
    serve(accepting(last) if last is CLOSE else accepting(START, last))

    assert own_records(caplog) == []


def test_exception_after_the_close_is_only_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer = serve(accepting(ACCEPT, CLOSE, error=RuntimeError("broken")))

    assert peer.transport.take() == b"\x88\x02\x03\xe8"
    assert len(own_records(caplog)) == 1


@pytest.mark.parametrize("messages", [(), (ACCEPT,)], ids=["connecting", "open"])
def test_cancelled_call_asks_the_client_to_come_again(
    messages: tuple[Message, ...],
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        await asyncio.Event().wait()

    async def main() -> None:
        peer = Conversation(application)
        peer.exchange.start()
        await asyncio.sleep(0)
        await peer.calls.cancel_all(PATIENCE)
        if messages:
            assert peer.transport.take()[2:4] == b"\x03\xf4"
        else:
            assert [response[0] for response in peer.stream.responses] == [503]

    asyncio.run(main())


def test_unexpected_message_names_itself_and_the_state() -> None:
    async def test(peer: Conversation) -> None:
        with pytest.raises(UnexpectedMessage, match=r"websocket\.send.*CONNECTING"):
            await peer.send({"type": "websocket.send", "text": "a"})

    converse(test)


def test_loss_after_the_own_close_changes_nothing() -> None:
    async def test(peer: Conversation) -> None:
        await peer.send({**CLOSE, "code": 4000})
        peer.exchange.connection_lost(None)
        assert (await peer.receive())[0]["code"] == 4000
        with pytest.raises(ClientDisconnected):
            await peer.receive()

    converse_open(test)


def test_nothing_is_logged_without_an_entry() -> None:
    async def test(peer: Conversation) -> None:
        peer.exchange._entry = None
        await peer.send(ACCEPT)
        peer.transport.lose()
        assert peer.entry.events == []

    converse(test)
