"""The background app."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings


class BackgroundConfig(AppConfig):
    name = "demo_project.background"

    def ready(self) -> None:
        from demo_project.background import retries

        if settings.DEMO_TASKS:
            retries.connect()
