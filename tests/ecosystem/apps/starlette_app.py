"""The views of the runs, for Starlette."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.ecosystem.apps import shown


def sync_view(request: Request) -> Response:
    found = shown.surroundings(request.headers)
    time.sleep(shown.PAUSE)
    return HTMLResponse(shown.page(found))


async def async_view(request: Request) -> Response:
    found = shown.surroundings(request.headers)
    await asyncio.sleep(shown.PAUSE)
    return HTMLResponse(shown.page(found))


def sync_raising(request: Request) -> Response:
    raise shown.Failure(request.headers["x-who"])


async def async_raising(request: Request) -> Response:
    await asyncio.sleep(shown.PAUSE)
    raise shown.Failure(request.headers["x-who"])


def sync_stream(request: Request) -> Response:
    found, name = shown.surroundings(request.headers), request.headers["x-who"]

    def parts() -> Iterator[str]:
        for _ in range(shown.PARTS):
            time.sleep(shown.PAUSE / shown.PARTS)
            yield shown.line(found, name)

    return StreamingResponse(parts())


async def async_stream(request: Request) -> Response:
    found = shown.surroundings(request.headers)

    async def parts() -> AsyncIterator[str]:
        for _ in range(shown.PARTS):
            await asyncio.sleep(shown.PAUSE / shown.PARTS)
            yield shown.line(found, shown.who.get())

    return StreamingResponse(parts())


async def converse(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.receive_json()
            await asyncio.sleep(shown.PAUSE)
            await socket.send_json(shown.message(socket.headers))
    except WebSocketDisconnect:
        pass


VIEWS = {
    "sync": sync_view,
    "async": async_view,
    "sync-raising": sync_raising,
    "async-raising": async_raising,
    "sync-stream": sync_stream,
    "async-stream": async_stream,
}
app = Starlette(
    routes=[
        *(Route(f"/{name}/", view) for name, view in VIEWS.items()),
        WebSocketRoute("/ws/sync/", converse),
        WebSocketRoute("/ws/async/", converse),
    ]
)
