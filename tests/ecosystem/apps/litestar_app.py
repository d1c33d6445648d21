"""The views of the runs, for Litestar."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from litestar import Litestar, MediaType, Request, WebSocket, get, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.logging import LoggingConfig
from litestar.response import Stream

from tests.ecosystem.apps import shown


@get("/sync/", sync_to_thread=True, media_type=MediaType.HTML)
def sync_view(request: Request[Any, Any, Any]) -> str:
    found = shown.surroundings(request.headers)
    time.sleep(shown.PAUSE)
    return shown.page(found)


@get("/async/", media_type=MediaType.HTML)
async def async_view(request: Request[Any, Any, Any]) -> str:
    found = shown.surroundings(request.headers)
    await asyncio.sleep(shown.PAUSE)
    return shown.page(found)


@get("/sync-raising/", sync_to_thread=True)
def sync_raising(request: Request[Any, Any, Any]) -> None:
    raise shown.Failure(request.headers["x-who"])


@get("/async-raising/")
async def async_raising(request: Request[Any, Any, Any]) -> None:
    await asyncio.sleep(shown.PAUSE)
    raise shown.Failure(request.headers["x-who"])


@get("/sync-stream/", sync_to_thread=True)
def sync_stream(request: Request[Any, Any, Any]) -> Stream:
    found, name = shown.surroundings(request.headers), request.headers["x-who"]

    def parts() -> Iterator[str]:
        for _ in range(shown.PARTS):
            time.sleep(shown.PAUSE / shown.PARTS)
            yield shown.line(found, name)

    return Stream(parts())


@get("/async-stream/")
async def async_stream(request: Request[Any, Any, Any]) -> Stream:
    found, name = shown.surroundings(request.headers), request.headers["x-who"]

    async def parts() -> AsyncIterator[str]:
        for _ in range(shown.PARTS):
            await asyncio.sleep(shown.PAUSE / shown.PARTS)
            yield shown.line(found, name)

    return Stream(parts())


@websocket("/ws/{kind:str}/")
async def converse(socket: WebSocket[Any, Any, Any], kind: str) -> None:
    await socket.accept()
    try:
        while True:
            await socket.receive_json()
            await asyncio.sleep(shown.PAUSE)
            await socket.send_json(shown.message(socket.headers))
    except WebSocketDisconnect:
        pass


app = Litestar(
    [
        sync_view,
        async_view,
        sync_raising,
        async_raising,
        sync_stream,
        async_stream,
        converse,
    ],
    logging_config=LoggingConfig(log_exceptions="always"),
)
