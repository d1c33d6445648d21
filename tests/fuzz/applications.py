"""Applications of all kinds, good and bad, chosen at random for each request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from djserve.asgi.types import Receive, Scope, Send

    Behaviour = Callable[["Applications", Scope, Receive, Send], Awaitable[None]]

PIECE = 20_000


class Deliberate(Exception):
    """An application's own fault, as applications have them."""


class Applications:
    """One ASGI application that behaves differently in each call.

    ``is_tame``: they are all good. ``messages`` are what WebSockets have brought.
    ``hold`` keeps some calls waiting until it is set.
    """

    def __init__(self, rng: random.Random, *, is_tame: bool = False) -> None:
        self.rng = rng
        self._http = [Applications.echo] if is_tame else HTTP
        self._websocket = [Applications.talk] if is_tame else WEBSOCKET
        self.hold = asyncio.Event()
        self.messages: list[str | bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        choices = self._http if scope["type"] == "http" else self._websocket
        behaviour = self.rng.choice(choices)
        for _ in range(self.rng.choice((0, 0, 1, 3))):
            await asyncio.sleep(0)
        await behaviour(self, scope, receive, send)

    async def pause(self) -> None:
        """Let the loop turn, sometimes until the peer has done all that it will."""
        choice = self.rng.randrange(12)
        if choice == 0:
            await self.hold.wait()
        elif choice < 4:
            await asyncio.sleep(0)

    # HTTP.

    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = await read(receive)
        await self.pause()
        await respond(send, content)

    async def answer_first(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = self.rng.choice((200, 204, 304, 404))
        await respond(send, b"" if status < 400 else b"no", status)
        await read(receive)

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        sizes = [self.rng.choice((0, 1, PIECE)) for _ in range(self.rng.randrange(8))]
        headers = []
        if self.rng.random() < 0.5:
            headers.append((b"content-length", b"%d" % sum(sizes)))
        await start(send, 200, headers)
        for size in sizes:
            await send_body(send, b"x" * size, True)
            await self.pause()
        await send_body(send, b"", False)

    async def trail(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "http.response.trailers" not in scope["extensions"]:
            return await respond(send, b"none")
        if "http.response.early_hint" in scope["extensions"]:
            await send({"type": "http.response.early_hint", "links": [b"</a>"]})
        await start(send, 200, [(b"trailer", b"x-end")], trailers=True)
        await send_body(send, b"a" * self.rng.choice((0, 9)), True)
        await self.pause()
        await send_body(send, b"", False)
        await send({"type": "http.response.trailers", "headers": [(b"x-end", b"1")]})

    async def push(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "http.response.push" in scope["extensions"]:
            await send({"type": "http.response.push", "path": "/pushed", "headers": []})
        await respond(send, b"pushed")

    async def listen(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the peer's end beside the response, as streaming views do."""

        async def wait_for_end() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        listener = asyncio.ensure_future(wait_for_end())
        try:
            await self.stream(scope, receive, send)
            await self.pause()
        finally:
            listener.cancel()

    async def closing(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.pause()
        await respond(send, b"bye", headers=[(b"connection", b"close")])

    async def wait_long(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.hold.wait()
        await respond(send, b"late")

    async def read_slowly(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        await self.hold.wait()
        content = await read(receive) if message.get("more_body") else b""
        await respond(send, b"%d" % len(content))

    async def fail(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.pause()
        raise Deliberate

    async def fail_late(self, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await send_body(send, b"half", True)
        await self.pause()
        raise Deliberate

    async def say_nothing(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.pause()

    async def say_half(self, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, 200, [(b"content-length", b"9")])
        await send_body(send, b"1234", self.rng.random() < 0.5)

    async def say_much(self, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, 200, [(b"content-length", b"3")])
        await send_body(send, b"12", True)
        await send_body(send, b"345", False)

    async def say_again(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"once")
        await respond(send, b"twice")

    async def say_wrong(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(self.rng.choice(NONSENSE))

    # WebSocket.

    async def talk(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await self.pause()
        offered = scope["subprotocols"]
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": self.rng.choice([None, *offered]),
                "headers": [(b"x-app", b"1")],
            }
        )
        while (message := await receive())["type"] == "websocket.receive":
            text, data = message.get("text"), message.get("bytes")
            self.messages.append(message["bytes"] if text is None else text)
            await send({"type": "websocket.send", "text": text, "bytes": data})
            await self.pause()

    async def flood(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(self.rng.randrange(12)):
            await send({"type": "websocket.send", "bytes": b"y" * PIECE})
            await self.pause()

    async def leave(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await self.pause()
        code = self.rng.choice((1000, 1001, 3000, 4999))
        await send({"type": "websocket.close", "code": code, "reason": "é" * 99})
        await self.pause()

    async def ignore(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await self.hold.wait()

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.pause()
        await send({"type": "websocket.close"})

    async def deny(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = "websocket.http.response"
        await send({"type": f"{kind}.start", "status": 401, "headers": []})
        await self.pause()
        await send({"type": f"{kind}.body", "body": b"no", "more_body": True})
        await self.pause()
        await send({"type": f"{kind}.body", "body": b"!"})

    async def fail_open(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await self.pause()
        raise Deliberate

    async def fail_denying(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = "websocket.http.response"
        await send({"type": f"{kind}.start", "status": 401, "headers": []})
        await self.pause()
        if self.rng.random() < 0.5:
            await send({"type": f"{kind}.body", "body": b"no", "more_body": True})
        raise Deliberate


async def read(receive: Receive) -> bytes:
    content = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(content)
        content += message["body"]
        if not message["more_body"]:
            return bytes(content)


async def start(
    send: Send, status: int = 200, headers: Any = (), trailers: bool = False
) -> None:
    message = {"type": "http.response.start", "status": status, "trailers": trailers}
    await send({**message, "headers": list(headers)})


async def send_body(send: Send, body: bytes, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def respond(
    send: Send, body: bytes, status: int = 200, headers: Any = ()
) -> None:
    await start(send, status, headers)
    await send_body(send, body, False)


NONSENSE: list[Any] = [
    None,
    {},
    {"type": "http.response.body", "body": b""},
    {"type": "http.response.start", "status": "200"},
    {"type": "websocket.send", "text": "early"},
]

_A = Applications
_FAULTY_HTTP: list[Behaviour] = [
    _A.fail,
    _A.fail_late,
    _A.say_nothing,
    _A.say_half,
    _A.say_much,
    _A.say_again,
    _A.say_wrong,
]
_FAULTY_WEBSOCKET: list[Behaviour] = [
    _A.fail,
    _A.fail_open,
    _A.fail_denying,
    _A.say_nothing,
    _A.say_wrong,
]
HTTP: list[Behaviour] = [
    *[_A.echo] * 6,
    *[_A.stream] * 2,
    _A.answer_first,
    _A.trail,
    _A.push,
    _A.listen,
    _A.closing,
    _A.wait_long,
    _A.read_slowly,
    *_FAULTY_HTTP,
]
WEBSOCKET: list[Behaviour] = [
    *[_A.talk] * 6,
    _A.flood,
    _A.leave,
    _A.ignore,
    _A.refuse,
    _A.deny,
    *_FAULTY_WEBSOCKET,
]
