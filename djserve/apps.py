"""djserve as a Django app: it has no models, only commands and system checks."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import register
from django.core.exceptions import ImproperlyConfigured

from djserve.errors import CHANNELS_HINT
from djserve.instrumentation import notes


class DjserveConfig(AppConfig):
    """Register the system checks, and what traces need of Django."""

    name = "djserve"
    verbose_name = "djserve"

    def __init__(self, app_name: str, app_module: ModuleType) -> None:
        super().__init__(app_name, app_module)
        require_channels(settings.INSTALLED_APPS)
        # Found by its name, as Django finds the commands.
        import_module("djserve.management.early").act_early()

    def ready(self) -> None:
        """Called by Django once, when all apps are loaded."""
        from djserve.checks import TAG, channel_layers, packages, project

        for module in (project, channel_layers, packages):
            for check in module.CHECKS:
                register(check, TAG)
        notes.trace_preparations.add(_trace_django)
        notes.preparations.add(_note_requests)
        notes.view_preparations.add(_note_views)


def require_channels(installed_apps: Iterable[str]) -> None:
    """Raise ImproperlyConfigured if Channels is among the apps but not installed.

    Called while Django loads the apps, before it comes to those after djserve.
    """
    names = {name.partition(".")[0] for name in installed_apps}
    if "channels" in names and find_spec("channels") is None:
        raise ImproperlyConfigured(
            f"INSTALLED_APPS names Channels, which is not installed. {CHANNELS_HINT}"
        )


def _note_requests() -> None:
    from djserve.handlers.notes import note_requests

    note_requests()


def _note_views() -> None:
    from djserve.handlers.notes import note_views

    note_views()


def _trace_django() -> None:
    from djserve.handlers.notes import trace_django

    trace_django()
