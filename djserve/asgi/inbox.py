"""A WebSocket's messages on their way to the application: a bounded queue.

Beside it, the waiting of any number of tasks for one fact.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections import deque
from typing import TYPE_CHECKING, Any

from djserve.errors import ClientDisconnected

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from djserve.asgi.types import Message


class Inbox:
    """Keep messages until the application asks for them.

    ``pause`` is called when there are ``count_limit`` of them or ``size_limit`` bytes
    (characters of a text), ``resume`` once half of both is gone.
    """

    __slots__ = (
        "_count_limit",
        "_is_ended",
        "_is_paused",
        "_items",
        "_pause",
        "_readers",
        "_resume",
        "_size_limit",
        "size",
    )

    def __init__(
        self,
        count_limit: int,
        size_limit: int,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._count_limit = count_limit
        self._size_limit = size_limit
        self._pause = pause
        self._resume = resume
        # The peer's messages as they are; those about the connection in full.
        self._items: deque[str | bytes | dict[str, Any]] = deque()
        self._items.append({"type": "websocket.connect"})
        self.size = 0
        self._is_paused = False
        self._is_ended = False
        self._readers: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._items)

    def put(self, data: str | bytes) -> None:
        """Keep a message of the peer."""
        self._items.append(data)
        self.size += len(data)
        if self._readers:
            wake(self._readers)
        if not self._is_paused and (
            len(self._items) >= self._count_limit or self.size >= self._size_limit
        ):
            self._is_paused = True
            self._pause()

    def end(self, code: int, reason: str) -> None:
        """Let ``websocket.disconnect`` be the last message."""
        self._items.append(
            {"type": "websocket.disconnect", "code": code, "reason": reason}
        )
        self._is_ended = True
        wake(self._readers)

    async def receive(self) -> Message:
        """Return the next message, ``websocket.connect`` first.

        Raises ClientDisconnected after the last. Were it returned again, at once, an
        application that does not look at what it gets would hold the loop for ever.
        """
        items = self._items
        while not items:
            if self._is_ended:
                raise ClientDisconnected
            # As waiters.wait does, without a coroutine more for each message
            # (benchmark: websocket_echo).
            reader = get_running_loop().create_future()
            self._readers.append(reader)
            await reader
        item = items.popleft()
        if isinstance(item, dict):
            return item
        self.size -= len(item)
        if self._is_paused:
            self._resume_at_half()
        if isinstance(item, str):
            return {"type": "websocket.receive", "text": item}
        return {"type": "websocket.receive", "bytes": item}

    def _resume_at_half(self) -> None:
        if (
            len(self._items) <= self._count_limit // 2
            and self.size <= self._size_limit // 2
        ):
            self._is_paused = False
            self._resume()


async def wait(waiters: list[asyncio.Future[None]]) -> None:
    """Wait until ``wake`` is called for ``waiters``.

    Cheaper than an Event for each request. A waiter may be cancelled in between, and
    one that was woken looks for the fact by itself.
    """
    waiter = get_running_loop().create_future()
    waiters.append(waiter)
    await waiter


def wake(waiters: list[asyncio.Future[None]]) -> None:
    """Wake the tasks that wait now."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()
