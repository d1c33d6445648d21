"""``settings.DJSERVE`` and the command line to the configuration in force.

The only module of ``conf`` that knows Django, and it imports it on the first call: the
``djserve`` command serves applications that have no Django settings at all.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from djserve.conf.catalogue import groups
from djserve.conf.environment import read_environment, read_platform
from djserve.conf.parser import Flag, parse, shorten
from djserve.conf.schema import ServerConfig
from djserve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTING = "DJSERVE"


class HostSettings(NamedTuple):
    """The project's settings that say under which names it is served."""

    allowed_hosts: tuple[str, ...]
    trusted_origins: tuple[str, ...]
    debug: bool


def load(options: Mapping[str, Any] | None = None) -> ServerConfig:
    """Return the checked configuration; ``options`` override the project's settings.

    ``options`` are what ``options.mapping_from_namespace`` returns. Between the two
    stand the variables DJSERVE_<KEY>. Without options the result is kept until Django's
    ``setting_changed`` says that DJSERVE is another.
    FORCE_SCRIPT_NAME is the root path if there is no other and its mode is set.
    Raises ConfigError with every fault of both.
    """
    if options:
        return _load(merge(read_settings(), options))
    return _load_settings()


def load_for_production(options: Mapping[str, Any]) -> ServerConfig:
    """Return the configuration of a command that serves; raises as ``load``.

    Platforms' variables (PORT and the like) count for what nothing else says.
    """
    return _load(merge_for_production(read_settings(), options))


def merge(given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what settings, DJSERVE_<KEY> and the command line say, the last first.

    Raises ConfigError for a variable that is nearly one of these.
    """
    return {**given, **read_environment(os.environ), **options}


def merge_for_production(
    given: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what ``merge`` does, and what the platform says in addition."""
    mapping = merge(given, options)
    return {**mapping, **read_platform(os.environ, mapping)}


def read_settings() -> Mapping[str, Any]:
    """Return ``settings.DJSERVE`` as it stands, {} if there are no settings.

    Raises ConfigError if it is not a mapping.
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
    """Return what the project says of its hosts, None if there are no settings."""
    from django.conf import settings

    if not _has_settings():
        return None
    return HostSettings(
        tuple(settings.ALLOWED_HOSTS),
        tuple(settings.CSRF_TRUSTED_ORIGINS),
        settings.DEBUG,
    )


def read_hsts_seconds() -> int:
    """Return SECURE_HSTS_SECONDS of settings that are loaded."""
    from django.conf import settings

    return int(settings.SECURE_HSTS_SECONDS or 0)


def are_settings_loaded() -> bool:
    """Return whether somebody has read Django's settings, or configured them."""
    django_conf = sys.modules.get("django.conf")
    return django_conf is not None and bool(django_conf.settings.configured)


def configure_without_project(*, debug: bool) -> None:
    """Keep Django from reading the project's settings in this process."""
    from django.conf import settings

    settings.configure(DEBUG=debug)


def read_logging() -> object:
    """Return the project's LOGGING, None if Django does not apply it."""
    from django.conf import settings

    is_usual = settings.LOGGING_CONFIG == "logging.config.dictConfig"
    return settings.LOGGING if is_usual else None


def _has_settings() -> bool:
    from django.conf import ENVIRONMENT_VARIABLE, settings

    return settings.configured or bool(os.environ.get(ENVIRONMENT_VARIABLE))


@functools.cache
def _load_settings() -> ServerConfig:
    from django.core.signals import setting_changed

    setting_changed.connect(_forget, dispatch_uid="djserve.conf.loader")
    return _load(merge(read_settings(), {}))


def _load(mapping: Mapping[str, Any]) -> ServerConfig:
    config = parse(mapping, source=SETTING)
    proxy = config.proxy
    prefix = _read_script_name()
    # Django takes FORCE_SCRIPT_NAME off a path that has it and leaves others alone:
    # that is the guess which the two other modes are there to end.
    if proxy.root_path or proxy.root_path_mode == "auto" or not prefix:
        return config
    proxy = dataclasses.replace(proxy, root_path=prefix)
    return dataclasses.replace(config, proxy=proxy)


def _read_script_name() -> str:
    from django.conf import settings

    return (settings.FORCE_SCRIPT_NAME or "") if _has_settings() else ""


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in (SETTING, "FORCE_SCRIPT_NAME"):
        _load_settings.cache_clear()


class SettingOrigin(NamedTuple):
    """A setting's value, and what has set it: "default", a flag, a variable."""

    key: str
    value: Any
    source: str


_DERIVED = {"ROOT_PATH": "FORCE_SCRIPT_NAME", "CERTFILE": "ACME_FOLDER"}
"""Settings that have a value by another one, if they are not set themselves."""


def list_origins(options: Mapping[str, Any]) -> Iterator[SettingOrigin]:
    """Yield every setting that ``runasgi`` would serve with, in the schema's order.

    Raises ConfigError if one of them is wrong.
    """
    mapping = merge_for_production(read_settings(), options)
    config = _load(mapping)
    for group in groups():
        values = getattr(config, group.name)
        for setting in group.settings:
            value = getattr(values, setting.name)
            source = _name_source(mapping, setting.key)
            if source == "default" and value != setting.default:
                source = _DERIVED.get(setting.key, source)
            yield SettingOrigin(setting.key, value, source)


def _name_source(mapping: dict[str, Any], key: str) -> str:
    if key not in mapping:
        return "default"
    given = mapping[key]
    first = given[0] if isinstance(given, list | tuple) and given else given
    if not isinstance(first, Flag):
        return f"settings.{SETTING}"
    return f"variable {first.name}" if first.name.isupper() else first.name
