"""A WebSocket's messages on their way to the application: a bounded queue.

Also the waiting of any number of tasks for one fact.
"""

# Back-pressure, from the application to the peer and back
#
# Nothing that a peer sends, and nothing that an application sends, is kept without a
# bound. Each stage knows only its neighbour: it is told to pause, or it asks.
#
# The application reads slowly. What has come waits here (a WebSocket's messages) or in
# the exchange (a request's content, ``http.INBOX_LIMIT``). At the limit the stage below
# is told to pause, and so on down to the transport, which stops reading the socket;
# then the kernel's buffer fills and TCP holds the peer back. HTTP/2 cannot stop a
# socket that it shares between streams: there the stream's window is not opened (RFC
# 9113 section 5.2). A limit is checked once the data is in, so it may be exceeded by
# the message that reaches it, or by what else of a request's content was read from the
# socket with it.
#
# Reading resumes at half of both limits, not just below them: with one message taken
# and one let in, each would cost a pause and a resumption. The content of a request is
# taken as a whole, so there all of it has gone when reading resumes.
#
# The peer reads slowly. The transport tells its receiver ``pause_writing`` above its
# limit; the application's ``send`` has written by then, and does not return until
# ``resume_writing``. So an application that awaits each ``send``, as ASGI has it, has
# one message above the limit at the most.
#
# A task that waits for either is woken through ``wake``, and looks for the fact again:
# between the wake-up and its turn another waiter may have taken what there was, or the
# connection may have ended. The end of a conversation wakes the readers, and the loss
# of the connection both: nothing else would wake a task that waits for a peer that has
# gone.

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
