"""A channel layer for the processes of one machine, without a server between them.

    CHANNEL_LAYERS = {"default": {"BACKEND": "djserve.channels.HostChannelLayer"}}

Nothing of djserve imports this package: Channels and msgpack are needed only by those
who use it. ``node`` explains how it works.
"""

from __future__ import annotations

from djserve.errors import CHANNELS_HINT

try:
    from djserve.channels.consumers import WebTransportConsumer
    from djserve.channels.layer import HostChannelLayer
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] in ("channels", "msgpack"):
        error.add_note(CHANNELS_HINT)
    raise

__all__ = ["HostChannelLayer", "WebTransportConsumer"]
