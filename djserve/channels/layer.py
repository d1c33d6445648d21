"""The channel layer that Channels is configured with: names, packing and the node."""

from __future__ import annotations

import asyncio
import os
import socket
import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgpack
from channels.layers import BaseChannelLayer
from django.core.exceptions import ImproperlyConfigured

from djserve.channels.folder import find_folder
from djserve.channels.node import LayerNode, owner_of
from djserve.channels.options import Options, capacity_finder, check_options
from djserve.system import SYSTEM

_PEER_BUFFER = 8 * 1024 * 1024
# A receiver that has so much before it gets a turn before the sender goes on.
_DEEP = 8
# So do others of the loop after so many messages to a group of other processes.
_TURN = 16
_NAMES = 16384

# Text of a browser may have halves of characters, which JSON lets through.
_pack = partial(msgpack.packb, unicode_errors="surrogatepass")
_unpack = partial(msgpack.unpackb, strict_map_key=False, unicode_errors="surrogatepass")


class HostChannelLayer(BaseChannelLayer):  # type: ignore[misc] # Channels has no types
    """Bring messages to the processes of one site on one machine.

    A message is any value that msgpack packs; tuples arrive as lists. ``capacity`` is
    counted for each channel, of a plain name in each process.
    ``docs/guides/channels.md`` has the options.
    """

    extensions = ["groups", "flush"]

    def __init__(
        self,
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: Mapping[Any, int] | None = None,
        *,
        prefix: str = "asgi",
        folder: str | os.PathLike[str] | None = None,
        peer_buffer: int = _PEER_BUFFER,
    ) -> None:
        check_options(
            {
                "expiry": expiry,
                "group_expiry": group_expiry,
                "capacity": capacity,
                "channel_capacity": channel_capacity,
                "prefix": prefix,
                "peer_buffer": peer_buffer,
            }
        )
        if not hasattr(socket, "AF_UNIX"):
            raise ImproperlyConfigured(
                f"The channel layer {type(self).__qualname__} needs unix sockets, "
                f"which {SYSTEM} does not have: take "
                "channels.layers.InMemoryChannelLayer there, for one process."
            )
        super().__init__(expiry=expiry, capacity=capacity)
        self.group_expiry = group_expiry
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self.prefix = prefix
        self._sent = 0
        self._owners: dict[str, str | None] = {}
        self._node = LayerNode(
            Options(
                expiry=expiry,
                group_expiry=group_expiry,
                peer_limit=peer_buffer,
                folder=partial(find_folder, folder, prefix),
                capacity=capacity_finder(capacity, self.channel_capacity),
            )
        )
        # At exit too: the socket's file goes with the process.
        weakref.finalize(self, self._node.close)

    @property
    def client_prefix(self) -> str:
        """The name of this process, which the names of its own channels hold."""
        return self._node.name

    @property
    def channels(self) -> Mapping[str, Any]:
        """The channels that have messages or receivers in this process."""
        return self._node.queues

    @property
    def groups(self) -> Mapping[str, Mapping[str, float]]:
        """The groups that channels of this process are in, and since when."""
        return self._node.groups

    def serialize(self, message: Any) -> bytes:
        """Return a message as bytes; a subclass may do it in another way."""
        data: bytes = _pack(message)
        return data

    def deserialize(self, message: bytes) -> Any:
        """Return a copy of the message that ``serialize`` was given."""
        return _unpack(message)

    def _owner_of(self, channel: str) -> str | None:
        """Return the process of a channel whose name keeps to the rules, else raise.

        A receiver asks for the same name again and again, and to check it costs as
        much as to take a message.
        """
        try:
            return self._owners[channel]
        except KeyError:
            self.require_valid_channel_name(channel)
        if len(self._owners) >= _NAMES:
            self._owners.clear()
        owner = self._owners[channel] = owner_of(channel)
        return owner

    async def send(self, channel: str, message: Any) -> None:
        """Send to a channel; raises ChannelFull if it has no room.

        If the channel is another process's, that is known once it was found full.
        """
        owner = self._owner_of(channel)
        if self._node.send(channel, owner, self.serialize(message)) >= _DEEP:
            await asyncio.sleep(0)

    async def receive(self, channel: str) -> Any:
        """Return the next message of a plain name, or of a channel of this process."""
        owner = self._owner_of(channel)
        if owner is not None and owner != self._node.name:
            # channels_redis raises this too.
            raise AssertionError(f"{channel!r} is not a channel of this process")
        return self.deserialize(await self._node.receive(channel, owner is None))

    async def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a new channel that this process alone receives from."""
        return self._node.new_channel(prefix)

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel of any process, or a plain name, to a group."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        self._node.join_group(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group, if it is there."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        self._node.leave_group(group, channel)

    async def group_send(self, group: str, message: Any) -> None:
        """Send to each member of a group that has room."""
        self.require_valid_group_name(group)
        self._sent += 1
        if self._node.send_group(group, self.serialize(message)) or not (
            self._sent % _TURN
        ):
            # Receivers of this process get their turn, however many messages follow.
            await asyncio.sleep(0)

    async def flush(self) -> None:
        """Forget all messages and groups, in all processes of the site."""
        self._node.flush()

    async def close(self) -> None:
        """Leave; the next call comes back as a process without channels."""
        self._node.close()
