"""The status page's WebSocket: figures every two seconds, for staff only."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from channels.db import database_sync_to_async
from django.contrib.auth.models import User

from demo_project.realtime.access import Ended
from demo_project.realtime.consumer import ACCESS_LOST, CommandConsumer, CommandForm
from demo_project.status import figures

INTERVAL_SECONDS = 2.0


class StatusConsumer(CommandConsumer):
    """Measure and send until the page goes.

    The channel layer's latency is that of a message to this very consumer and back; the
    client measures the way to itself with its pings.
    """

    topic = "status"
    _sampling: asyncio.Task[None] | None = None

    async def admit(self) -> list[str] | None:
        is_staff = self.account is not None and self.account.is_staff
        return [] if is_staff else None

    def check_access(self) -> None:
        super().check_access()
        assert self.account is not None  # admit() refused guests
        if not User.objects.filter(pk=self.account.pk, is_staff=True).exists():
            raise Ended(ACCESS_LOST)

    async def opened(self) -> None:
        history = await database_sync_to_async(figures.messages_per_minute)()
        await self.send_event("welcome", messages_per_minute=history)
        self._sampling = asyncio.create_task(self._sample(), name="status samples")

    async def closed(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sampling

    async def ping(self, data: dict[str, Any]) -> None:
        # The answer first: the client measures how long it takes.
        await self.send_event("pong")
        await self.touch()

    commands = {"ping": (CommandForm, ping)}

    async def status_probe(self, event: dict[str, Any]) -> None:
        """The probe has come round: send it on with the rest of the figures."""
        # One process sends and takes it, so its own clock serves.
        layer_ms = (time.perf_counter() - event["sent"]) * 1000
        current = await database_sync_to_async(figures.snapshot)()
        await self.send_event("figures", layer_ms=round(layer_ms, 2), **current)

    async def _sample(self) -> None:
        while True:
            probe = {"type": "status.probe", "sent": time.perf_counter()}
            await self.channel_layer.send(self.channel_name, probe)
            await asyncio.sleep(INTERVAL_SECONDS)
