"""A synchronous and an asynchronous consumer that tell whose socket they serve."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from django.conf import settings

from tests.ecosystem.project.views import PAUSE, surroundings


def _answer(scope: Any, content: Any) -> dict[str, Any]:
    found = surroundings(scope["user"].get_username())
    seen = settings.PACKAGE.look_from_socket(scope)
    return {**found, "seen": seen, "number": content["number"]}


class SyncConsumer(JsonWebsocketConsumer):
    def receive_json(self, content: Any, **_: Any) -> None:
        time.sleep(PAUSE)
        self.send_json(_answer(self.scope, content))


class AsyncConsumer(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **_: Any) -> None:
        await asyncio.sleep(PAUSE)
        await self.send_json(await sync_to_async(_answer)(self.scope, content))
