"""Settings that would leave background work undone."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks


@checks.register
def check_worker_is_reachable(**_: Any) -> list[checks.CheckMessage]:
    """An external worker cannot hear a channel layer that lives in one process."""
    if settings.DEMO_INPROCESS_WORKER or settings.REDIS_URL:
        return []
    return [
        checks.Error(
            "DEMO_INPROCESS_WORKER is off, but no worker can be reached.",
            hint="Set REDIS_URL, or leave DEMO_INPROCESS_WORKER on.",
            id="demo.E001",
        )
    ]
