"""Handing work over: as a task that is kept, or to the Channels worker.

A job says which row to work on and nothing more. The row's state says what is still to
do, so a job that is lost is sent again by ``requeue`` and one that comes twice finds
its work done.
"""

from __future__ import annotations

import logging
from typing import Any

from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from demo_project.realtime.outage import is_outage, outage

logger = logging.getLogger(__name__)


# By their names: the tasks use the services that hand them work.
TASKS = {
    "attachment.process": "demo_project.background.tasks.process_attachment",
    "preview.title": "demo_project.background.tasks.find_preview_title",
    "digest.send": "demo_project.background.tasks.send_digests",
}


def enqueue(channel: str, job: dict[str, Any]) -> None:
    """Hand a job over; a rollback of the current transaction takes it back.

    Without a task for it, it is sent to a worker channel once the transaction has
    committed. The channel layer delivers it at most once.
    """
    path = TASKS.get(job["type"])
    if settings.DEMO_TASKS and path is not None:
        import_string(path).enqueue(*([job["id"]] if "id" in job else []))
        return

    # A function, not functools.partial: Django names it when it logs what it raises.
    def send_job() -> None:
        _send_now(channel, job)

    transaction.on_commit(send_job, robust=True)


def _send_now(channel: str, job: dict[str, Any]) -> None:
    # The row is still pending, so the job comes back with the next requeue.
    if outage.is_pausing:
        return
    try:
        async_to_sync(get_channel_layer().send)(channel, job)
        outage.succeeded()
    except ChannelFull:
        logger.warning("Worker channel %s is full; a job waits.", channel)
    except Exception as error:
        if not is_outage(error):
            raise
        outage.failed(error)
