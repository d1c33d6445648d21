"""The background app."""

from __future__ import annotations

from django.apps import AppConfig


class BackgroundConfig(AppConfig):
    name = "demo_project.background"
