"""The ASGI names used across the package, in the wide form that a server needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class RequestEntry(Protocol):
    """Who is told of a request's end: the response's status and its content's size.

    ``status`` is 0 where the client went before it had one.
    """

    def finish(self, status: int, size: int, /) -> None: ...
