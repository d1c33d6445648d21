"""One request to an ASGI application, driven by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Conversation:
    """What a server would say to the application, and what it hears.

    After the content in ``body`` the client stays until ``leave`` is called.
    """

    def __init__(
        self,
        path: str,
        *,
        method: str = "GET",
        body: list[bytes] | None = None,
        headers: list[tuple[bytes, bytes]] | None = None,
        **scope: Any,
    ) -> None:
        self.body = [b""] if body is None else body
        self.received = 0
        self.sent: list[dict[str, Any]] = []
        self.send_error: Exception | None = None
        self.on_send: Callable[[dict[str, Any]], None] | None = None
        self.gone = asyncio.Event()
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"localhost"), *(headers or [])],
            **scope,
        }

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = self.sent[0]["headers"]
        return headers

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    def run(self, application: Any) -> None:
        """Make the request in a loop of its own."""
        asyncio.run(self.request(application))

    async def request(self, application: Any) -> None:
        """Make the request; fails where it takes longer than a minute."""
        async with asyncio.timeout(60):
            await application(self.scope, self.receive, self.send)

    def leave(self, *args: Any) -> None:
        """Be a client that goes away."""
        self.gone.set()

    async def receive(self) -> dict[str, Any]:
        self.received += 1
        if self.body:
            chunk = self.body.pop(0)
            more = bool(self.body)
            return {"type": "http.request", "body": chunk, "more_body": more}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if self.send_error is not None:
            raise self.send_error
        self.sent.append(message)
        if self.on_send is not None:
            self.on_send(message)
