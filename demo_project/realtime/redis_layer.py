"""Channels' publishing layer in Redis, made to outlive a Redis that is away."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer

from demo_project.realtime.outage import is_outage, outage


class PubSubChannelLayer(RedisPubSubChannelLayer):
    """Do what the original does, and nothing while Redis cannot be reached.

    The original raises, which ends the connection that calls it, of every client at
    once. Here who is in which group is kept in the process first; a connection lives on
    without events, and joins again with a ping.
    """

    async def new_channel(self, prefix: str = "specific.") -> str:
        layer = self._get_layer()
        channel = f"{layer.prefix}{prefix}{uuid.uuid4().hex}"
        layer.channels[channel] = asyncio.Queue()
        await self._subscribe(channel)
        return channel

    async def group_add(self, group: str, channel: str) -> None:
        layer = self._get_layer()
        name = layer._get_group_channel_name(group)
        layer.groups.setdefault(name, set()).add(channel)
        # The channel too: it may not have been possible when it was new.
        for each in (name, channel):
            await self._subscribe(each)

    async def group_discard(self, group: str, channel: str) -> None:
        layer = self._get_layer()
        name = layer._get_group_channel_name(group)
        members = layer.groups.get(name, set())
        members.discard(channel)
        if not members and layer.groups.pop(name, None) is not None:
            await self._try(layer._get_shard(name).unsubscribe(name))

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self._try(self._get_layer().group_send(group, message))

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        await self._try(self._get_layer().send(channel, message))

    async def _subscribe(self, name: str) -> None:
        await self._try(self._get_layer()._get_shard(name).subscribe(name))

    async def _try(self, call: Coroutine[Any, Any, None]) -> None:
        """Await a call of the original, unless Redis has failed a moment ago."""
        if outage.is_pausing:
            call.close()
            return
        try:
            await call
        except Exception as error:
            if not is_outage(error):
                raise
            outage.failed(error)
        else:
            outage.succeeded()
