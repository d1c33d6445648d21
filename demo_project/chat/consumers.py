"""The WebSocket of one room: commands to services, events to the client."""

from __future__ import annotations

from typing import Any

from channels.db import database_sync_to_async

from demo_project.chat import events, forms, permissions
from demo_project.chat.models import Room
from demo_project.chat.presence import announce_people, people_in, room_topic
from demo_project.chat.services import messages, reading, statements
from demo_project.realtime.access import Ended
from demo_project.realtime.consumer import ACCESS_LOST, CommandConsumer, CommandForm
from demo_project.realtime.errors import Forbidden, TooMany
from demo_project.realtime.groups import room_group
from demo_project.realtime.limits import SharedBuckets, TokenBucket

edits = SharedBuckets(burst=10, rate=1)


class RoomConsumer(CommandConsumer):
    """One person's view of one room.

    Guests may connect to public rooms; what they may do there is the services' matter.
    """

    room: Room

    async def admit(self) -> list[str] | None:
        room = await self._find_room()
        if room is None:
            return None
        self.room = room
        self.topic = room_topic(room.pk)
        self._typing = TokenBucket(burst=2, rate=0.5)
        return [room_group(room.pk)]

    def check_access(self) -> None:
        super().check_access()
        kind = statements.readable_kind(self.room.pk, self.user.pk)
        if kind is None:
            raise Ended(ACCESS_LOST)
        self.room.kind = kind

    def is_open_to_all(self, event: dict[str, Any]) -> bool:
        return bool(event.get("is_public"))

    async def opened(self) -> None:
        await self._send_state("welcome", await self._arrive())

    async def closed(self) -> None:
        await database_sync_to_async(announce_people)(self.room.pk)

    # Commands of the client.

    async def send_message(self, data: dict[str, Any]) -> None:
        message = await database_sync_to_async(messages.post)(
            self._poster(),
            self.room,
            data["text"],
            nonce=data["nonce"],
            attachment_ids=data["attachments"],
        )
        await self.send_event("accepted", nonce=str(data["nonce"]), id=message.pk)

    async def edit(self, data: dict[str, Any]) -> None:
        self._check_rate_of_changes()
        await self._change(messages.edit, data["id"], data["text"])

    async def delete(self, data: dict[str, Any]) -> None:
        self._check_rate_of_changes()
        await self._change(messages.delete, data["id"])

    async def resume(self, data: dict[str, Any]) -> None:
        await self.send_event("changes", **await self._changes(data["version"]))

    async def read(self, data: dict[str, Any]) -> None:
        if self.account is not None:
            await database_sync_to_async(reading.mark_read)(
                self.account, self.room, data["position"]
            )

    async def typing(self, data: dict[str, Any]) -> None:
        if self.account is None or not self._typing.take():
            return
        event = {
            "type": "person.typing",
            "user": self.account.pk,
            "name": self.account.get_username(),
            # The command's look at the database has renewed it.
            "is_public": self.room.is_public,
        }
        # Straight to the layer: nothing to commit, and nothing lost if it is lost.
        await self.channel_layer.group_send(room_group(self.room.pk), event)

    async def ping(self, data: dict[str, Any]) -> None:
        """Answer with the room's state, so that a client which missed events knows."""
        await self._send_state("pong", await self.touch_and(self._state))

    commands = {
        "send": (forms.SendForm, send_message),
        "edit": (forms.EditForm, edit),
        "delete": (forms.DeleteForm, delete),
        "resume": (forms.ResumeForm, resume),
        "read": (forms.ReadForm, read),
        "typing": (CommandForm, typing),
        "ping": (CommandForm, ping),
    }

    # Events of the channel layer.

    async def message_changed(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["frame"])

    async def presence_changed(self, event: dict[str, Any]) -> None:
        await self.send_event(
            "presence", people=event["people"], guests=event["guests"]
        )

    async def person_typing(self, event: dict[str, Any]) -> None:
        await self.send_event("typing", user=event["user"], name=event["name"])

    async def access_changed(self, event: dict[str, Any]) -> None:
        """The room may be for fewer people now; `dispatch` has looked."""

    async def access_lost(self, event: dict[str, Any]) -> None:
        """The user (None: everybody) may no longer be here."""
        if event["user"] in {None, self.user.pk}:
            await self.close(code=ACCESS_LOST)

    def _poster(self) -> Any:
        if self.account is None:
            raise Forbidden("Sign in to write.")
        return self.account

    def _check_rate_of_changes(self) -> None:
        """Raise TooMany; each change is rendered, and sent to all in the room."""
        if not edits.take(self.user.pk):
            raise TooMany("You are changing messages too fast. Wait a few seconds.")

    @database_sync_to_async
    def _find_room(self) -> Room | None:
        slug = self.scope["url_route"]["kwargs"]["slug"]
        return permissions.readable_rooms(self.user).filter(slug=slug).first()

    async def _send_state(self, type: str, state: dict[str, Any] | None) -> None:
        if state is None:
            await self.close(code=ACCESS_LOST)
        else:
            await self.send_event(type, **state)

    @database_sync_to_async
    def _arrive(self) -> dict[str, Any] | None:
        # The others' event comes to this client too, after its welcome.
        announce_people(self.room.pk)
        return self._state()

    def _state(self) -> dict[str, Any] | None:
        """Return what a client compares with its own, None where the room is gone."""
        versions = Room.objects.filter(pk=self.room.pk).values_list(
            "version", flat=True
        )
        version = versions.first()
        if version is None:
            return None
        return {"version": version, **people_in(self.room.pk)}

    @database_sync_to_async
    def _changes(self, version: int) -> dict[str, Any]:
        changes = messages.changes_since(self.room, version)
        return {
            "messages": [events.payload(message) for message in changes.messages],
            "version": changes.version,
            "reset": changes.is_reset,
        }

    @database_sync_to_async
    def _change(self, service: Any, message_id: int, *args: Any) -> None:
        service(self._poster(), messages.find(self.room, message_id), *args)
