"""The views of the runs, for Quart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from quart import Quart, request, websocket

from tests.ecosystem.apps import shown

app = Quart(__name__)


# Quart runs a function that is no coroutine in a thread.
@app.get("/sync/")
def sync_view() -> str:
    found = shown.surroundings(request.headers)
    time.sleep(shown.PAUSE)
    return shown.page(found)


@app.get("/async/")
async def async_view() -> str:
    found = shown.surroundings(request.headers)
    await asyncio.sleep(shown.PAUSE)
    return shown.page(found)


@app.get("/sync-raising/")
def sync_raising() -> str:
    raise shown.Failure(request.headers["x-who"])


@app.get("/async-raising/")
async def async_raising() -> str:
    await asyncio.sleep(shown.PAUSE)
    raise shown.Failure(request.headers["x-who"])


@app.get("/sync-stream/")
@app.get("/async-stream/")
async def stream() -> AsyncIterator[bytes]:
    found, name = shown.surroundings(request.headers), request.headers["x-who"]

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(shown.PARTS):
            await asyncio.sleep(shown.PAUSE / shown.PARTS)
            yield shown.line(found, name).encode()

    return parts()


@app.websocket("/ws/<kind>/")
async def converse(kind: str) -> None:
    while True:
        await websocket.receive_json()
        await asyncio.sleep(shown.PAUSE)
        await websocket.send_json(shown.message(websocket.headers))
