"""The schema read back: each setting as a value, in the order of its declaration.

The parser, the command-line options and the settings reference all work from this
list; none of them looks at the dataclasses themselves.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from djserve.conf.schema import ServerConfig

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
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


@dataclass(frozen=True, slots=True)
class Group:
    """The settings of one dataclass, under the first line of its docstring."""

    name: str
    title: str
    make: type
    settings: tuple[Setting, ...]


@functools.cache
def groups() -> tuple[Group, ...]:
    """Return every group of settings, as ``ServerConfig`` orders them."""
    hints = get_type_hints(ServerConfig)
    return tuple(
        _read_group(field.name, hints[field.name])
        for field in dataclasses.fields(ServerConfig)
    )


@functools.cache
def settings_by_key() -> dict[str, Setting]:
    """Return every setting under its key."""
    return {setting.key: setting for group in groups() for setting in group.settings}


def _read_group(name: str, make: type) -> Group:
    hints = get_type_hints(make)
    settings = tuple(
        _read_setting(name, field, hints[field.name])
        for field in dataclasses.fields(make)
    )
    title = (make.__doc__ or name).strip().splitlines()[0].rstrip(".")
    return Group(name, title, make, settings)


def _read_setting(group: str, field: dataclasses.Field[Any], hint: Any) -> Setting:
    kind, optional = _read_hint(hint)
    return Setting(
        group=group,
        name=field.name,
        kind=kind,
        optional=optional,
        default=field.default,
        **field.metadata,
    )


def _read_hint(hint: Any) -> tuple[type, bool]:
    """Reduce ``float | None`` to (float, True), a tuple's hint to (tuple, False)."""
    if get_origin(hint) is tuple:
        return tuple, False
    parts = get_args(hint)
    if not parts:
        return hint, False
    (kind,) = (part for part in parts if part is not NoneType)
    return kind, NoneType in parts
