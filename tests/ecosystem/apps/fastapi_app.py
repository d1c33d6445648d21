"""The views of the runs, for FastAPI, with a dependency of each kind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, StreamingResponse

from tests.ecosystem.apps import shown

app = FastAPI()


def sync_name(x_who: Annotated[str, Header()]) -> Iterator[str]:
    yield x_who


async def async_name(x_who: Annotated[str, Header()]) -> AsyncIterator[str]:
    yield x_who


SyncName = Annotated[str, Depends(sync_name)]
AsyncName = Annotated[str, Depends(async_name)]


@app.get("/sync/")
def sync_view(request: Request, name: AsyncName) -> HTMLResponse:
    found = shown.surroundings(request.headers)
    time.sleep(shown.PAUSE)
    assert name == shown.who.get()
    return HTMLResponse(shown.page(found))


@app.get("/async/")
async def async_view(request: Request, name: SyncName) -> HTMLResponse:
    found = shown.surroundings(request.headers)
    await asyncio.sleep(shown.PAUSE)
    assert name == shown.who.get()
    return HTMLResponse(shown.page(found))


@app.get("/sync-raising/")
def sync_raising(name: AsyncName) -> None:
    raise shown.Failure(name)


@app.get("/async-raising/")
async def async_raising(name: SyncName) -> None:
    await asyncio.sleep(shown.PAUSE)
    raise shown.Failure(name)


@app.get("/sync-stream/")
def sync_stream(request: Request, name: SyncName) -> StreamingResponse:
    found = shown.surroundings(request.headers)

    def parts() -> Iterator[str]:
        for _ in range(shown.PARTS):
            time.sleep(shown.PAUSE / shown.PARTS)
            yield shown.line(found, name)

    return StreamingResponse(parts())


@app.get("/async-stream/")
async def async_stream(request: Request, name: AsyncName) -> StreamingResponse:
    found = shown.surroundings(request.headers)

    async def parts() -> AsyncIterator[str]:
        for _ in range(shown.PARTS):
            await asyncio.sleep(shown.PAUSE / shown.PARTS)
            yield shown.line(found, name)

    return StreamingResponse(parts())


@app.websocket("/ws/{kind}/")
async def converse(socket: WebSocket, kind: str) -> None:
    await socket.accept()
    try:
        while True:
            message: Any = await socket.receive_json()
            assert "number" in message
            await asyncio.sleep(shown.PAUSE)
            await socket.send_json(shown.message(socket.headers))
    except WebSocketDisconnect:
        pass
