"""What the conformance suites talk to: it says what it was asked, and echoes frames."""

from __future__ import annotations

from typing import Any

READ_LIMIT = 64 * 1024


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer a request with its method, target and content; echo a WebSocket."""
    if scope["type"] == "http":
        await answer(scope, receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)


async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    content = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        content = (content + message["body"])[:READ_LIMIT]
        more = message["more_body"]
    target = scope["raw_path"] + b"?" + scope["query_string"]
    body = b"%b %b %b" % (scope["method"].encode(), target, content)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        content = {key: message[key] for key in ("bytes", "text") if message.get(key)}
        empty = {"text": ""} if message.get("text") is not None else {"bytes": b""}
        await send({"type": "websocket.send", **(content or empty)})
