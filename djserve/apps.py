"""djserve as a Django app: it has no models, only commands and system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

from djserve import checks


class DjserveConfig(AppConfig):
    """Register the system checks."""

    name = "djserve"
    verbose_name = "djserve"

    def ready(self) -> None:
        """Called by Django once, when all apps are loaded."""
        from djserve.handlers.checks import check_database_pools

        for check in (*checks.CHECKS, check_database_pools):
            register(check, checks.TAG)
