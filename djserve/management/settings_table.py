"""``manage.py djserve settings``: each setting, its value, and what has set it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djserve.conf.catalogue import groups
from djserve.conf.loader import SettingOrigin, list_origins
from djserve.conf.masking import HIDDEN, SECRET_KEYS, hide_secrets
from djserve.conf.options import add_arguments as add_flags
from djserve.conf.parser import Flag
from djserve.conf.processes import ProcessConfig
from djserve.conf.short_help import shorten_help
from djserve.cpus import measure_cpus
from djserve.management.options import read_options
from djserve.server.banner import describe_size

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from djserve.conf.catalogue import Setting

HEADINGS = ("Setting", "Set by", "Value")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and all of ``runasgi``."""
    parser.usage = "%(prog)s [--changed] [the options of runasgi]"
    parser.add_argument(
        "addrport",
        nargs="?",
        help="Port, host:port or any address that --bind takes.",
    )
    parser.add_argument(
        "--changed", action="store_true", help="Leave out settings at their defaults."
    )
    add_flags(parser)
    shorten_help(parser, "--changed")


def show_settings(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Write what ``runasgi`` with these options would serve with.

    Raises ConfigError if that is wrong.
    """
    given = dict(options)
    if not isinstance(given.get("verbosity"), Flag):
        # Django's own option, which each command has.
        given.pop("verbosity", None)
    origins = list(list_origins(read_options(given)))
    if given["changed"]:
        origins = [each for each in origins if each.source != "default"]
        if not origins:
            write("All settings are at their defaults.")
            return
    for line in lay_out(origins):
        write(line)


def lay_out(origins: Sequence[SettingOrigin]) -> Iterator[str]:
    """Yield the lines of a table. The values, of any length, come last."""
    found = {each.key: each for each in origins}
    keys = max(map(len, [HEADINGS[0], *found])) + 2
    sources = max(len(each) for each in (HEADINGS[1], *(o.source for o in origins)))
    yield f"{HEADINGS[0]:{keys}}  {HEADINGS[1]:{sources}}  {HEADINGS[2]}"
    for group in groups():
        settings = [each for each in group.settings if each.key in found]
        if settings:
            yield ""
            yield group.title
        for setting in settings:
            origin = found[setting.key]
            value = describe(setting, origin.value)
            yield f"  {setting.key:{keys - 2}}  {origin.source:{sources}}  {value}"


def describe(setting: Setting, value: Any) -> str:
    """Return a value as it is written in the settings, without secrets."""
    if value is None:
        return f"{setting.none_word or None}{_resolve(setting.key)}"
    if setting.key in SECRET_KEYS:
        return HIDDEN
    if setting.kind is float:
        return f"{value:g}"
    if setting.unit == "bytes":
        size = describe_size(value)
        return f"{value} ({size})" if value >= 1024 else str(value)
    if isinstance(value, tuple):
        return hide_secrets(repr([_describe_item(each) for each in value]))
    return hide_secrets(repr(value))


def _describe_item(item: Any) -> str:
    if isinstance(item, ProcessConfig):
        return f"{item.name}={item.words}"
    return str(item)


def _resolve(key: str) -> str:
    """Return what is counted if nothing is set."""
    from djserve.conf.schema import DjangoConfig
    from djserve.handlers.runtime import thread_count

    cpus = measure_cpus()
    if key == "WORKERS":
        return f" = {cpus.count} ({cpus.source})"
    if key == "THREADS":
        return f" = {thread_count(DjangoConfig())} that compute ({cpus.source})"
    return ""
