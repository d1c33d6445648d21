"""The application's short name."""

from __future__ import annotations

from django.apps import AppConfig


class RealisticConfig(AppConfig):
    """It has no migrations: its tables are made with the database."""

    name = "benchmarks.realistic"
    label = "realistic"
