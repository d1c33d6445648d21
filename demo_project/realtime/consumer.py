"""The base of the site's consumers: JSON commands in, events out.

A subclass names its commands; each is validated by a Django form, so a handler only
gets clean values. What may go wrong on any socket is dealt with here, once: bad JSON,
unknown commands, floods, refusals by a service, and a session that ends.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeAlias, TypeVar

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django import forms
from django.contrib.auth.models import AnonymousUser, User

from demo_project.realtime import presence
from demo_project.realtime.access import Ended, SignIn
from demo_project.realtime.errors import Refused
from demo_project.realtime.groups import GROUPS_LAYER, account_group, session_group
from demo_project.realtime.limits import TokenBucket
from demo_project.realtime.outage import outage

T = TypeVar("T")

SESSION_ENDED = 4401
ACCESS_LOST = 4403
TOO_MANY_FRAMES = 4429

ENDINGS = frozenset({"session.ended", "access.lost"})
"""Events that only end a connection; everybody may have those."""

# A ping looks in the same trip to a thread that renews the connection's row.
CHECKED_BY_ITSELF = frozenset({"ping"})

Handler: TypeAlias = Callable[[Any, dict[str, Any]], Awaitable[None]]
"""A method of the consumer that takes a form's clean values."""

# Channel layers forget a group's members after a day (group_expiry), and the one in
# memory drops whoever left a message waiting for a minute, as a consumer may that was
# kept busy. So a connection joins again every now and then.
_REJOIN_SECONDS = 60.0


class CommandForm(forms.Form):
    """A command without fields; those with fields derive from it."""


class CommandConsumer(AsyncWebsocketConsumer):
    """Take ``{"type": ..., ...}`` frames and run the command of that name.

    Subclasses set ``commands``: name -> (form, handler), and implement ``admit``.
    """

    channel_layer_alias = GROUPS_LAYER
    commands: ClassVar[dict[str, tuple[type[forms.Form], Handler]]] = {}

    user: User | AnonymousUser
    topic: str
    connection_id: uuid.UUID | None = None
    _has_ended = False
    _sign_in: SignIn | None = None

    async def admit(self) -> list[str] | None:
        """Return the groups to join, or None to refuse. Sets ``topic``."""
        raise NotImplementedError

    def check_access(self) -> None:
        """Raise Ended if this connection would no longer be admitted.

        Asks the database: the event that tells of it may have been lost.
        """
        if self._sign_in is not None and not self._sign_in.holds():
            raise Ended(SESSION_ENDED)

    def is_open_to_all(self, event: dict[str, Any]) -> bool:
        """Return whether anybody may read what an event carries.

        By what the sender read in the database for this event, not by what was so when
        the connection was admitted.
        """
        return False

    async def opened(self) -> None:
        """Send what a new connection needs; its groups are joined by now."""

    async def closed(self) -> None:
        """Tell others; only called where ``opened`` was."""

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Take one message; an event only if the client may still have it."""
        if self._has_ended and message["type"] != "websocket.disconnect":
            return
        try:
            if not self._is_free(message):
                await database_sync_to_async(self.check_access)()
            await super().dispatch(message)
        except Ended as end:
            self._has_ended = True
            await self.close(code=end.code)

    async def connect(self) -> None:
        self.user = self.scope["user"]
        self._frames = TokenBucket(burst=60, rate=10)
        self._joined: list[str] = []
        if self.account is not None:
            self._sign_in = SignIn(self.account, self.scope["session"].session_key)
        groups = await self.admit()
        if groups is None:
            # Before accept this refuses the handshake itself, with HTTP 403.
            await self.close()
            return
        # Join first and read the state after: whatever happens between the two comes
        # as an event, so nothing falls in the gap.
        await self._join(groups + self._own_groups())
        await self.accept()
        self.connection_id = await database_sync_to_async(presence.opened)(
            self.topic, self.account
        )
        await self.opened()

    async def disconnect(self, code: int) -> None:
        for group in self._joined:
            await self.channel_layer.group_discard(group, self.channel_name)
        if self.connection_id is not None:
            await database_sync_to_async(presence.closed)(self.connection_id)
            await self.closed()

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None
    ) -> None:
        if not self._frames.take():
            await self.close(code=TOO_MANY_FRAMES)
            return
        content = _parse(text_data)
        name = content.get("type")
        command = self.commands.get(name) if isinstance(name, str) else None
        if command is None:
            await self.send_event("error", code="invalid", detail="Unknown command.")
            return
        form_class, handler = command
        if name not in CHECKED_BY_ITSELF:
            await database_sync_to_async(self.check_access)()
        await self._run(form_class(content), handler, content)

    async def send_event(self, type: str, **fields: Any) -> None:
        """Send one frame to the client."""
        await self.send(text_data=json.dumps({"type": type, **fields}))

    @property
    def account(self) -> User | None:
        """The signed-in user, None for a guest."""
        return self.user if isinstance(self.user, User) else None

    # Events of the channel layer that every consumer understands.

    async def session_ended(self, event: dict[str, Any]) -> None:
        await self.close(code=SESSION_ENDED)

    async def touch(self) -> None:
        """Note a sign of life of the client."""
        await self.touch_and(lambda: None)

    async def touch_and(self, look: Callable[[], T]) -> T:
        """Note a sign of life of the client, and return what ``look`` then finds.

        Both in one trip to a thread: each client pings every 20 seconds. Raises Ended.
        """
        is_old = time.monotonic() - self._joined_at > _REJOIN_SECONDS
        if is_old or outage.was_since(self._joined_at):
            await self._join(self._joined)
        found: T = await database_sync_to_async(self._touch)(look)
        return found

    async def _run(
        self,
        form: forms.Form,
        handler: Handler,
        content: dict[str, Any],
    ) -> None:
        # The nonce comes back with a refusal, so the client knows which frame it was.
        nonce = content.get("nonce")
        if not form.is_valid():
            detail = " ".join(
                str(message) for errors in form.errors.values() for message in errors
            )
            await self.send_event("error", code="invalid", detail=detail, nonce=nonce)
            return
        try:
            await handler(self, form.cleaned_data)
        except Refused as refusal:
            await self.send_event(
                "error", code=refusal.code, detail=refusal.detail, nonce=nonce
            )

    def _is_free(self, message: dict[str, Any]) -> bool:
        """Return whether a message needs no look at the database before it is taken."""
        type = message["type"]
        is_of_the_protocol = type.startswith("websocket.") or type in ENDINGS
        return is_of_the_protocol or self.is_open_to_all(message)

    def _touch(self, look: Callable[[], T]) -> T:
        self.check_access()
        if self.connection_id is not None:
            presence.touched(self.connection_id, self.topic, self.account)
        return look()

    async def _join(self, groups: list[str]) -> None:
        self._joined_at = time.monotonic()
        for group in groups:
            await self.channel_layer.group_add(group, self.channel_name)
        self._joined = groups

    def _own_groups(self) -> list[str]:
        if self.account is None:
            return []
        groups = [account_group(self.account.pk)]
        key = self.scope["session"].session_key
        if key:
            groups.append(session_group(key))
        return groups


def _parse(text: str | None) -> dict[str, Any]:
    try:
        content = json.loads(text or "")
    # Brackets within brackets: a frame has room for tens of thousands.
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
