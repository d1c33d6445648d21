"""Channels' layer in memory, made for hundreds of connections in one process."""

from __future__ import annotations

import time
from typing import Any

from channels.exceptions import ChannelFull
from channels.layers import InMemoryChannelLayer

CLEAN_SECONDS = 1.0


class MemoryChannelLayer(InMemoryChannelLayer):
    """Do what the original does, at a cost that does not grow with all connections.

    The original looks through every channel and group each time that anybody receives
    anything, and starts a task for each member of a group. With 500 connections that
    is most of what the event loop does (``python -m benchmarks.demo_load``).
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
        # send() never waits, so the list cannot change under it; copied all the same.
        for channel in [*self.groups.get(group, ())]:
            try:
                await self.send(channel, message)
            except ChannelFull:
                # At most once, as every channel layer: the client asks for the rest.
                pass
