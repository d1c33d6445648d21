"""The WebSocket that each page of a signed-in user holds: bell and unread counts."""

from __future__ import annotations

from typing import Any

from channels.db import database_sync_to_async

from demo_project.chat.services.reading import unread_by_slug
from demo_project.notifications import services
from demo_project.notifications.forms import MarkReadForm
from demo_project.realtime.consumer import CommandConsumer, CommandForm
from demo_project.realtime.groups import INBOX_TOPIC, inbox_group


class InboxConsumer(CommandConsumer):
    """Send what is new for one person, on whichever page."""

    topic = INBOX_TOPIC

    async def admit(self) -> list[str] | None:
        return [inbox_group(self.account.pk)] if self.account is not None else None

    async def opened(self) -> None:
        snapshot = await database_sync_to_async(self._snapshot)()
        await self.send_event("welcome", **snapshot)

    async def ping(self, data: dict[str, Any]) -> None:
        """Answer with the whole list: an event that was lost costs 20 seconds."""
        await self.send_event("pong", **await self.touch_and(self._snapshot))

    async def mark_read(self, data: dict[str, Any]) -> None:
        await database_sync_to_async(services.mark_read)(self.account, data["up_to"])

    commands = {
        "ping": (CommandForm, ping),
        "mark_read": (MarkReadForm, mark_read),
    }

    # Events of the channel layer.

    async def notification_new(self, event: dict[str, Any]) -> None:
        await self.send_event(**event)

    async def notification_read(self, event: dict[str, Any]) -> None:
        await self.send_event(**event)

    async def room_activity(self, event: dict[str, Any]) -> None:
        await self.send_event(**event)

    async def room_read(self, event: dict[str, Any]) -> None:
        await self.send_event(**event)

    def _snapshot(self) -> dict[str, Any]:
        assert self.account is not None  # admit() refused guests
        notes = [note.as_dict() for note in services.latest(self.account)]
        return {
            "notes": notes,
            "unread": services.unread_count(self.account),
            "rooms": unread_by_slug(self.account),
        }
