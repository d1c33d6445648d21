"""``settings.DJSERVE`` and the command line to the configuration in force.

The only module of ``conf`` that knows Django, and it imports it on the first call: the
``djserve`` command serves applications that have no Django settings at all.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from djserve.conf.parser import parse, shorten
from djserve.conf.schema import ServerConfig
from djserve.errors import ConfigError

SETTING = "DJSERVE"


class HostSettings(NamedTuple):
    """The project's settings that say under which names it is served."""

    allowed_hosts: tuple[str, ...]
    trusted_origins: tuple[str, ...]
    debug: bool


def load(options: Mapping[str, Any] | None = None) -> ServerConfig:
    """Return the checked configuration; ``options`` override the project's settings.

    ``options`` are what ``options.mapping_from_namespace`` returns. Without them the
    result is kept until Django's ``setting_changed`` says that DJSERVE is another.
    Raises ConfigError with every fault of both.
    """
    if options:
        return parse({**read_settings(), **options}, source=SETTING)
    return _load_settings()


def read_settings() -> Mapping[str, Any]:
    """Return ``settings.DJSERVE`` as it stands, {} where there are no settings.

    Raises ConfigError where it is not a mapping.
    """
    from django.conf import settings

    if not _has_settings():
        return {}
    given = getattr(settings, SETTING, {})
    if not isinstance(given, Mapping):
        raise ConfigError(
            [f"{SETTING}: expected a dict of settings, got {shorten(given)}"]
        )
    return given


def read_host_settings() -> HostSettings | None:
    """Return what the project says of its hosts, None where there are no settings."""
    from django.conf import settings

    if not _has_settings():
        return None
    return HostSettings(
        tuple(settings.ALLOWED_HOSTS),
        tuple(settings.CSRF_TRUSTED_ORIGINS),
        settings.DEBUG,
    )


def are_settings_loaded() -> bool:
    """Tell whether somebody has read Django's settings, or configured them."""
    django_conf = sys.modules.get("django.conf")
    return django_conf is not None and bool(django_conf.settings.configured)


def _has_settings() -> bool:
    from django.conf import ENVIRONMENT_VARIABLE, settings

    return settings.configured or bool(os.environ.get(ENVIRONMENT_VARIABLE))


@functools.cache
def _load_settings() -> ServerConfig:
    from django.core.signals import setting_changed

    setting_changed.connect(_forget, dispatch_uid="djserve.conf.loader")
    return parse(read_settings(), source=SETTING)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == SETTING:
        _load_settings.cache_clear()
