"""The ASGI applications that every server is measured with."""

from __future__ import annotations

import asyncio
from typing import Any

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
PIECE = bytes(256 * 1024)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer thirteen bytes to every request."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Return every WebSocket message."""
    if scope["type"] != "websocket":
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


async def transfer(scope: Any, receive: Any, send: Any) -> None:
    """Take an upload, slowly for ``/slow``; send as many MiB as the query says."""
    if scope["type"] != "http":
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
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(4 * int(scope["query_string"] or b"0")):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b"%d" % received})
