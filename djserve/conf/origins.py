"""Which settings are in force, and where each comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from djserve.conf.catalogue import groups
from djserve.conf.environment import PREFIX
from djserve.conf.loader import load_for_production, merge_for_production, read_settings
from djserve.conf.parser import Flag

if TYPE_CHECKING:
    from collections.abc import Iterator


class SettingOrigin(NamedTuple):
    """A setting's value, and what has set it: "default", "settings" or a variable."""

    key: str
    value: Any
    source: str


def list_origins() -> Iterator[SettingOrigin]:
    """Yield every setting that ``runasgi`` would serve with, in the schema's order.

    Raises ConfigError if one of them is wrong.
    """
    config = load_for_production({})
    mapping = merge_for_production(read_settings(), {})
    for group in groups():
        values = getattr(config, group.name)
        for setting in group.settings:
            value = getattr(values, setting.name)
            yield SettingOrigin(setting.key, value, _name_source(mapping, setting.key))


def _name_source(mapping: dict[str, Any], key: str) -> str:
    if key not in mapping:
        return "default"
    given = mapping[key]
    first = given[0] if isinstance(given, list | tuple) and given else given
    if not isinstance(first, Flag):
        return "settings"
    is_own = first.name == PREFIX + key
    return "environment" if is_own else f"environment ({first.name})"
