"""The messages that wait for a receiver in this process, one queue for each channel.

A message lies here packed, so a group's is there once, and each receiver unpacks its
own copy. The caller holds the node's lock; waiters may be on any loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator


class Queue:
    """One channel's messages, oldest first, and the receivers that wait for one."""

    __slots__ = ("capacity", "is_shown_full", "messages", "waiters")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.messages: deque[tuple[float, bytes]] = deque()
        # Mostly one, so that a list is as good as a deque and is made faster.
        self.waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self.is_shown_full = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost with the queue."""
        return not self.messages and not self.waiters

    @property
    def is_full(self) -> bool:
        return len(self.messages) >= self.capacity

    def put(self, expires: float, data: bytes, now: float) -> bool:
        """Add a message and wake a receiver; False if there is no room."""
        messages = self.messages
        if len(messages) >= self.capacity:
            self.drop_expired(now)
            if len(messages) >= self.capacity:
                return False
        messages.append((expires, data))
        if self.waiters:
            self.wake()
        return True

    def take(self, now: float) -> bytes | None:
        """Return the oldest message that has not expired."""
        messages = self.messages
        while messages:
            expires, data = messages.popleft()
            if expires > now:
                return data
        return None

    def drop_expired(self, now: float) -> None:
        """Drop the expired messages at the front; those behind them are younger."""
        messages = self.messages
        while messages and messages[0][0] <= now:
            messages.popleft()

    def wait(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Return a future that ends once there may be a message to take."""
        waiter: asyncio.Future[None] = loop.create_future()
        self.waiters.append((loop, waiter))
        return waiter

    def forget(self, waiter: asyncio.Future[None]) -> None:
        """Take back a receiver that waits no more, and wake the next in its place."""
        for pair in self.waiters:
            if pair[1] is waiter:
                self.waiters.remove(pair)
                return
        # It had been woken for a message that it will not take.
        if self.messages:
            self.wake()

    def wake(self) -> None:
        """Wake the receiver that has waited longest."""
        current = asyncio._get_running_loop()
        waiters = self.waiters
        while waiters:
            loop, waiter = waiters.pop(0)
            if waiter.done():
                continue
            if loop is current:
                waiter.set_result(None)
                return
            try:
                loop.call_soon_threadsafe(_finish, waiter)
            except RuntimeError:
                # The loop was closed while it waited.
                continue
            return


class Queues(dict[str, Queue]):
    """The queues of a process by channel; one that is idle is not kept."""

    def sweep(self, now: float) -> Iterator[str]:
        """Drop what has expired everywhere; yield the channels that this changes."""
        for channel, queue in list(self.items()):
            queue.drop_expired(now)
            if queue.is_idle or (queue.is_shown_full and not queue.is_full):
                yield channel


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
