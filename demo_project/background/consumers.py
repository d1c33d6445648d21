"""The worker's consumers: they take jobs from named channels of the channel layer.

The same classes run inside the server (background/lifespan.py) and under
``manage.py runworker media digest``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from channels.consumer import AsyncConsumer
from channels.db import database_sync_to_async
from django.conf import settings

from demo_project.background import digest, media, retries
from demo_project.chat.presence import sweep_connections
from demo_project.realtime.groups import GROUPS_LAYER

logger = logging.getLogger(__name__)


class JobConsumer(AsyncConsumer):
    """Run jobs one after another, each in a thread of the loop's pool.

    Not in the thread-sensitive one: that is where the server's consumers query the
    database, and a large picture would keep them all waiting.
    """

    # Channels listens on a channel of each consumer's own too: on this layer, which an
    # outage of Redis does not make raise.
    channel_layer_alias = GROUPS_LAYER

    async def run(self, job: Callable[..., object], *args: Any) -> None:
        try:
            await database_sync_to_async(job, thread_sensitive=False)(*args)
        except Exception:
            # One bad job must not end the worker; the row says that it is not done.
            logger.exception("Job %s%r failed", job.__name__, args)


class MediaConsumer(JobConsumer):
    """Thumbnails and titles."""

    async def attachment_process(self, job: dict[str, Any]) -> None:
        await self.run(media.process_attachment, job["id"])

    async def preview_title(self, job: dict[str, Any]) -> None:
        await self.run(media.find_preview_title, job["id"])

    async def work_requeue(self, job: dict[str, Any]) -> None:
        await self.run(media.requeue)
        if settings.DEMO_TASKS:
            await self.run(retries.requeue_lost)


class DigestConsumer(JobConsumer):
    """Periodic work on people."""

    async def digest_send(self, job: dict[str, Any]) -> None:
        await self.run(digest.send)

    async def connections_sweep(self, job: dict[str, Any]) -> None:
        await self.run(sweep_connections)


CHANNELS = {
    "media": MediaConsumer.as_asgi(),
    "digest": DigestConsumer.as_asgi(),
}
