"""A flat mapping of settings to a ``ServerConfig``, or to the list of all its faults.

Values come from ``settings.DJSERVE`` as Python objects, or from the command line as
``Flag`` objects that remember how the setting was named there. Nothing is guessed: a
wrong type is a fault, as is a key that does not exist.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from djserve.conf.catalogue import Setting, groups, settings_by_key
from djserve.conf.masking import HIDDEN, SECRET_KEYS, hide_password
from djserve.conf.processes import (
    EXAMPLE,
    ProcessConfig,
    read_processes,
    split_flag,
)
from djserve.conf.schema import ServerConfig
from djserve.conf.schema_https import certificate_path
from djserve.conf.suggestions import suggest
from djserve.conf.syntax import MOUNTS, RULES, has_unit, parse_duration, parse_size
from djserve.errors import ConfigError
from djserve.system import open_regular
from djserve.values import Values

_LONGEST_REPR = 60
_LAST_PORT = 65_535

_CERTIFICATE_FILES = ("certfile", "keyfile", "client_ca_file", "acme_ca_file")
_SEPARATORS = {**dict.fromkeys(MOUNTS, "="), "header": ": "}
"""What stands between key and value where a mapping is written as texts."""

_BESIDE_CERTIFICATE = (
    "keyfile",
    "sni_certfiles",
    "client_certificates",
    "redirect_http",
)


class Flag(Values):
    """A value given on the command line, under the flag that gave it.

    Text is converted to the setting's type. ``problem`` is set if the flag itself is
    already known to be wrong; it is reported with the others.
    """

    name: str
    value: Any
    problem: str = ""


class _Unfit(Exception):
    """A value is not what its setting takes; the message is what was expected."""


def parse(mapping: Mapping[str, Any], *, source: str = "DJSERVE") -> ServerConfig:
    """Check every setting and return the configuration.

    Raises ConfigError with one line for each fault. A line names the place, a flag or
    ``source`` with its key, then what was expected there and what was found.
    """
    reading = _Reading(source)
    for key, given in mapping.items():
        reading.take(key, given)
    reading.apply_rules()
    if reading.problems:
        raise ConfigError(reading.problems)
    return _build(reading.values)


def shorten(value: object) -> str:
    """Return the value's repr, cut to what fits on a line, without a URL's password."""
    text = hide_password(repr(value))
    if len(text) <= _LONGEST_REPR:
        return text
    return text[: _LONGEST_REPR - 3] + "..."


class _Reading:
    """One pass over a mapping: the values that are right, a line for each other."""

    def __init__(self, source: str) -> None:
        self.values: dict[str, Any] = {}
        self.problems: list[str] = []
        self._source = source
        self._settings = settings_by_key()
        self._places: dict[str, str] = {}
        self._failed: set[str] = set()

    def take(self, key: object, given: Any) -> None:
        """Read one setting; a fault in it is kept, and the pass continues."""
        place = f"{self._source}[{shorten(key)}]"
        setting = self._settings.get(key) if isinstance(key, str) else None
        if setting is None:
            self.problems.append(f"{place}: unknown setting{self._suggestion(key)}")
            return
        if isinstance(given, Flag):
            place = given.name
        # A list of a flag's or a variable's is one of them for each item.
        is_of_flags = isinstance(given, list) and given and isinstance(given[0], Flag)
        self._places[setting.name] = given[0].name if is_of_flags else place
        before = len(self.problems)
        value = self._read(setting, place, given)
        if len(self.problems) > before:
            self._failed.add(setting.name)
        else:
            self.values[setting.name] = value

    def apply_rules(self) -> None:
        """Apply the rules between settings, if those were right by themselves."""
        for names, rule in _RULES_BETWEEN:
            if self._failed.isdisjoint(names):
                self.problems += rule(self.values, self._places)

    def _read(self, setting: Setting, place: str, given: Any) -> Any:
        if setting.syntax == "processes":
            return self._read_processes(place, given)
        if setting.kind is tuple:
            return self._read_items(setting, place, given)
        return self._read_one(setting, place, given, _READERS[setting.kind])

    def _read_items(self, setting: Setting, place: str, given: Any) -> tuple[str, ...]:
        items = given.value if isinstance(given, Flag) else given
        keys: Iterable[object] = count()
        separator = _SEPARATORS.get(setting.syntax)
        if separator is not None and isinstance(items, Mapping):
            keys = items
            items = [f"{key}{separator}{value}" for key, value in items.items()]
        if not isinstance(items, list | tuple):
            self._report(place, "a list of strings", given)
            return ()
        if not items and setting.default:
            self._report(place, "at least one item", given)
        return tuple(
            self._read_one(setting, f"{place}[{shorten(key)}]", item, _read_str)
            for key, item in zip(keys, items, strict=False)
        )

    def _read_processes(self, place: str, given: Any) -> tuple[ProcessConfig, ...]:
        entries: Any = given
        if isinstance(given, list | tuple) and not given:
            # The default, written out.
            return ()
        if isinstance(given, list | tuple) and isinstance(given[0], Flag):
            place = given[0].name
            entries = dict(self._split_flags(given))
        if not isinstance(entries, Mapping):
            self._report(place, f"a dictionary as in {EXAMPLE}", given)
            return ()
        found, faults = read_processes(place, entries)
        for fault in faults:
            self._report(*fault)
        return found

    def _split_flags(self, flags: Sequence[Flag]) -> Iterator[tuple[str, Any]]:
        for flag in flags:
            try:
                yield split_flag(str(flag.value))
            except ValueError as error:
                self._report(flag.name, f"NAME=COMMAND ({error})", flag)

    def _read_one(self, setting: Setting, place: str, given: Any, read: _Reader) -> Any:
        try:
            if isinstance(given, Flag):
                place = given.name
                if given.problem:
                    raise _Unfit(given.problem)
                return _read_flag(setting, given.value, read)
            return read(setting, given)
        except _Unfit as unfit:
            is_secret = setting.key in SECRET_KEYS
            self._report(place, str(unfit), HIDDEN if is_secret else given)
            return None

    def _report(self, place: str, expected: str, given: Any) -> None:
        value = given.value if isinstance(given, Flag) else given
        self.problems.append(f"{place}: expected {expected}, got {shorten(value)}")

    def _suggestion(self, key: object) -> str:
        return suggest([str(key).upper()], self._settings)


_Reader = Callable[[Setting, Any], Any]


def _read_flag(setting: Setting, value: Any, read: _Reader) -> Any:
    """Read a value of the command line, where numbers arrive as text."""
    if not isinstance(value, str):
        return read(setting, value)
    # None cannot be typed, so it must not be offered.
    setting = dataclasses.replace(setting, optional=False)
    if setting.kind in (int, float):
        value = _parse_number(setting, value)
    return read(setting, value)


def _parse_number(setting: Setting, text: str) -> float:
    try:
        if setting.unit == "bytes":
            return parse_size(text)
        return int(text) if setting.kind is int else parse_duration(text)
    except ValueError:
        raise _Unfit(_expected_number(setting)) from None


def _read_bool(setting: Setting, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Unfit("True or False")
    return value


def _read_number(setting: Setting, value: Any) -> float | None:
    if value is None and setting.optional:
        return None
    if setting.none_word and value == setting.none_word:
        return None
    if isinstance(value, str) and _takes_unit(setting) and has_unit(value):
        value = _parse_number(setting, value)
    # bool is an int to Python, but 1 second is not what True was meant to say.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unfit(_expected_number(setting))
    if setting.kind is int and not isinstance(value, int):
        raise _Unfit(_expected_number(setting))
    # The comparison refuses nan too; an int may be larger than any float.
    least = -sys.float_info.max if setting.minimum is None else setting.minimum
    most = sys.float_info.max if setting.maximum is None else setting.maximum
    if not least <= value <= most:
        raise _Unfit(_expected_number(setting))
    return setting.kind(value)  # type: ignore[no-any-return]


def _takes_unit(setting: Setting) -> bool:
    return setting.kind is float or setting.unit == "bytes"


def _expected_number(setting: Setting) -> str:
    noun = "a whole number" if setting.kind is int else "seconds as a number"
    if setting.unit == "bytes":
        noun = "bytes as a whole number"
    bounds = "" if setting.minimum is None else f" from {setting.minimum:g} up"
    if setting.maximum is not None:
        bounds = f" from {setting.minimum or 0:g} to {setting.maximum:.15g}"
    example = "64KiB" if setting.unit else "30s"
    unit = f', or a text such as "{example}"' if _takes_unit(setting) else ""
    return f"{noun}{bounds}{unit}{_or_none(setting)}"


def _read_str(setting: Setting, value: Any) -> str | None:
    if value is None and setting.optional:
        return None
    # BASE_DIR / "cert.pem" is how Django's settings name files.
    if setting.syntax.endswith("file") and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise _Unfit(_expected_text(setting))
    if setting.choices and value not in setting.choices:
        raise _Unfit(_expected_text(setting))
    if setting.syntax:
        _check_syntax(setting, value)
    return value


def _check_syntax(setting: Setting, text: str) -> None:
    try:
        RULES[setting.syntax].check(text)
    except ValueError as error:
        reason = f" ({error})" if str(error) else ""
        raise _Unfit(_expected_text(setting) + reason) from error


def _expected_text(setting: Setting) -> str:
    if setting.choices:
        return "one of " + ", ".join(map(repr, setting.choices))
    if setting.syntax:
        return RULES[setting.syntax].expected + _or_none(setting)
    return "a string" + _or_none(setting)


def _or_none(setting: Setting) -> str:
    if setting.optional:
        return " or None"
    return f" or {setting.none_word}" if setting.none_word else ""


_READERS: dict[type, _Reader] = {
    bool: _read_bool,
    int: _read_number,
    float: _read_number,
    str: _read_str,
}


def _check_certificate_files(
    values: Mapping[str, Any], places: Mapping[str, str]
) -> Iterator[str]:
    paths = [(name, values.get(name)) for name in _CERTIFICATE_FILES]
    paths += [("sni_certfiles", path) for path in values.get("sni_certfiles", ())]
    for name, path in paths:
        if path is None:
            continue
        try:
            os.close(open_regular(path))
        except OSError as error:
            reason = error.strerror or str(error)
            yield (
                f"{places[name]}: expected a readable file ({reason}), "
                f"got {shorten(path)}"
            )


def _check_certificate_is_given(
    values: Mapping[str, Any], places: Mapping[str, str]
) -> Iterator[str]:
    if values.get("certfile") is not None:
        return
    if values.get("acme_domains"):
        if values.get("keyfile") is not None:
            yield f"{places['keyfile']}: expected no key together with ACME_DOMAINS"
        return
    for name in _BESIDE_CERTIFICATE:
        if values.get(name, "none") not in (None, (), "none"):
            yield f"{places[name]}: expected a certificate as well, got none"


def _check_client_certificates(
    values: Mapping[str, Any], places: Mapping[str, str]
) -> Iterator[str]:
    # Either one alone looks like protection and is none: without authorities every
    # client is turned away, without the question none is asked.
    asks = values.get("client_certificates", "none") != "none"
    has_authorities = values.get("client_ca_file") is not None
    if asks and not has_authorities:
        yield (
            f"{places['client_certificates']}: expected a file with authorities "
            "as well (CLIENT_CA_FILE), got none"
        )
    if has_authorities and not asks:
        yield (
            f"{places['client_ca_file']}: expected CLIENT_CERTIFICATES to be "
            "'optional' or 'required' as well, got 'none'"
        )


def _check_http3(values: Mapping[str, Any], places: Mapping[str, str]) -> Iterator[str]:
    if not values.get("http3"):
        return
    if values.get("certfile") is None and not values.get("acme_domains"):
        yield f"{places['http3']}: expected a certificate as well, got none"
    if values.get("client_certificates", "none") != "none":
        # A client that is not asked there would get around the question.
        yield (
            f"{places['http3']}: expected CLIENT_CERTIFICATES to be 'none' beside it, "
            "since HTTP/3 asks clients for none"
        )
    if values.get("proxy_protocol"):
        # Clients would seem to come from the proxy, and headers of theirs be believed.
        yield (
            f"{places['http3']}: expected PROXY_PROTOCOL to be off beside it, since "
            "QUIC has no such header"
        )
    if all(address.startswith("unix:") for address in values.get("bind", ("",))):
        yield (
            f"{places['http3']}: expected an address with a port in BIND as well, got "
            "unix sockets alone"
        )


def _check_proxy_flags(
    values: Mapping[str, Any], places: Mapping[str, str]
) -> Iterator[str]:
    # Daphne refuses these flags by themselves. In settings they may stay in place while
    # PROXY_HEADERS is switched by the environment.
    if values.get("proxy_headers"):
        return
    for name in ("proxy_headers_host", "proxy_headers_port"):
        place = places.get(name, "")
        if place.startswith("-"):
            yield f"{place}: expected --proxy-headers as well, got none"


def _check_redirect_port(
    values: Mapping[str, Any], places: Mapping[str, str]
) -> Iterator[str]:
    port = values.get("redirect_port")
    if port is not None and port > _LAST_PORT:
        yield f"{places['redirect_port']}: expected a port up to 65535, got {port}"


def _check_acme(values: Mapping[str, Any], places: Mapping[str, str]) -> Iterator[str]:
    if not values.get("acme_domains"):
        return
    place = places["acme_domains"]
    if values.get("certfile") is not None:
        yield f"{place}: expected no CERTFILE with it, which takes its place"
    needed = {
        "ACME_FOLDER": "a folder for the certificate as well (ACME_FOLDER)",
        "ACME_AGREE_TO_TERMS": "your consent to the authority's terms as well "
        "(ACME_AGREE_TO_TERMS)",
    }
    if values.get("acme_challenge", "http-01") == "http-01":
        needed["REDIRECT_HTTP"] = (
            "ACME_CHALLENGE to be 'tls-alpn-01', or an address for the challenges "
            "as well (REDIRECT_HTTP)"
        )
    for key, expected in needed.items():
        if not values.get(key.lower()):
            yield f"{place}: expected {expected}, got none"
    if values.get("certificate_check_interval", 1) == 0:
        yield (
            f"{places['certificate_check_interval']}: expected more than 0 with "
            "ACME_DOMAINS, or no new certificate would be used"
        )


_RULES_BETWEEN = (
    (
        (
            "acme_agree_to_terms",
            "acme_challenge",
            "acme_domains",
            "acme_folder",
            "certfile",
            "certificate_check_interval",
            "redirect_http",
        ),
        _check_acme,
    ),
    (("redirect_port",), _check_redirect_port),
    (("certfile", "acme_domains", *_BESIDE_CERTIFICATE), _check_certificate_is_given),
    (("client_certificates", "client_ca_file"), _check_client_certificates),
    (
        (
            "http3",
            "acme_domains",
            "bind",
            "certfile",
            "client_certificates",
            "proxy_protocol",
        ),
        _check_http3,
    ),
    ((*_CERTIFICATE_FILES, "sni_certfiles"), _check_certificate_files),
    (
        ("proxy_headers", "proxy_headers_host", "proxy_headers_port"),
        _check_proxy_flags,
    ),
)


def _build(values: Mapping[str, Any]) -> ServerConfig:
    made: dict[str, Any] = {}
    for group in groups():
        given = {
            setting.name: values[setting.name]
            for setting in group.settings
            if setting.name in values
        }
        made[group.name] = group.make(**given)
    if made["acme"].acme_domains:
        # All that serves knows one certificate, wherever it comes from.
        path = certificate_path(made["acme"])
        made["tls"] = dataclasses.replace(made["tls"], certfile=path)
    return ServerConfig(**made)
