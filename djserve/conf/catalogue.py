"""The schema read back: each setting as a value, in the order of its declaration.

The parser, the command-line options and the settings reference all work from this
list; none of them looks at the dataclasses themselves.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, cast

from djserve.conf.schema import ServerConfig
from djserve.values import Values

DJANGO_SETTINGS = (
    "HANDLER",
    "STATIC",
    "STATIC_MAX_AGE",
    "THREADS",
    "THREAD_SHARE",
    "THREAD_WAIT_TIMEOUT",
    "THREAD_QUEUE_LIMIT",
    "DATABASE_CONNECTIONS",
    "DATABASE_CONNECTION_TIMEOUT",
)
"""How a Django project's requests are run: for ``manage.py runasgi`` alone."""


class Setting(Values, kw_only=True):
    """One setting: where it lives in ``ServerConfig`` and what may be put there.

    ``kind`` is bool, int, float, str or tuple (of strings); ``optional`` says whether
    None is a value too.
    """

    group: str
    name: str
    kind: type
    optional: bool
    default: Any
    help: str
    aliases: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    metavar: str
    syntax: str
    none_word: str
    unit: str

    @property
    def key(self) -> str:
        """The key in ``settings.DJSERVE``."""
        return self.name.upper()

    @property
    def flag(self) -> str:
        """The flag derived from the key, which every setting has."""
        return "--" + self.name.replace("_", "-")

    @property
    def flags(self) -> tuple[str, ...]:
        """All flags: the short ones, the derived one, then Daphne's names."""
        short = [flag for flag in self.aliases if not flag.startswith("--")]
        long = [flag for flag in self.aliases if flag.startswith("--")]
        return (*short, self.flag, *long)


class Group(Values):
    """The settings of one dataclass, under the first line of its docstring."""

    name: str
    title: str
    make: type[Values]
    settings: tuple[Setting, ...]


_KINDS: dict[str, type] = {
    "bool": bool,
    "float": float,
    "int": int,
    "str": str,
    "tuple": tuple,
}


@functools.cache
def groups() -> tuple[Group, ...]:
    """Return every group of settings, as ``ServerConfig`` orders them."""
    return tuple(
        _read_group(field.name, cast("type[Values]", field.default_factory))
        for field in dataclasses.fields(ServerConfig)
    )


@functools.cache
def settings_by_key() -> dict[str, Setting]:
    """Return every setting under its key."""
    return {setting.key: setting for group in groups() for setting in group.settings}


def _read_group(name: str, make: type[Values]) -> Group:
    settings = tuple(_read_setting(name, field) for field in dataclasses.fields(make))
    title = (make.__doc__ or name).strip().splitlines()[0].rstrip(".")
    return Group(name, title, make, settings)


def _read_setting(group: str, field: dataclasses.Field[Any]) -> Setting:
    kind, optional = _read_annotation(cast("str", field.type))
    return Setting(
        group=group,
        name=field.name,
        kind=kind,
        optional=optional,
        default=field.default,
        **field.metadata,
    )


def _read_annotation(text: str) -> tuple[type, bool]:
    """Reduce "float | None" to (float, True), a tuple's to (tuple, False).

    To evaluate each, as ``get_type_hints`` does, would take longer than all else here.
    """
    name = text.removesuffix(" | None")
    return _KINDS[name.partition("[")[0]], name != text
