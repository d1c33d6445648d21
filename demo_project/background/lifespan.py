"""The application's lifespan: runs the worker and the clock inside the server.

Each server process runs both. Each job reaches one of them, and the clock's claims are
settled in the database. Where an external worker does the work,
only the clock runs here.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import DatabaseError

from demo_project.background.consumers import CHANNELS
from demo_project.background.schedule import enqueue_due
from demo_project.realtime.outage import is_outage, outage

logger = logging.getLogger(__name__)

CLOCK_SECONDS = 15.0
RETRY_SECONDS = 5.0
CANCEL_SECONDS = 1.0


class Lifespan:
    """Start the tasks with the server, and stop them with it (ASGI lifespan 2.0)."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        tasks = self._start()
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        finally:
            await _stop(tasks)
        await send({"type": "lifespan.shutdown.complete"})

    def _start(self) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(tick(), name="demo clock")]
        if settings.DEMO_INPROCESS_WORKER:
            tasks += [
                asyncio.create_task(
                    listen(self._application, name), name=f"demo {name}"
                )
                for name in CHANNELS
            ]
        return tasks


async def listen(application: Any, channel: str) -> None:
    """Feed a worker channel to its consumer for ever.

    To a consumer the channel layer's queue is an ASGI ``receive`` like any other.
    """
    scope = {"type": "channel", "channel": channel}
    while True:
        try:
            await application(scope, partial(_receive_job, channel), _send_nowhere)
        except Exception:
            logger.exception("Worker channel %s failed; trying again", channel)
        await asyncio.sleep(RETRY_SECONDS)


async def tick() -> None:
    """Send the periodic jobs when they are due.

    A database that is away, or has no tables yet, is told of once.
    """
    is_told = False
    while True:
        try:
            await database_sync_to_async(enqueue_due)()
            is_told = False
        except DatabaseError as error:
            if not is_told:
                message = "The schedule cannot be read; it is tried again every %.0f s"
                logger.error(f"{message} (%s)", CLOCK_SECONDS, error)
            is_told = True
        await asyncio.sleep(CLOCK_SECONDS)


async def _receive_job(channel: str) -> dict[str, Any]:
    """Return the next job, however long Redis may be away before it comes."""
    while True:
        try:
            job: dict[str, Any] = await get_channel_layer().receive(channel)
        except Exception as error:
            if not is_outage(error):
                raise
            outage.failed(error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            outage.succeeded()
            return job


async def _send_nowhere(message: dict[str, Any]) -> None:
    raise RuntimeError(f"A worker has nobody to send {message!r} to")


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    """End the tasks, however often that takes.

    A cancellation can get lost on its way: on Python 3.11 asyncio.wait_for() drops one
    that comes as the awaited is done, and redis-py sends its commands through that.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)
