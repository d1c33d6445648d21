"""The realtime app."""

from __future__ import annotations

import logging

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "demo_project.realtime"

    def ready(self) -> None:
        # Imported for their registration.
        from demo_project.realtime import signals  # noqa: F401
        from demo_project.realtime.outage import OutageFilter

        # Not in LOGGING, which the supervisor uses too, and that without the project.
        logging.getLogger("channels_redis.pubsub").addFilter(OutageFilter())
