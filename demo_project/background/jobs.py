"""Handing work to the background worker, over the channel layer.

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
from django.db import transaction

from demo_project.realtime.outage import is_outage, outage

logger = logging.getLogger(__name__)


def enqueue(channel: str, job: dict[str, Any]) -> None:
    """Send a job to a worker channel once the current transaction has committed."""

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
