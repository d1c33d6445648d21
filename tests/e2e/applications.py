"""Source text that the applications of several servers under test end with."""

from __future__ import annotations

HELPERS = """

async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def read(receive):
    more = True
    while more:
        message = await receive()
        yield message.get("body", b"")
        more = message.get("more_body")


async def count(receive):
    return sum([len(data) async for data in read(receive)])


async def respond(send, body, status=200, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send_part(send, body, False)


async def send_part(send, body, more):
    await send({"type": "http.response.body", "body": body, "more_body": more})
"""
