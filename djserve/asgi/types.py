"""The ASGI names used across the package, in the wide form that a server needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from djserve.interfaces import RequestHead

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class FinishRequest(Protocol):
    """Called at a request's end with the response's status and its content's size.

    ``started`` is the ``time.perf_counter`` of its beginning; ``status`` is 0 if the
    client went before it had one.
    """

    def __call__(
        self, head: RequestHead, scope: Scope, started: float, status: int, size: int, /
    ) -> None: ...


class WebSocketEntry(Protocol):
    """What the logs are told of one WebSocket (server.records)."""

    def accepted(self) -> None: ...
    def rejected(self, status: int, /) -> None:
        """It was refused with this status, 0 if the client had gone before."""

    def closed(self, code: int, /) -> None: ...
