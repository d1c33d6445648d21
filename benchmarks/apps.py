"""The ASGI applications that every server is measured with.

Each answers a plain GET too, by which the benchmark sees that a server is up.
"""

from __future__ import annotations

import asyncio
from typing import Any

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
PIECE = bytes(256 * 1024)

EVENT_MARK = b"~"
EVENT = b"event: tick\ndata: " + b"x" * 44 + EVENT_MARK + b"\n\n"
EVENT_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
]


async def lifespan(receive: Any, send: Any) -> None:
    """Start and stop: there is nothing to do."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer thirteen bytes to every request."""
    if scope["type"] != "http":
        await lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Return every WebSocket message."""
    if scope["type"] != "websocket":
        await hello(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


class Broadcast:
    """Send every WebSocket message to all sockets that are open."""

    def __init__(self) -> None:
        self._members: dict[object, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await hello(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        key = object()
        self._members[key] = send
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await self._deliver(message.get("text") or "")
        finally:
            del self._members[key]

    async def _deliver(self, text: str) -> None:
        for send in [*self._members.values()]:
            await send({"type": "websocket.send", "text": text})


class Events:
    """Send events to all clients of ``/events``, as fast as they take them."""

    def __init__(self) -> None:
        self._members: dict[object, Any] = {}
        self._publisher: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/events":
            await hello(scope, receive, send)
            return
        await send(
            {"type": "http.response.start", "status": 200, "headers": EVENT_HEADERS}
        )
        key = object()
        self._members[key] = send
        if self._publisher is None:
            self._publisher = asyncio.create_task(self._publish())
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._members.pop(key, None)

    async def _publish(self) -> None:
        message = {"type": "http.response.body", "body": EVENT, "more_body": True}
        while True:
            for key, send in [*self._members.items()]:
                try:
                    await send(message)
                except OSError:
                    self._members.pop(key, None)
            await asyncio.sleep(0)


broadcast = Broadcast()
events = Events()


async def transfer(scope: Any, receive: Any, send: Any) -> None:
    """Take an upload, slowly for ``/slow``; send as many MiB as the query says."""
    if scope["type"] != "http":
        await lifespan(receive, send)
        return
    received = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        received += len(message.get("body", b""))
        if scope["path"] == "/slow":
            await asyncio.sleep(0.002)
        more = message.get("more_body", False)
    pieces = 4 * int(scope["query_string"] or b"0")
    end = b"%d" % received
    length = b"%d" % (pieces * len(PIECE) + len(end))
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(pieces):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": end})
