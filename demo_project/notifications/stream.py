"""Notifications as server-sent events, straight from the channel layer.

No consumer is needed for it: a channel of one's own, added to the user's group, is
enough to hear of something new. What is sent comes from the database, so an event that
the channel layer lost is made up for at the next one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.contrib.auth.models import User

from demo_project.notifications import services
from demo_project.realtime.access import SignIn
from demo_project.realtime.groups import (
    GROUPS_LAYER,
    account_group,
    inbox_group,
    session_group,
)

# Proxies close a connection on which nothing moves, often after 30 or 60 seconds.
KEEP_ALIVE_SECONDS = 15.0


async def events_for(
    user: User, session_key: str | None, start: int | None
) -> AsyncIterator[bytes]:
    """Yield the user's notifications after a serial, and go on as new ones come.

    ``start`` is None for a new client: it gets only what comes from now on. The stream
    ends when the session does.
    """
    groups = [inbox_group(user.pk), account_group(user.pk)]
    if session_key:
        groups.append(session_group(session_key))
    sign_in = SignIn(user, session_key)
    async with _subscribed(groups) as channel:
        if start is None:
            start = await database_sync_to_async(services.newest_serial)(user)
        yield b": connected\n\n"
        while True:
            # The event that tells of the session's end may have been lost.
            if not await database_sync_to_async(sign_in.holds)():
                return
            for note in await database_sync_to_async(services.after)(user, start):
                start = note.serial
                yield _encode("notification", note.as_dict(), note.serial)
            event = await _next_event(channel)
            if event is None:
                yield b": keep-alive\n\n"
            elif event["type"] == "session.ended":
                return
            elif event["type"] == "notification.read":
                yield _encode("read", {"unread": event["unread"]})


@asynccontextmanager
async def _subscribed(groups: list[str]) -> AsyncIterator[str]:
    layer = get_channel_layer(GROUPS_LAYER)
    channel = await layer.new_channel()
    for group in groups:
        await layer.group_add(group, channel)
    try:
        yield channel
    finally:
        for group in groups:
            await layer.group_discard(group, channel)


async def _next_event(channel: str) -> dict[str, Any] | None:
    """Return the next event, or None when nothing came for a while."""
    try:
        async with asyncio.timeout(KEEP_ALIVE_SECONDS):
            layer = get_channel_layer(GROUPS_LAYER)
            event: dict[str, Any] = await layer.receive(channel)
            return event
    except TimeoutError:
        return None


def _encode(event: str, data: dict[str, Any], event_id: int | None = None) -> bytes:
    # JSON has no line breaks, so one data line holds it.
    lines = [f"event: {event}", f"data: {json.dumps(data)}"]
    if event_id is not None:
        lines.insert(0, f"id: {event_id}")
    return ("\n".join(lines) + "\n\n").encode()
