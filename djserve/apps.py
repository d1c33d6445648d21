"""djserve as a Django app: it has no models, only commands and system checks."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from django.apps import AppConfig
from django.core.checks import register

from djserve import checks
from djserve.instrumentation.tracing_context import prepare_with


class DjserveConfig(AppConfig):
    """Register the system checks, and what traces need of Django."""

    name = "djserve"
    verbose_name = "djserve"

    def __init__(self, app_name: str, app_module: ModuleType) -> None:
        super().__init__(app_name, app_module)
        # Found by its name, as Django finds the commands.
        import_module("djserve.management.early").act_early()

    def ready(self) -> None:
        """Called by Django once, when all apps are loaded."""
        from djserve.handlers.checks import check_database_pools, check_middleware

        for check in (*checks.CHECKS, check_database_pools, check_middleware):
            register(check, checks.TAG)
        prepare_with(_trace_django)


def _trace_django() -> None:
    from djserve.handlers.tracing import trace_django

    trace_django()
