"""A factory with an application of its own, and its connections in memory."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from djserve.asgi.application import ApplicationCalls
from djserve.asgi.scope import ScopeBuilder
from djserve.conf.schema import ServerConfig
from djserve.interfaces import ConnectionInfo
from djserve.server.factory import ConnectionFactory
from djserve.testing.transport import MemoryTransport
from tests.support.virtual_time import run_in_virtual_time
from tests.support.waiting import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from djserve.asgi.origin import OriginPolicy
    from djserve.asgi.types import Application, Receive, Scope, Send
    from djserve.files import FileTable
    from djserve.instrumentation.events import RequestRecord

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test that is a coroutine on a loop of its own, whose clock is virtual."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_in_virtual_time(test(*args, **kwargs))

    return run


class Log:
    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.clients: list[tuple[str, int] | None] = []

    def request_finished(self, record: RequestRecord) -> None:
        self.statuses.append(record.status)

    def websocket_connecting(self, record: RequestRecord) -> None: ...
    def websocket_accepted(self, record: RequestRecord) -> None: ...

    def websocket_rejected(self, record: RequestRecord) -> None:
        self.statuses.append(record.status)
        self.clients.append(record.client)

    def websocket_closed(self, record: RequestRecord) -> None: ...


class Site:
    """A factory with an application that keeps its scopes and may be held up."""

    def __init__(
        self,
        config: ServerConfig | None = None,
        policy: OriginPolicy | None = None,
        application: Application | None = None,
        files: FileTable | None = None,
    ) -> None:
        self.scopes: list[Scope] = []
        self.go = asyncio.Event()
        self.go.set()
        self.log = Log()
        self.calls = ApplicationCalls(
            application or self.application, asyncio.get_running_loop(), 1.0
        )
        self.factory = ConnectionFactory(
            config or ServerConfig(),
            self.calls,
            ScopeBuilder(),
            self.log,
            policy,
            files,
        )

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await self.go.wait()
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            if scope["path"] == "/stay":
                await receive()
        else:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"ok"})

    def connect(self, host: str = "192.0.2.1") -> MemoryTransport:
        transport = MemoryTransport()
        info = ConnectionInfo((host, 50000), ("192.0.2.2", 80))
        transport.set_protocol(self.factory.open_connection(transport, info))
        return transport

    async def send(self, data: bytes, host: str = "192.0.2.1") -> MemoryTransport:
        transport = self.connect(host)
        transport.feed(data)
        await settle()
        return transport
