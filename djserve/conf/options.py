"""The schema as command-line options, and Daphne's command line in its terms.

Only what is given on the command line comes out; it overrides ``settings.DJSERVE``.
Nothing is converted here, so that the parser reports every fault in one list.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from djserve.conf.catalogue import Setting, groups, settings_by_key
from djserve.conf.parser import Flag
from djserve.conf.syntax import LARGEST_PORT, is_host_only
from djserve.values import Values

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = "8000"

_A_YEAR = str(365 * 24 * 3600)
_NO_LIMIT = str(2**63 - 1)

# What Daphne's users write for "never" or "no limit", if our setting knows no such
# value: option, Daphne's text, the text or None that means the same here.
_DAPHNE_VALUES: dict[str, dict[str, str | None]] = {
    "REQUEST_TIMEOUT": {"0": None},
    "WEBSOCKET_TIMEOUT": {"-1": None},
    "WEBSOCKET_CONNECT_TIMEOUT": {"-1": _A_YEAR},
    "WEBSOCKET_PING_TIMEOUT": {"0": _A_YEAR},
    "WEBSOCKET_MESSAGE_SIZE_LIMIT": {"0": _NO_LIMIT},
    "WEBSOCKET_FRAME_SIZE_LIMIT": {"0": _NO_LIMIT},
}


class _AddressOption(Values):
    """One of Daphne's options that say where to listen; all of them become BIND."""

    name: str
    flags: tuple[str, ...]
    metavar: str
    help: str
    repeatable: bool = False


_ADDRESS_OPTIONS = (
    _AddressOption(
        "port",
        ("-p", "--port"),
        "PORT",
        f"Port for each --bind without one (default: {DEFAULT_PORT}).",
    ),
    _AddressOption(
        "unix_socket",
        ("-u", "--unix-socket"),
        "PATH",
        "Listen on this unix socket; the same as --bind unix:PATH.",
    ),
    _AddressOption(
        "fd",
        ("--fd",),
        "N",
        "Listen on this open file descriptor; the same as --bind fd://N.",
    ),
    _AddressOption(
        "endpoint",
        ("-e", "--endpoint"),
        "STRING",
        "Listen on this Twisted endpoint. May be given several times.",
        repeatable=True,
    ),
)


def add_arguments(
    parser: argparse.ArgumentParser, *, exclude: Collection[str] = ()
) -> None:
    """Add an option for every setting, grouped as the schema is.

    ``exclude`` names settings by key for commands that have another way to say them;
    without BIND, Daphne's address options are left out too. If the parser already
    has a setting's own flag (Django's ``--verbosity``), that option sets it; an alias
    that the parser already has keeps its meaning there.
    """
    for group in groups():
        settings = [each for each in group.settings if each.key not in exclude]
        section = parser.add_argument_group(group.title)
        for setting in settings:
            _add_setting(parser, section, setting)
            _add_companions(section, setting)


def mapping_from_namespace(
    namespace: argparse.Namespace | Mapping[str, Any],
) -> dict[str, Any]:
    """Return what the command line set, as keys of ``settings.DJSERVE``.

    Takes a parsed namespace or the options of a Django command, and leaves alone what
    it does not know. The values are for ``parser.parse`` or ``loader.load``.
    """
    given = namespace if isinstance(namespace, Mapping) else vars(namespace)
    mapping: dict[str, Any] = {
        setting.key: _translate(setting, given[setting.name])
        for setting in settings_by_key().values()
        if setting.key != "BIND" and _is_given(given, setting.name)
    }
    addresses = _read_addresses(given)
    if addresses:
        mapping["BIND"] = addresses
    return mapping


class _Untouched(int):
    """The default of another's option: seen as a number there, as not given here."""


class _Store(argparse.Action):
    """Keep the text with the flag that gave it, or a list of them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        flag = Flag(option_string or self.option_strings[-1], values)
        setattr(namespace, self.dest, flag)


class _Append(_Store):
    """Keep every text of a repeatable option."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, [])
        super().__call__(parser, namespace, values, option_string)
        flag = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*before, flag])


def _add_setting(
    parser: argparse.ArgumentParser,
    section: argparse._ArgumentGroup,
    setting: Setting,
) -> None:
    # argparse has no public way to ask which flags are taken.
    taken = parser._option_string_actions
    if setting.flag in taken:
        action = taken[setting.flag]
        if isinstance(action.default, int):
            action.default = _Untouched(action.default)
        return
    flags = [flag for flag in setting.flags if flag not in taken]
    if setting.kind is bool:
        _add_switch(section, setting, flags)
        return
    section.add_argument(
        *flags,
        dest=setting.name,
        action=_Append if setting.kind is tuple else _Store,
        default=argparse.SUPPRESS,
        metavar=describe_value(setting),
        help=_describe(setting),
    )


def _add_switch(
    section: argparse._ArgumentGroup, setting: Setting, flags: list[str]
) -> None:
    section.add_argument(
        *flags,
        dest=setting.name,
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help=_describe(setting),
    )


def _add_companions(section: argparse._ArgumentGroup, setting: Setting) -> None:
    """Add what Daphne has in addition to a setting's own flag."""
    if setting.key == "BIND":
        for option in _ADDRESS_OPTIONS:
            section.add_argument(
                *option.flags,
                dest=option.name,
                action=_Append if option.repeatable else _Store,
                default=argparse.SUPPRESS,
                metavar=option.metavar,
                help=option.help,
            )
    if setting.key == "SERVER_NAME":
        section.add_argument(
            "--no-server-name",
            dest=setting.name,
            action="store_const",
            const=Flag("--no-server-name", ""),
            default=argparse.SUPPRESS,
            help="Leave the Server header out.",
        )


def describe_value(setting: Setting) -> str:
    """Return the placeholder for the flag's value."""
    if setting.choices:
        return "{" + ",".join(setting.choices) + "}"
    noun = setting.metavar or ("SECONDS" if setting.kind is float else "N")
    return f"{noun}|{setting.none_word}" if setting.none_word else noun


def describe_default(setting: Setting) -> str:
    """Return the default in words that can be typed, "" if there is none."""
    if setting.default is None or setting.default in ((), ""):
        return ""
    if setting.kind is bool:
        return "on" if setting.default else "off"
    if setting.kind is tuple:
        return ", ".join(setting.default)
    if setting.kind is float:
        return f"{setting.default:g}"
    return str(setting.default)


def _describe(setting: Setting) -> str:
    default = describe_default(setting)
    text = f"{setting.help} (default: {default})" if default else setting.help
    # argparse formats help texts with "%".
    return text.replace("%", "%%")


def _is_given(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name)
    return value is not None and not isinstance(value, _Untouched)


def _translate(setting: Setting, value: Any) -> Any:
    """Return the value under its flag, Daphne's special ones in our terms."""
    if setting.kind is tuple:
        return [_as_flag(setting.flag, item) for item in _as_list(value)]
    flag = _as_flag(setting.flag, value)
    special = _DAPHNE_VALUES.get(setting.key, {})
    text = str(flag.value).strip()
    if setting.none_word and text.casefold() == setting.none_word:
        return Flag(flag.name, None)
    return Flag(flag.name, special[text]) if text in special else flag


def _as_flag(name: str, value: Any) -> Flag:
    """Name a value that a program gave (``call_command``) as a user's would be."""
    return value if isinstance(value, Flag) else Flag(name, value)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _read_addresses(given: Mapping[str, Any]) -> tuple[Flag, ...]:
    """Return every address asked for, by whichever option."""
    flags = {
        name: [
            _as_flag("--" + name.replace("_", "-"), item) for item in _as_list(value)
        ]
        for name in ("bind", *(option.name for option in _ADDRESS_OPTIONS))
        if (value := given.get(name)) is not None
    }
    return (
        *_join_port(flags.get("bind", []), flags.get("port", [])),
        *(_prefix("unix:", flag) for flag in flags.get("unix_socket", [])),
        *(_read_descriptor(flag) for flag in flags.get("fd", [])),
        *(_read_endpoint(flag) for flag in flags.get("endpoint", [])),
    )


def _join_port(hosts: list[Flag], ports: list[Flag]) -> list[Flag]:
    """Give the port to each host that lacks one, or to the default host."""
    if not ports:
        return [_with_port(host, DEFAULT_PORT) for host in hosts]
    (port,) = ports
    problem = _port_problem(port, hosts)
    if problem:
        return [*hosts, Flag(port.name, port.value, problem)]
    hosts = hosts or [Flag(port.name, DEFAULT_HOST)]
    return [_with_port(host, str(port.value).strip()) for host in hosts]


def _port_problem(port: Flag, hosts: list[Flag]) -> str:
    text = str(port.value).strip()
    if not (text.isascii() and text.isdigit() and int(text) <= LARGEST_PORT):
        return f"a port from 0 to {LARGEST_PORT}"
    if hosts and not any(is_host_only(str(host.value)) for host in hosts):
        return "a --bind without a port as well"
    return ""


def _with_port(host: Flag, port: str) -> Flag:
    text = host.value
    if not isinstance(text, str) or not text or not is_host_only(text):
        return host
    if ":" in text and not text.startswith("["):
        text = f"[{text}]"
    return Flag(host.name, f"{text}:{port}")


def _prefix(scheme: str, flag: Flag) -> Flag:
    return Flag(flag.name, f"{scheme}{flag.value}")


def _read_descriptor(flag: Flag) -> Flag:
    text = str(flag.value).strip()
    if not (text.isascii() and text.isdigit()):
        return Flag(flag.name, flag.value, "the number of a file descriptor")
    return Flag(flag.name, f"fd://{text}")


def _read_endpoint(flag: Flag) -> Flag:
    # Daphne registers "fd" as its own endpoint type; Twisted has none.
    text = str(flag.value)
    if text.startswith("fd:fileno="):
        text = "fd://" + text.removeprefix("fd:fileno=")
    return Flag(flag.name, text)
