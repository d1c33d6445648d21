"""``settings.DJSERVE`` and the command line to the configuration in force.

The only module of ``conf`` that knows Django, and it imports it on the first call: the
``djserve`` command serves applications that have no Django settings at all.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

from djserve.conf.parser import parse, shorten
from djserve.conf.schema import ServerConfig
from djserve.errors import ConfigError

SETTING = "DJSERVE"


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
    from django.conf import ENVIRONMENT_VARIABLE, settings

    if not settings.configured and not os.environ.get(ENVIRONMENT_VARIABLE):
        return {}
    given = getattr(settings, SETTING, {})
    if not isinstance(given, Mapping):
        raise ConfigError(
            [f"{SETTING}: expected a dict of settings, got {shorten(given)}"]
        )
    return given


@functools.cache
def _load_settings() -> ServerConfig:
    from django.core.signals import setting_changed

    setting_changed.connect(_forget, dispatch_uid="djserve.conf.loader")
    return parse(read_settings(), source=SETTING)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == SETTING:
        _load_settings.cache_clear()
