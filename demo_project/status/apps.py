"""The status app."""

from __future__ import annotations

from django.apps import AppConfig


class StatusConfig(AppConfig):
    name = "demo_project.status"
