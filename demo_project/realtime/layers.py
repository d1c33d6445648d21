"""Channels' layer in memory, made for hundreds of connections in one process."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import time
from typing import Any

from channels.layers import InMemoryChannelLayer

CLEAN_SECONDS = 5.0


class MemoryChannelLayer(InMemoryChannelLayer):
    """Do what the original does, at a cost that does not grow with all connections.

    The original looks through every channel and group each time that anybody receives
    anything, starts a task for each member of a group, and copies the message for it
    piece by piece. With 500 connections that is most of what the event loop does
    (``python -m benchmarks.demo_load``).
    """

    _cleaned_at = float("-inf")

    def _clean_expired(self) -> None:
        now = time.monotonic()
        if now - self._cleaned_at >= CLEAN_SECONDS:
            self._cleaned_at = now
            super()._clean_expired()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.require_valid_group_name(group)
        self._clean_expired()
        expires_at = time.time() + self.expiry
        # Each member gets a copy; loading one is several times as fast as deepcopy().
        data = pickle.dumps(message)
        for channel in self.groups.get(group, ()):
            # At most once, as every channel layer: the client asks for the rest.
            with contextlib.suppress(asyncio.QueueFull):
                self._queue(channel).put_nowait((expires_at, pickle.loads(data)))

    def _queue(self, channel: str) -> asyncio.Queue[tuple[float, dict[str, Any]]]:
        queue: asyncio.Queue[tuple[float, dict[str, Any]]] | None
        queue = self.channels.get(channel)
        if queue is None:
            queue = asyncio.Queue(self.get_capacity(channel))
            self.channels[channel] = queue
        return queue
