"""The realtime app."""

from __future__ import annotations

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "demo_project.realtime"

    def ready(self) -> None:
        # Imported for their registration.
        from demo_project.realtime import signals  # noqa: F401
