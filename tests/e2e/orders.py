"""Servers and clients that stop between any two steps, for events in every order.

Both run on one loop in one thread: what a client does takes no turn of the loop, so
that the server learns of it together with what has happened before and after.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from hpack import Encoder

from djserve.conf.parser import parse
from djserve.net.twisted.reactor import Reactor
from djserve.server.lifecycle import ExitCode, Server
from tests.e2e.clients import CLOSE, HANDSHAKE, ONE
from tests.support.waiting import settle, wait_until

if TYPE_CHECKING:
    from djserve.asgi.types import Receive, Scope, Send

NEVER = 6000.0
PROXY_V1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 443\r\n"
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\xc0\0\2\1\x15\xb3\1\xbb"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1

# No timeout ends anything: only what the client has done.
SETTINGS_FOR_ALL: dict[str, Any] = {
    "HEADER_TIMEOUT": NEVER,
    "KEEP_ALIVE_TIMEOUT": NEVER,
    "WRITE_TIMEOUT": NEVER,
    "SHUTDOWN_TIMEOUT": NEVER,
    "APPLICATION_CLOSE_TIMEOUT": 0,
    "HTTP2_SETTINGS_TIMEOUT": NEVER,
    "HTTP2_PING_TIMEOUT": NEVER,
    "WEBSOCKET_CONNECT_TIMEOUT": NEVER,
    "WEBSOCKET_CLOSE_TIMEOUT": NEVER,
    "WEBSOCKET_PING_TIMEOUT": NEVER,
    "DRAIN_IDLE_TIMEOUT": 0,
    "WEBSOCKET_DRAIN_TIME": 0,
}


DEFAULT_BIND = "127.0.0.1:0"


class Kind(NamedTuple):
    """How a client reaches the server, and what it asks for.

    ``opening`` is what it says before TLS and HTTP: a header of the PROXY protocol, or
    a line that asks for TLS. With ``is_opening_secret`` it says that within TLS.
    """

    bind: str = DEFAULT_BIND
    opening: bytes = b""
    is_opening_secret: bool = False
    tls: bool = False
    http2: bool = False
    detects: bool = False
    websocket: bool = True

    @property
    def alpn(self) -> list[str]:
        # Twisted refuses it after STARTTLS.
        if self.bind.startswith("starttls:"):
            return []
        return ["h2" if self.http2 else "http/1.1"]


class Application:
    """Does what it is told by ``decide``; counts its calls."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.last: list[str] = []
        self._decisions: asyncio.Queue[str] = asyncio.Queue()

    @property
    def running(self) -> int:
        return self.begun - self.ended

    def decide(self, word: str) -> None:
        """Have the next step done: accept, deny, return, raise, send or close."""
        self._decisions.put_nowait(word)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        self.begun += 1
        try:
            await self._serve(scope["type"], receive, send)
        finally:
            self.ended += 1

    async def _serve(self, kind: str, receive: Receive, send: Send) -> None:
        await receive()
        while (word := await self._decisions.get()) != "listen":
            if word == "return":
                return
            if word == "raise":
                raise ValueError("as told")
            for message in MESSAGES[kind][word]:
                with suppress(OSError):
                    await send(message)
        while not (await receive())["type"].endswith("disconnect"):
            pass


def _http(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"http.response.{kind}", **fields}


def _websocket(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"websocket.{kind}", **fields}


_START = _http("start", status=200)
MESSAGES: dict[str, dict[str, list[dict[str, Any]]]] = {
    "websocket": {
        "accept": [_websocket("accept")],
        "deny": [_websocket("close")],
        "send": [_websocket("send", bytes=bytes(100_000))],
        "close": [_websocket("close")],
    },
    "http": {
        "accept": [_START],
        "deny": [_START, _http("body", body=b"x")],
        "send": [_http("body", body=bytes(100_000), more_body=True)],
        "close": [_http("body")],
    },
}


class Client:
    """A connection that goes on by ``go_on``, a step each time.

    ``prepare`` makes the next step's bytes ready, for which TLS has to read first.
    """

    def __init__(self, port: int, kind: Kind, context: ssl.SSLContext) -> None:
        self.kind = kind
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.is_closed = False
        self.tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if kind.tls:
            context.set_alpn_protocols(kind.alpn)
            self.tls = context.wrap_bio(
                self._incoming, self._outgoing, server_hostname="localhost"
            )
        self._is_secure = False
        self._encoder = Encoder()
        self._steps = list(self._build_steps())
        self._next: bytes | None = None

    @property
    def steps_left(self) -> int:
        return len(self._steps)

    @property
    def is_asking(self) -> bool:
        """Whether the whole request has been sent."""
        return self._next is None and not self._steps

    async def prepare(self) -> None:
        if self._next is None and self._steps:
            self._next = await self._steps.pop(0)()

    def go_on(self) -> None:
        """Send the step that is prepared, without a turn of the loop."""
        data, self._next = self._next, None
        if data is not None:
            self._send(data)

    # Events.

    def reset(self) -> None:
        if not self.is_closed:
            linger = struct.pack("ii", 1, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close()

    def finish(self) -> None:
        """End our side as a program does that closes its socket in good order."""
        self.notify()
        self.cut()

    def cut(self) -> None:
        """End our side; over TLS without a word."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def notify(self) -> None:
        """Say over TLS alone that nothing more comes."""
        if self._is_secure and self.tls is not None:
            with suppress(ssl.SSLError):
                self.tls.unwrap()
            self._send(self._outgoing.read())

    def close(self) -> None:
        """End both sides; what the server sends from now on is answered by a reset."""
        self.is_closed = True
        self.sock.close()

    def close_websocket(self) -> None:
        self.say(self._data(CLOSE))

    def reset_stream(self) -> None:
        self.say(frame(RST_STREAM, 0, 1, bytes(4)))

    def end_stream(self) -> None:
        self.say(frame(DATA, END_STREAM, 1))

    def go_away(self) -> None:
        self.say(frame(GOAWAY, 0, 0, bytes(8)))

    def write(self) -> None:
        """Send a message, or content, whether it is time for it or not."""
        self.say(self._data(ONE))

    def say(self, data: bytes) -> None:
        if self.tls is None:
            self._send(data)
        elif self._is_secure:
            with suppress(ssl.SSLError):
                self.tls.write(data)
            self._send(self._outgoing.read())

    # Private.

    def _send(self, data: bytes) -> None:
        if not self.is_closed:
            with suppress(OSError):
                self.sock.send(data)

    def _data(self, data: bytes) -> bytes:
        return frame(DATA, 0, 1, data) if self.kind.http2 else data

    def _build_steps(self) -> Iterator[Callable[[], Awaitable[bytes]]]:
        """Yield what is sent, in halves of what the server reads as a whole."""
        opening = _halves(self.kind.opening) if self.kind.opening else []
        if not self.kind.is_opening_secret:
            yield from _whole(opening)
        if self.tls is not None:
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            yield from _whole(_halves(self._outgoing.read()))
            yield self._shake_hands
        if self.kind.is_opening_secret:
            yield from map(self._wrap, opening)
        requests = self._frames() if self.kind.http2 else _halves(self._head())
        for piece in requests:
            yield self._wrap(piece)

    def _head(self) -> bytes:
        if self.kind.websocket:
            return b"GET / HTTP/1.1\r\n" + HANDSHAKE
        return b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"

    def _frames(self) -> list[bytes]:
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "127.0.0.1")]
        fields.append((":path", "/"))
        if self.kind.websocket:
            fields[0] = (":method", "CONNECT")
            fields += [(":protocol", "websocket"), ("sec-websocket-version", "13")]
        block = self._encoder.encode(fields)
        opening = PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0)
        head = frame(HEADERS, END_HEADERS, 1, block)
        return [opening[:10], opening[10:] + head[:12], head[12:]]

    def _wrap(self, data: bytes) -> Callable[[], Awaitable[bytes]]:
        async def wrap() -> bytes:
            if self.tls is None:
                return data
            self.tls.write(data)
            return self._outgoing.read()

        return wrap

    async def _shake_hands(self) -> bytes:
        """Read the server's flight; return our last one."""
        assert self.tls is not None
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await wait_until(lambda: select.select([self.sock], [], [], 0)[0])
                data = self.sock.recv(65536)
                assert data, "the server has ended the handshake"
                self._incoming.write(data)
            else:
                self._is_secure = True
                return self._outgoing.read()


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    head = struct.pack("!I", len(payload))[1:] + bytes((kind, flags))
    return head + struct.pack("!I", stream_id) + payload


def _halves(data: bytes) -> list[bytes]:
    return [data[: len(data) // 2], data[len(data) // 2 :]]


def _whole(pieces: list[bytes]) -> Iterator[Callable[[], Awaitable[bytes]]]:
    async def give(piece: bytes) -> bytes:
        return piece

    for piece in pieces:
        yield lambda piece=piece: give(piece)  # type: ignore[misc]


EVENTS = {
    # The request's next part, bytes of a message, and the client's ways to end.
    "next": ("client", "go_on"),
    "write": ("client", "write"),
    "reset": ("client", "reset"),
    "finish": ("client", "finish"),
    "cut": ("client", "cut"),
    "notify": ("client", "notify"),
    "close frame": ("client", "close_websocket"),
    "RST_STREAM": ("client", "reset_stream"),
    "END_STREAM": ("client", "end_stream"),
    "GOAWAY": ("client", "go_away"),
    **{
        word: ("application", word)
        for word in ("accept", "deny", "return", "raise", "send", "close")
    },
    "drain": ("server", "stop"),
}


class Bench:
    """One client of one server, and all that could be left of it."""

    def __init__(self, reactor: Reactor, kind: Kind, pem: str) -> None:
        self.application = Application()
        self._kind = kind
        bind = kind.bind.format(pem=pem, folder=os.path.dirname(pem))
        settings = {**SETTINGS_FOR_ALL, "BIND": [bind]}
        settings["HTTP2_CLEARTEXT"] = "on" if kind.detects else "off"
        is_ours = kind.bind == DEFAULT_BIND
        settings["PROXY_PROTOCOL"] = bool(kind.opening) and is_ours
        if kind.tls and is_ours:
            settings |= {"CERTFILE": pem, "KEYFILE": pem}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self.server = Server(self.application, parse(settings), reactor)
        self._served: asyncio.Task[ExitCode] | None = None
        self.client: Client

    async def open(self, steps: int | None) -> None:
        """Start, connect, and take so many steps; all without a number."""
        self._served = asyncio.ensure_future(self.server.serve())
        await wait_until(lambda: self.server.listeners)
        port = int(self.server.listeners[0].address.rpartition(":")[2])
        self.client = Client(port, self._kind, self._context)
        steps = self.client.steps_left if steps is None else steps
        for _ in range(steps):
            await self.client.prepare()
            self.client.go_on()
            await settle()
        await self.client.prepare()
        if self.client.is_asking:
            await wait_until(lambda: self.application.begun)

    def do(self, event: str) -> None:
        """Have an event of EVENTS happen, without a turn of the loop."""
        who, word = EVENTS[event]
        if who == "application":
            self.application.decide(word)
        else:
            getattr({"client": self.client, "server": self.server}[who], word)()

    @property
    def left(self) -> dict[str, int]:
        """What there is of calls and connections, by name."""
        counts = {
            "application": self.application.running,
            "calls": len(self.server.calls),
            "connections": self.server.connection_count,
            "opening": self.server._count_opening(),
        }
        return {name: count for name, count in counts.items() if count}

    async def end(self) -> None:
        """Have the client go, in case it has not; nothing may be left of it then."""
        self.client.close()
        for _ in range(2):
            self.application.decide("listen")
        await wait_until(lambda: not self.left)
        self.server.stop()
        assert self._served is not None
        await wait_until(self._served.done)
        assert self._served.result() is ExitCode.OK


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
