"""The chat app."""

from __future__ import annotations

from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "demo_project.chat"

    def ready(self) -> None:
        # Imported for its registration.
        from demo_project.chat import signals  # noqa: F401
