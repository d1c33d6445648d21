"""Names of channel-layer groups, and sending to them once a transaction has committed.

The database is the truth and the channel layer is a hint: it may lose an event, so
whoever listens must be able to catch up from the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, TypeAlias

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

GROUPS_LAYER = "groups"
"""The channel layer of all groups; jobs have the default one."""

INBOX_TOPIC = "inbox"
"""The presence topic of the socket that every page of a signed-in user holds."""

Event: TypeAlias = dict[str, Any]
Delivery: TypeAlias = tuple[str, Event]


def room_group(room_id: int) -> str:
    """Every connection that shows the room."""
    return f"room.{room_id}"


def inbox_group(user_id: int) -> str:
    """Every inbox of the user: one on each open page."""
    return f"inbox.{user_id}"


def account_group(user_id: int) -> str:
    """Every connection of the user, whatever it shows."""
    return f"account.{user_id}"


def session_group(session_key: str) -> str:
    """Every connection of one sign-in; hashed, as the key itself opens the session."""
    digest = hashlib.sha256(session_key.encode()).hexdigest()
    return f"session.{digest[:40]}"


def publish(deliveries: Iterable[Delivery]) -> None:
    """Send events to groups once the current transaction has committed.

    Called from synchronous code. A channel layer that is down is logged and costs
    nobody their message: clients ask for what they missed.
    """
    pending = list(deliveries)

    # A function, not functools.partial: Django names it when it logs what it raises.
    def send_events() -> None:
        async_to_sync(_send_each)(pending)

    if pending:
        transaction.on_commit(send_events, robust=True)


def publish_one(group: str, event: Event) -> None:
    """Send one event to one group once the transaction has committed."""
    publish([(group, event)])


async def _send_each(deliveries: list[Delivery]) -> None:
    layer = get_channel_layer(GROUPS_LAYER)
    for group, event in deliveries:
        await layer.group_send(group, event)
