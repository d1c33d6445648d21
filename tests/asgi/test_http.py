"""One HTTP request as an ASGI conversation, over an HTTP/1.1 connection in memory."""

from __future__ import annotations

import asyncio
import functools
import logging
import tracemalloc
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from djserve.asgi.application import AT_ONCE_LIMIT, ApplicationCalls
from djserve.asgi.http import INBOX_LIMIT, PART_SIZE, TURN_SIZE, HTTPExchange
from djserve.asgi.scope import ScopeBuilder
from djserve.conf.schema import HTTPConfig, ServerConfig
from djserve.errors import ApplicationError, ClientDisconnected, UnexpectedMessage
from djserve.instrumentation import limits
from djserve.interfaces import ConnectionInfo
from djserve.server.factory import ConnectionFactory
from djserve.testing.transport import MemoryTransport
from tests.support.logs import own_records
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from djserve.asgi.types import Application, Message, Receive, Scope, Send
    from djserve.instrumentation.events import RequestRecord

GET = b"GET /path HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"ok"}
MORE = {"type": "http.response.body", "body": b"more", "more_body": True}
LENGTH = [(b"content-length", b"6")]
LENGTH_6 = {**START, "headers": LENGTH}
DISCONNECT = {"type": "http.disconnect"}

AsyncTest = TypeVar("AsyncTest", bound="Callable[..., Coroutine[Any, Any, None]]")


def on_loop(test: AsyncTest) -> Callable[..., None]:
    """Run a test that is a coroutine on a loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def request(content: bytes, sent: int | None = None) -> bytes:
    return POST % len(content) + content[:sent]


class Log:
    """Requests as the access log hears of them (events.RequestLog)."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, int]] = []

    def request_finished(self, record: RequestRecord) -> None:
        self.lines.append((record.status, record.size))

    def websocket_connecting(self, record: RequestRecord) -> None: ...
    def websocket_accepted(self, record: RequestRecord) -> None: ...
    def websocket_rejected(self, record: RequestRecord) -> None: ...
    def websocket_closed(self, record: RequestRecord) -> None: ...


class Peer:
    """A client of an application, with all that is between them but the socket."""

    def __init__(self, application: Application, **config: Any) -> None:
        self.log = Log()
        self.calls = ApplicationCalls(application, asyncio.get_running_loop(), 10.0)
        self.factory = ConnectionFactory(
            ServerConfig(http=HTTPConfig(server_name="", **config)),
            self.calls,
            ScopeBuilder(),
            self.log,
        )
        self.transport = MemoryTransport()
        info = ConnectionInfo(("192.0.2.1", 50000), ("192.0.2.2", 80))
        self.connection = self.factory.open_connection(self.transport, info)
        self.transport.set_protocol(self.connection)

    async def send(self, *chunks: bytes) -> Peer:
        """Send bytes and let the application run until it waits."""
        for chunk in chunks:
            self.transport.feed(chunk)
            await self.settle()
        return self

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def finish(self) -> bytes:
        """Wait for every application call to end; return what came back."""
        await self.calls.wait(PATIENCE)
        await self.settle()
        return self.content()

    @property
    def status(self) -> int:
        return int(self.transport.data[9:12])

    def content(self) -> bytes:
        """What followed the first head."""
        return self.transport.data.partition(b"\r\n\r\n")[2]

    def is_closed(self) -> bool:
        return self.transport.is_closing


class Recorder:
    """An application that sends what it is given and keeps what it gets."""

    def __init__(self, *messages: Message, reads: int = 0) -> None:
        self.messages = messages
        self.reads = reads
        self.received: list[Message] = []
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        for _ in range(self.reads):
            self.received.append(await receive())
        for message in self.messages:
            await send(message)


def errors_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return own_records(caplog, logging.WARNING)


# The request's content.


@on_loop
async def test_content_in_small_parts_takes_little() -> None:
    recorder = Recorder(reads=1)
    gate = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await recorder(scope, receive, send)

    peer = Peer(application)
    await peer.send(POST % INBOX_LIMIT)
    parts = [number.to_bytes(2, "big") for number in range(INBOX_LIMIT // 2)]
    tracemalloc.start()
    for part in parts:
        peer.transport.feed(part)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    gate.set()
    await peer.finish()

    assert size < 3 * INBOX_LIMIT
    assert recorder.received[0]["body"] == b"".join(parts)


@on_loop
async def test_content_comes_as_it_arrives() -> None:
    app = Recorder(START, BODY, reads=3)
    peer = await Peer(app).send(request(b"abcdef", 2), b"cd", b"ef")

    assert app.received == [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"cd", "more_body": True},
        {"type": "http.request", "body": b"ef", "more_body": False},
    ]
    assert peer.status == 200


@on_loop
async def test_request_without_content_is_one_message() -> None:
    app = Recorder(START, BODY, reads=1)
    await Peer(app).send(GET)

    assert app.received == [{"type": "http.request", "body": b"", "more_body": False}]


@on_loop
async def test_content_that_came_together_is_handed_over_as_one() -> None:
    app = Recorder(START, BODY, reads=1)
    chunks = b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    await Peer(app).send(head + chunks)

    assert app.received[0]["body"] == b"abcdef"
    assert app.received[0]["more_body"] is False


@on_loop
async def test_inbox_is_bounded() -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await receive()
        await asyncio.Event().wait()

    peer = Peer(app)
    paused = []
    await peer.send(POST % (4 * INBOX_LIMIT), b"x" * INBOX_LIMIT)
    paused.append(peer.transport.reading_paused)
    await peer.send(b"x")
    paused.append(peer.transport.reading_paused)
    go.set()
    await peer.settle()
    paused.append(peer.transport.reading_paused)

    assert paused == [False, True, False]


@on_loop
async def test_continue_is_sent_when_the_application_reads() -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await receive()

    head = (POST % 3).replace(b"Host", b"Expect: 100-continue\r\nHost")
    peer = await Peer(app).send(head)
    assert peer.transport.take() == b""

    go.set()
    await peer.settle()
    assert peer.transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"


@on_loop
async def test_two_tasks_may_receive() -> None:
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.extend(await asyncio.gather(receive(), receive(), receive()))
        await send(START)
        await send(BODY)

    peer = await Peer(app).send(POST % 4)
    await peer.send(b"ab", b"cd")
    assert received == []

    peer.transport.lose()
    await peer.finish()
    assert sorted(message["type"] for message in received) == [
        "http.disconnect",
        "http.request",
        "http.request",
    ]


@on_loop
async def test_receive_that_was_cancelled_loses_nothing() -> None:
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        task.cancel()
        received.append(await receive())

    peer = await Peer(app).send(POST % 2)
    await peer.send(b"ab")

    assert received == [{"type": "http.request", "body": b"ab", "more_body": False}]


# Disconnects.


@on_loop
async def test_disconnect_wakes_receive_and_is_repeated() -> None:
    app = Recorder(reads=3)
    peer = await Peer(app).send(GET)
    peer.transport.lose()
    await peer.finish()

    assert app.received[1:] == [DISCONNECT, DISCONNECT]


@on_loop
async def test_receive_after_the_response_gives_disconnect() -> None:
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY)
        received.append(await receive())

    peer = await Peer(app).send(GET)
    await peer.finish()

    assert received == [DISCONNECT]
    assert not peer.is_closed()


@on_loop
async def test_response_wakes_a_waiting_receive() -> None:
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        listener = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await send(START)
        await send(BODY)
        received.append(await listener)

    await (await Peer(app).send(GET)).finish()

    assert received == [DISCONNECT]


@on_loop
async def test_unread_content_is_gone_after_a_disconnect() -> None:
    go = asyncio.Event()
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        received.append(await receive())

    peer = await Peer(app).send(request(b"abcdef", 2))
    peer.transport.lose()
    go.set()
    await peer.finish()

    assert received == [DISCONNECT]


@pytest.mark.parametrize("messages", [[], [START], [START, MORE]])
def test_send_after_a_disconnect_raises(
    messages: list[Message], caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[OSError] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        await receive()
        await receive()
        for _ in range(2):
            try:
                await send(MORE)
            except OSError as error:
                raised.append(error)
        await send(MORE)

    async def drive() -> None:
        peer = await Peer(app).send(GET)
        peer.transport.lose()
        await peer.finish()

    asyncio.run(drive())
    assert [type(error) for error in raised] == [ClientDisconnected] * 2
    assert errors_in(caplog) == []


@on_loop
async def test_empty_end_of_a_response_without_a_client_is_dropped() -> None:
    raised: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(MORE)
        await receive()
        await receive()
        for message in (
            {"type": "http.response.body", "body": b"", "more_body": False},
            {"type": "http.response.body"},
            {"type": "http.response.body", "body": b"last"},
            {"type": "http.response.body", "body": b"", "more_body": True},
        ):
            try:
                await send(message)
            except OSError:
                raised.append(message)

    peer = await Peer(app).send(GET)
    peer.transport.lose()
    await peer.finish()

    assert [(m["body"], m.get("more_body")) for m in raised] == [
        (b"last", None),
        (b"", True),
    ]


@on_loop
async def test_disconnect_wakes_a_waiting_send() -> None:
    sent: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(5):
            await send(MORE)
            sent.append(number)

    peer = Peer(app)
    peer.transport.fill()
    await peer.send(GET)
    assert sent == []

    peer.transport.lose()
    await peer.finish()
    assert sent == []


def test_disconnect_inside_a_task_group_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        async with asyncio.TaskGroup() as group:
            group.create_task(_send(send, START))

    async def drive() -> None:
        peer = await Peer(app).send(GET)
        peer.transport.lose()
        await peer.finish()

    asyncio.run(drive())
    assert errors_in(caplog) == []


async def _send(send: Send, message: Message) -> None:
    await send(message)


# Responses.


@on_loop
async def test_send_goes_on_when_the_peer_takes_more() -> None:
    sent: list[int] = []
    peer: Peer

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        peer.transport.fill()
        await send(START)
        for number in range(2):
            await send(MORE)
            sent.append(number)
        await send(BODY)

    peer = Peer(app)
    await peer.send(GET)
    waiting = list(sent)
    peer.transport.drain()
    content = await peer.finish()

    assert (waiting, sent) == ([], [0, 1])
    assert content == b"4\r\nmore\r\n4\r\nmore\r\n2\r\nok\r\n0\r\n\r\n"


@on_loop
async def test_whole_response_has_a_length() -> None:
    peer = await Peer(Recorder(START, BODY)).send(GET)

    assert b"\r\ncontent-length: 2\r\n" in peer.transport.data
    assert peer.content() == b"ok"
    assert peer.log.lines == [(200, 2)]


@on_loop
async def test_streamed_response_is_chunked() -> None:
    peer = await Peer(Recorder(START, MORE, MORE, BODY)).send(GET)

    assert peer.content() == b"4\r\nmore\r\n4\r\nmore\r\n2\r\nok\r\n0\r\n\r\n"
    assert peer.log.lines == [(200, 10)]


@pytest.mark.parametrize(
    "start",
    [
        {"type": "http.response.start", "status": 200},
        {**START, "headers": ()},
        {**START, "headers": [[b"a", b"b"]]},
        {**START, "headers": ((b"a", b"b") for _ in range(1))},
        {**START, "status": HTTPStatus.OK},
        {**START, "unknown": 1},
    ],
)
@on_loop
async def test_start_may_take_these_shapes(start: Message) -> None:
    peer = await Peer(Recorder(start, BODY)).send(GET)

    assert peer.status == 200
    assert peer.transport.data.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("body", [bytearray(b"ok"), memoryview(b"ok")])
@on_loop
async def test_body_may_be_any_bytes(body: Any) -> None:
    peer = await Peer(Recorder(START, {**BODY, "body": body})).send(GET)

    assert peer.content() == b"ok"


@on_loop
async def test_body_may_be_left_out() -> None:
    peer = await Peer(Recorder(START, {"type": "http.response.body"})).send(GET)

    assert b"\r\ncontent-length: 0\r\n" in peer.transport.data


@on_loop
async def test_trailers_end_the_response() -> None:
    app = Recorder(
        {**START, "trailers": True},
        BODY,
        {
            "type": "http.response.trailers",
            "headers": [(b"a", b"1")],
            "more_trailers": True,
        },
        {"type": "http.response.trailers", "headers": [(b"b", b"2")]},
    )
    head = GET.replace(b"\r\n\r\n", b"\r\nTE: trailers\r\n\r\n")
    peer = await Peer(app).send(head)

    assert peer.content() == b"2\r\nok\r\n0\r\na: 1\r\nb: 2\r\n\r\n"
    assert peer.log.lines == [(200, 2)]


@on_loop
async def test_early_hints_are_sent_at_once() -> None:
    hint = {"type": "http.response.early_hint", "links": [b"<a>", b"<b>"]}
    peer = await Peer(Recorder(hint, START, BODY)).send(GET)

    assert peer.transport.data.startswith(
        b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\nlink: <b>\r\n\r\nHTTP/1.1 200 OK\r\n"
    )


@on_loop
async def test_early_hints_are_for_those_who_were_offered_them() -> None:
    hint = {"type": "http.response.early_hint", "links": [b"<a>"]}
    peer = await Peer(Recorder(hint, START, BODY)).send(b"GET / HTTP/1.0\r\n\r\n")

    assert peer.status == 500


@on_loop
async def test_request_timeout_answers_503_and_cancels(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_next_log", {})
    monkeypatch.setattr(limits, "_unnamed", {})
    cancelled: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    peer = await Peer(app, request_timeout=5.0).send(GET)
    peer.connection.tick(0.0)
    peer.connection.tick(4.9)
    assert peer.transport.data == b""

    peer.connection.tick(5.0)
    await peer.finish()
    assert peer.status == 503
    assert cancelled == [True]
    assert peer.log.lines == [(503, 19)]
    assert [record.getMessage() for record in own_records(caplog)] == [
        "Answered GET /path with 503: no response has begun in 5 s (setting "
        "REQUEST_TIMEOUT); 0 more since the last such line"
    ]


@on_loop
async def test_request_timeout_spares_a_response_that_has_begun() -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(MORE)
        await go.wait()
        await send(BODY)

    peer = await Peer(app, request_timeout=5.0).send(GET)
    for now in (0.0, 5.0, 100.0):
        peer.connection.tick(now)
    go.set()

    assert (await peer.finish()).endswith(b"2\r\nok\r\n0\r\n\r\n")


@on_loop
async def test_drain_lets_the_application_finish() -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await send(START)
        await send(BODY)

    peer = await Peer(app).send(GET)
    peer.connection.drain()
    assert not peer.is_closed()

    go.set()
    assert await peer.finish() == b"ok"
    # The rest is the peer's to end: a full close might reset what it has yet to read.
    assert peer.transport.is_eof_written


@on_loop
async def test_response_that_is_read_at_once_leaves_turns_to_others() -> None:
    turns: list[int] = []
    untaken: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(40):
            asyncio.get_running_loop().call_soon(turns.append, number)
            await send({**MORE, "body": bytes(TURN_SIZE // 4)})
            untaken.append(number + 1 - len(turns))
        await send(BODY)

    peer = await Peer(app).send(GET)
    assert (await peer.finish()).endswith(b"2\r\nok\r\n0\r\n\r\n")
    assert max(untaken) == 3


@on_loop
async def test_small_parts_that_are_read_at_once_leave_turns_to_others() -> None:
    turns: list[None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asyncio.get_running_loop().call_soon(turns.append, None)
        await send(START)
        for _ in range(2 + TURN_SIZE // PART_SIZE):
            await send({**MORE, "body": b"x"})
        assert turns
        await send(BODY)

    peer = await Peer(app).send(GET)
    assert (await peer.finish()).endswith(b"2\r\nok\r\n0\r\n\r\n")


@on_loop
async def test_requests_that_are_answered_at_once_leave_turns_to_others() -> None:
    peer = Peer(Recorder(START, BODY))
    peer.transport.feed(GET * 10 * AT_ONCE_LIMIT)
    assert peer.transport.data.count(b"HTTP/1.1 200") <= AT_ONCE_LIMIT

    for _ in range(50 * AT_ONCE_LIMIT):
        await asyncio.sleep(0)
    assert peer.transport.data.count(b"HTTP/1.1 200") == 10 * AT_ONCE_LIMIT


# Files. The bytes themselves are test_files.py's.


def pathsend(path: object) -> Message:
    return {"type": "http.response.pathsend", "path": path}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_path_is_sent_with_its_length(file: Path, method: bytes) -> None:
    async def drive() -> Peer:
        peer = Peer(Recorder(START, pathsend(str(file))))
        await peer.send(GET.replace(b"GET", method))
        await peer.finish()
        return peer

    peer = asyncio.run(drive())
    assert b"\r\ncontent-length: 10\r\n" in peer.transport.data
    assert peer.content() == (b"" if method == b"HEAD" else b"0123456789")
    assert not peer.is_closed()


def test_large_path_is_sent_in_pieces(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "large").write_bytes(content)

    async def drive() -> Peer:
        peer = Peer(Recorder(START, pathsend(str(tmp_path / "large"))))
        await peer.send(GET)
        await peer.finish()
        return peer

    peer = asyncio.run(drive())
    assert peer.content() == content
    assert max(map(len, peer.transport.writes)) <= 256 * 1024


@pytest.mark.parametrize("more", [False, True])
def test_part_of_a_file_is_sent(file: Path, more: bool) -> None:
    async def drive() -> bytes:
        with file.open("rb") as opened:
            message = {
                "type": "http.response.zerocopysend",
                "file": opened,
                "offset": 2,
                "count": 3,
                "more_body": more,
            }
            peer = Peer(Recorder(START, message, *([BODY] if more else [])))
            await peer.send(GET)
            return await peer.finish()

    expected = b"3\r\n234\r\n2\r\nok\r\n0\r\n\r\n" if more else b"234"
    assert asyncio.run(drive()) == expected


def test_file_follows_other_content(file: Path) -> None:
    async def drive() -> bytes:
        with file.open("rb") as opened:
            message = {"type": "http.response.zerocopysend", "file": opened}
            peer = Peer(Recorder(START, MORE, message))
            await peer.send(GET)
            return await peer.finish()

    assert asyncio.run(drive()) == b"4\r\nmore\r\na\r\n0123456789\r\n0\r\n\r\n"


def test_missing_path_can_be_answered_otherwise(tmp_path: Path) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            await send(pathsend(str(tmp_path / "missing")))
        except FileNotFoundError:
            await send(BODY)

    async def drive() -> bytes:
        return await (await Peer(app).send(GET)).finish()

    assert asyncio.run(drive()) == b"ok"


def test_client_may_go_while_a_file_is_sent(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def drive() -> None:
        peer = await Peer(Recorder(START, pathsend(str(file)))).send(GET)
        peer.transport.lose()
        await peer.finish()

    asyncio.run(drive())
    assert errors_in(caplog) == []


# The application's faults: what the client gets, what the log has, what comes next.


def raising(error: BaseException, *messages: Message) -> Application:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        raise error

    return app


def start(**fields: Any) -> Message:
    return {**START, **fields}


WRONG = {
    "raises": raising(ValueError("x")),
    "raises after start": raising(ValueError("x"), START),
    "raises SystemExit": raising(SystemExit(1)),
    "raises CancelledError": raising(asyncio.CancelledError()),
    "raises a group": raising(ExceptionGroup("x", [ValueError("x")])),
    "returns": Recorder(),
    "returns after start": Recorder(START),
    "body first": Recorder(BODY),
    "trailers first": Recorder({"type": "http.response.trailers"}),
    "start twice": Recorder(START, START),
    "unknown type": Recorder({"type": "http.response.unknown"}),
    "WebSocket message": Recorder({"type": "websocket.accept"}),
    "no type": Recorder({}),
    "unhashable type": Recorder({"type": []}),
    "None for a message": Recorder(None),  # type: ignore[arg-type]
    "no status": Recorder({"type": "http.response.start"}),
    "status str": Recorder(start(status="200")),
    "status bool": Recorder(start(status=True)),
    "status float": Recorder(start(status=200.0)),
    "status interim": Recorder(start(status=101)),
    "status large": Recorder(start(status=1000)),
    "headers None": Recorder(start(headers=None), BODY),
    "headers int": Recorder(start(headers=1), BODY),
    "headers flat": Recorder(start(headers=[b"a", b"b"]), BODY),
    "header int": Recorder(start(headers=[(b"a", 1)]), BODY),
    "header str": Recorder(start(headers=[("a", "b")]), BODY),
    "header str value": Recorder(start(headers=[(b"a", "b")]), BODY),
    "header triple": Recorder(start(headers=[(b"a", b"b", b"c")]), BODY),
    "header name empty": Recorder(start(headers=[(b"", b"b")]), BODY),
    "header CRLF": Recorder(start(headers=[(b"a", b"b\r\nc: d")]), BODY),
    "header LF": Recorder(start(headers=[(b"a", b"b\nc")]), BODY),
    "header NUL": Recorder(start(headers=[(b"a", b"b\0")]), BODY),
    "header dict": Recorder(start(headers={b"ab": b"c"}), BODY),
    "length twice": Recorder(start(headers=LENGTH * 2), BODY),
    "length no number": Recorder(start(headers=[(b"content-length", b"x")]), BODY),
    "body str": Recorder(START, {**BODY, "body": "ok"}),
    "body None": Recorder(START, {**BODY, "body": None}),
    "body int": Recorder(START, {**BODY, "body": 2}),
    "body too short": Recorder(LENGTH_6, BODY),
    "body too long": Recorder(LENGTH_6, {**BODY, "body": b"1234567"}),
    "path missing": Recorder(START, pathsend("/nonexistent/file")),
    "path bytes": Recorder(START, pathsend(b"/etc/passwd")),
    "path directory": Recorder(START, pathsend("/")),
    "path left out": Recorder(START, {"type": "http.response.pathsend"}),
    "file left out": Recorder(START, {"type": "http.response.zerocopysend"}),
    "links str": Recorder({"type": "http.response.early_hint", "links": ["<a>"]}),
    "links None": Recorder({"type": "http.response.early_hint", "links": None}),
}


async def drive_fault(app: Application) -> Peer:
    peer = await Peer(app).send(GET)
    await peer.finish()
    return peer


@pytest.mark.parametrize("app", WRONG.values(), ids=WRONG)
def test_fault_before_the_response_is_a_500(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    peer = asyncio.run(drive_fault(app))

    assert peer.status == 500
    assert peer.content() == b"Internal Server Error"
    assert peer.log.lines == [(500, 21)]
    [record] = errors_in(caplog)
    assert record.name == "djserve.error"
    assert record.exc_info is not None
    assert "/path" in record.getMessage()


@on_loop
async def test_connection_goes_on_after_a_500() -> None:
    faults: list[Application] = [Recorder(), raising(SystemExit(1)), Recorder(BODY)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (faults.pop() if faults else Recorder(START, BODY))(scope, receive, send)

    peer = Peer(app)
    for _ in range(4):
        await peer.send(GET)

    assert [status for status, _ in peer.log.lines] == [500, 500, 500, 200]
    assert not peer.is_closed()


BROKEN_OFF = {
    "raises": raising(ValueError("x"), START, MORE),
    "raises SystemExit": raising(SystemExit(1), START, MORE),
    "raises CancelledError": raising(asyncio.CancelledError(), START, MORE),
    "returns": Recorder(START, MORE),
    "returns without trailers": Recorder(start(trailers=True), BODY),
    "start again": Recorder(START, MORE, START),
    "early hint": Recorder(START, MORE, {"type": "http.response.early_hint"}),
    "path": Recorder(START, MORE, pathsend("/etc/hostname")),
    "body str": Recorder(START, MORE, {**BODY, "body": "ok"}),
    "body too long": Recorder(LENGTH_6, MORE, {**BODY, "body": b"567"}),
    "body too short": Recorder(LENGTH_6, MORE, {**BODY, "body": b"5"}),
    "length left open": Recorder(LENGTH_6, MORE),
    "trailers not announced": Recorder(START, MORE, {"type": "http.response.trailers"}),
    "trailers bad": Recorder(
        start(trailers=True),
        BODY,
        {"type": "http.response.trailers", "headers": [(b"a", b"\n")]},
    ),
}


@pytest.mark.parametrize("app", BROKEN_OFF.values(), ids=BROKEN_OFF)
def test_fault_within_the_response_breaks_it_off(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    async def drive() -> Peer:
        head = GET.replace(b"\r\n\r\n", b"\r\nTE: trailers\r\n\r\n")
        peer = await Peer(app).send(head)
        await peer.finish()
        return peer

    peer = asyncio.run(drive())
    assert peer.status == 200
    assert peer.content() in (b"4\r\nmore\r\n", b"2\r\nok\r\n", b"more")
    assert peer.transport.is_closing
    assert len(peer.log.lines) == 1
    [record] = errors_in(caplog)
    assert record.exc_info is not None


LATE = {
    "raises": raising(ValueError("x"), START, BODY),
    "raises SystemExit": raising(SystemExit(1), START, BODY),
    "raises CancelledError": raising(asyncio.CancelledError(), START, BODY),
    "body again": Recorder(START, BODY, BODY),
    "start again": Recorder(START, BODY, START),
}


@pytest.mark.parametrize("app", LATE.values(), ids=LATE)
def test_fault_after_the_response_changes_nothing_for_the_client(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    peer = asyncio.run(drive_fault(app))

    assert peer.status == 200
    assert peer.content() == b"ok"
    assert not peer.is_closed()
    assert peer.log.lines == [(200, 2)]
    [record] = errors_in(caplog)
    assert record.exc_info is not None


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([BODY], UnexpectedMessage),
        ([START, START], UnexpectedMessage),
        ([START, BODY, BODY], UnexpectedMessage),
        ([{"type": "x"}], UnexpectedMessage),
        ([{}], ApplicationError),
        ([START, {**BODY, "body": "x"}], ApplicationError),
    ],
)
def test_fault_is_raised_where_it_was_made(
    messages: list[Message], error: type[Exception]
) -> None:
    raised: list[type[Exception]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            for message in messages:
                await send(message)
        except Exception as caught:
            raised.append(type(caught))

    asyncio.run(drive_fault(app))
    assert raised == [error]


def test_cancelled_call_is_answered_503_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def drive() -> Peer:
        peer = await Peer(Recorder(reads=2)).send(GET)
        await peer.calls.cancel_all(1)
        await peer.settle()
        return peer

    peer = asyncio.run(drive())
    assert peer.status == 503
    assert errors_in(caplog) == []


@pytest.mark.parametrize(
    ("messages", "line"),
    [((), (0, 0)), ((START,), (0, 0)), ((START, MORE), (200, 4))],
)
def test_client_that_goes_is_logged_once(
    messages: tuple[Message, ...], line: tuple[int, int]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        await asyncio.Event().wait()

    async def drive() -> Peer:
        peer = await Peer(app).send(GET)
        peer.transport.lose()
        await peer.calls.cancel_all(1)
        return peer

    assert asyncio.run(drive()).log.lines == [line]


def on_exchange(app: Application) -> tuple[Application, list[HTTPExchange]]:
    """Return an application that also keeps the exchanges that call it."""
    exchanges: list[HTTPExchange] = []

    async def keeping(scope: Scope, receive: Any, send: Send) -> None:
        exchanges.append(receive.__self__)
        await app(scope, receive, send)

    return keeping, exchanges


@on_loop
async def test_disconnect_is_told_to_who_asked_for_it() -> None:
    told: list[str] = []
    app, exchanges = on_exchange(Recorder(reads=2))
    peer = await Peer(app).send(GET)
    exchanges[0].on_disconnect = lambda: told.append("gone")
    assert not exchanges[0].has_ended()
    peer.transport.lose()
    await peer.finish()

    assert told == ["gone"]
    assert exchanges[0].has_ended()
