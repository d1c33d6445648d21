"""A hello request through a server's own protocol objects, with a mark at each stage.

Nothing is copied from the servers: the objects are theirs, made as they make them, and
only what they call next is wrapped. The socket alone is not real.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from djserve.asgi.application import ApplicationCalls
from djserve.asgi.scope import ScopeBuilder
from djserve.conf.schema import ServerConfig
from djserve.interfaces import ConnectionInfo
from djserve.server.factory import ConnectionFactory

if TYPE_CHECKING:
    from djserve.asgi.application import Conversation
    from djserve.interfaces import Exchange, RequestHead, Stream

CLIENT, SERVER = ("127.0.0.1", 50_000), ("127.0.0.1", 8000)

PARSED, SCOPED, CALLED, ENCODED, WRITTEN, ENDED = (
    "parse",
    "scope",
    "task",
    "send",
    "write",
    "end",
)
"""The stages, each named by the mark that ends it."""

STAGES = {
    PARSED: "the request's bytes to its head",
    SCOPED: "the head to the scope, and what carries the request",
    CALLED: "a task for the application, up to its first line",
    ENCODED: "the application's two messages to the response's bytes",
    WRITTEN: "the transport's `write`, which does nothing here",
    ENDED: "from the last `write` to the end of the task, ready for the next request",
}

HEAD = (
    b"GET /?page=1 HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: benchmark\r\n"
    b"Accept: text/html,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Accept-Language: en-GB,en;q=0.5\r\n"
)
PLAIN_REQUEST = HEAD + b"\r\n"


@dataclass(slots=True)
class Marks:
    """When the stages of one request ended, in the order of their ends."""

    names: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)

    def note(self, name: str) -> None:
        self.names.append(name)
        self.times.append(time.perf_counter_ns())

    def clear(self) -> None:
        self.names.clear()
        self.times.clear()


class Sink:
    """A transport that takes all and sends nothing."""

    def __init__(self, marks: Marks) -> None:
        self._note = marks.note
        self.size = 0
        self.last = b""
        self.receiver: Any = None

    def write(self, data: bytes, /) -> None:
        self._note(ENCODED)
        self.size += len(data)
        self.last = data
        self._note(WRITTEN)

    def get_extra_info(self, name: str) -> Any:
        return {"peername": CLIENT, "sockname": SERVER}.get(name)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def set_protocol(self, receiver: object, /) -> None:
        self.receiver = receiver

    def close(self) -> None: ...

    abort = pause_reading = resume_reading = write_eof = close


def make_hello(marks: Marks, headers: list[Any]) -> Any:
    """Return the application that answers all; it says when it begins."""
    note = marks.note

    async def hello(scope: Any, receive: Any, send: Any) -> None:
        note(CALLED)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"Hello, world!"})

    return hello


@dataclass(frozen=True, slots=True)
class Driven:
    """A contender: its protocol takes bytes, its sink has what it answers."""

    feed: Callable[[bytes], object]
    sink: Sink
    marks: Marks
    is_eager: bool
    """Whether ``feed`` returns when all is done, without a turn of the loop."""
    close: Callable[[], object]
    request: Callable[[int], bytes]


class _Calls(ApplicationCalls):
    marks: Marks

    def start(self, exchange: Conversation) -> None:
        self.marks.note(SCOPED)
        super().start(exchange)


class _Factory(ConnectionFactory):
    marks: Marks

    def open_exchange(
        self, head: RequestHead, info: ConnectionInfo, stream: Stream
    ) -> Exchange:
        self.marks.note(PARSED)
        return super().open_exchange(head, info, stream)


def drive_djserve(marks: Marks, *, plain: bool = False) -> Driven:
    """Return djserve's HTTP/1.1 connection; ``plain`` without its fast paths.

    Those are for heads that repeat, for response fields that repeat, and for
    applications that end at once: every plain request has a new field, the response's
    fields are lists, and the task is the loop's.
    """
    loop = asyncio.get_running_loop()
    pairs = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    headers: list[Any] = [list(pair) for pair in pairs] if plain else [*pairs]
    calls = _Calls(make_hello(marks, headers), loop, 0)
    calls.marks = marks
    if plain:
        calls._start_eagerly = None
    factory = _Factory(ServerConfig(), calls, ScopeBuilder(state={}))
    factory.marks = marks
    sink = Sink(marks)
    sink.receiver = factory.open_connection(sink, ConnectionInfo(CLIENT, SERVER))
    # A local connection's first bytes may be HTTP/2: they decide what takes its place.
    sink.receiver.data_received(b"\r\n")
    return Driven(
        sink.receiver.data_received,
        sink,
        marks,
        calls._start_eagerly is not None,
        lambda: sink.receiver.connection_lost(None),
        _differing_request if plain else _same_request,
    )


def _same_request(number: int) -> bytes:
    return PLAIN_REQUEST


def _differing_request(number: int) -> bytes:
    return b"%bX-Number: %08d\r\n\r\n" % (HEAD, number)


def drive_uvicorn(marks: Marks) -> Driven | None:
    """Return Uvicorn's protocol on httptools, None where Uvicorn is not installed."""
    if importlib.util.find_spec("uvicorn") is None:
        return None
    base = importlib.import_module(
        "uvicorn.protocols.http.httptools_impl"
    ).HttpToolsProtocol
    config = importlib.import_module("uvicorn.config").Config
    state = importlib.import_module("uvicorn.server").ServerState()
    date = formatdate(usegmt=True).encode()
    state.default_headers = [(b"date", date), (b"server", b"uvicorn")]

    def on_headers_complete(self: Any) -> None:
        marks.note(PARSED)
        base.on_headers_complete(self)
        marks.note(SCOPED)

    stamped = type("Stamped", (base,), {"on_headers_complete": on_headers_complete})
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    options = {"lifespan": "off", "log_config": None, "access_log": False}
    settings = config(make_hello(marks, headers), **options)
    settings.load()
    protocol = stamped(settings, state, {})
    sink = Sink(marks)
    protocol.connection_made(sink)
    return Driven(
        protocol.data_received,
        sink,
        marks,
        False,
        lambda: protocol.connection_lost(None),
        _same_request,
    )
