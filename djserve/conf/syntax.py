"""What the text of a setting must look like, by the rule's name in the schema.

Durations and sizes may have units: ``30s``, ``5m``, ``64KiB``.

A rule knows nothing but the text: ``net`` finds out whether an address can be bound.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from collections.abc import Callable

from djserve.conf.access_format import NAMED_FORMATS, read_format
from djserve.conf.processes import check_flag
from djserve.postponed import pattern
from djserve.values import Values

# RFC 9110 5.6.2: the characters of a token.
_TOKEN = pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# RFC 6454 7: scheme, host, port. The first label may stand for any, as in Django's
# CSRF_TRUSTED_ORIGINS, and one slash may end it.
_DOMAIN = pattern(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    r"(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*",
    re.IGNORECASE,
)
_HTTPS_URL = pattern(r"https://[!-~]+")
_ORIGIN = pattern(
    r"[a-z][a-z0-9+.-]*://(\*\.)?([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?/?",
    re.IGNORECASE,
)

_QUANTITY = pattern(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]+)")

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
"""Seconds of each unit of time."""

BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
"""Bytes of each unit of size, in small letters: K, M and G as in nginx."""

# The origin of a page that has none: a sandboxed frame, a data: URL (RFC 6454 section
# 7.3), and of one read from a file, which some native clients write as well. They are
# anyone's, so only a setting that names them lets them in.
OPAQUE_ORIGINS = ("null", "file://")

# Other servers' words for no log, or for a stream. Taken for a path, each would make a
# file of that name in the working directory, and the log would be thought to be off.
NO_FILE_NAMES = (
    *("none", "null", "off", "no", "false", "0"),
    *("on", "yes", "true", "1", "stdout", "stderr"),
)

_HOST_AND_PORT = pattern(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]*):(?P<port>[0-9]+)")

# A Twisted endpoint string begins with its type; at least two letters keep a host's
# forgotten port ("a:") apart from it.
_ENDPOINT = pattern(r"[A-Za-z][A-Za-z0-9_]+:.+", re.DOTALL)

LARGEST_PORT = 65535

# RFC 9110 section 7.6.1, RFC 9112 section 6: what frames a message or a connection.
_SERVERS_OWN = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

MOUNTS = ("mount", "internal-mount")
"""Rules of texts that a mapping of prefixes to folders may be given for."""


class Rule(Values):
    """``expected`` completes "expected ...".

    ``check`` raises ValueError for a text that breaks the rule; the exception's own
    words are added if they say more.
    """

    expected: str
    check: Callable[[str], None]


def has_unit(text: str) -> bool:
    """Return whether a text is a number with letters after it."""
    return _QUANTITY.fullmatch(text.strip()) is not None


def parse_duration(text: str) -> float:
    """Return a duration in seconds. Raises ValueError for any other text."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return float(text)
    unit = SECONDS.get(match[2])
    if unit is None:
        raise ValueError(match[2])
    return float(match[1]) * unit


def parse_size(text: str) -> int:
    """Return a size in bytes. Raises ValueError for any other text."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return int(text)
    unit = BYTES.get(match[2].lower())
    if unit is None:
        raise ValueError(match[2])
    size = float(match[1]) * unit
    if not size.is_integer():
        raise ValueError(text)
    return int(size)


def is_host_only(text: str) -> bool:
    """Return whether an address lacks its port: ``::1``, ``[::1]``, ``localhost``."""
    if text.startswith("[") and text.endswith("]"):
        return True
    return ":" not in text or is_ipv6_address(text)


def is_ipv6_address(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _check_address(text: str) -> None:
    if not text.isprintable() or text != text.strip():
        raise ValueError("it has blanks or control characters")
    for prefix, check in _PREFIXES.items():
        if text.startswith(prefix):
            check(text.removeprefix(prefix))
            return
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        _check_endpoint(text)
    elif int(match["port"]) > LARGEST_PORT:
        raise ValueError(f"a port is at most {LARGEST_PORT}")


def _check_endpoint(text: str) -> None:
    if is_host_only(text):
        raise ValueError("the port is missing")
    if not _ENDPOINT.fullmatch(text):
        raise ValueError


def _check_datagram_address(text: str) -> None:
    if text.startswith("unix:"):
        _check_unix_path(text.removeprefix("unix:"))
        return
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or not match["host"] or not text.isprintable() or " " in text:
        raise ValueError("the port is missing" if text and is_host_only(text) else "")
    if not 0 < int(match["port"]) <= LARGEST_PORT:
        raise ValueError(f"a port is at most {LARGEST_PORT}, and at least 1")


def _check_statsd_name(text: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_.-]*", text):
        raise ValueError


def _check_statsd_tag(text: str) -> None:
    if not text or not text.isprintable() or re.search(r"[,|#\s]", text):
        raise ValueError


def _check_unix_path(path: str) -> None:
    if not path:
        raise ValueError("the path is missing")


def _check_descriptor(number: str) -> None:
    if not (number.isascii() and number.isdigit()):
        raise ValueError("a descriptor is a number")


_PREFIXES = {"unix:": _check_unix_path, "fd://": _check_descriptor}


def _check_network(text: str) -> None:
    if text not in ("unix", "private", "*"):
        ipaddress.ip_network(text)


def _check_origin(text: str) -> None:
    if text not in ("*", *OPAQUE_ORIGINS) and not _ORIGIN.fullmatch(text):
        raise ValueError


def _check_domain(text: str) -> None:
    if not _DOMAIN.fullmatch(text) or text.rpartition(".")[2].isdigit():
        raise ValueError("no wildcard and no address" if text else "")


def _check_https_url(text: str) -> None:
    if not _HTTPS_URL.fullmatch(text):
        raise ValueError
    from urllib.parse import urlsplit

    # Raises ValueError for a host or port that is none.
    parts = urlsplit(text)
    if not parts.hostname or parts.port == 0:
        raise ValueError("the host is missing" if not parts.hostname else "")


def _check_root_path(text: str) -> None:
    if text and not text.startswith("/"):
        raise ValueError


def _check_field_name(text: str) -> None:
    if not _TOKEN.fullmatch(text):
        raise ValueError


def _check_field_value(text: str) -> None:
    # RFC 9110 5.5: a line break in a value would begin another field.
    if not text.isascii() or (text and not text.isprintable()):
        raise ValueError


def split_header(text: str) -> tuple[str, str]:
    """Return name and value of a field given as ``Name: value``."""
    name, _, value = text.partition(":")
    return name, value.strip(" \t")


def _check_header(text: str) -> None:
    name, value = split_header(text)
    _check_field_name(name)
    _check_field_value(value)
    if ":" not in text:
        raise ValueError("the colon is missing")
    if name.lower() in _SERVERS_OWN:
        raise ValueError(f"{name} is decided for each message")


def _check_file(text: str) -> None:
    if not text or "\0" in text:
        raise ValueError


def _check_mount(text: str) -> None:
    prefix, separator, folder = text.partition("=")
    if not (separator and prefix.startswith("/") and prefix.endswith("/")):
        raise ValueError
    if not os.path.isdir(folder):
        raise ValueError(f"{folder!r} is not a folder")


def _check_internal_mount(text: str) -> None:
    if text.startswith("/="):
        raise ValueError('below "/" is all of the site')
    _check_mount(text)


def _check_content_coding(text: str) -> None:
    if text not in ("zstd", "br", "gzip"):
        raise ValueError


def _check_media_type(text: str) -> None:
    kind, _, subtype = text.partition("/")
    if not (_TOKEN.fullmatch(kind) and _TOKEN.fullmatch(subtype)):
        raise ValueError


def _check_new_file(text: str) -> None:
    _check_file(text)
    if text.strip().casefold() in NO_FILE_NAMES:
        raise ValueError(f'"./{text.strip()}" is a file of that name')


def _check_file_mode(text: str) -> None:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError


def _check_log_format(text: str) -> None:
    formatter = logging.Formatter(text)
    # A field that no record has would fail at each line, each time with a traceback.
    record = logging.LogRecord("djserve", logging.INFO, "", 0, "", (), None)
    record.request_id = "-"  # as djserve's filter sets it
    try:
        formatter.format(record)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _check_access_log_format(text: str) -> None:
    if text not in NAMED_FORMATS:
        read_format(text)


def _check_path_or_prefix(text: str) -> None:
    if not text.startswith("/") or not text.isprintable():
        raise ValueError
    if "*" in text[:-1]:
        raise ValueError("an asterisk stands for the rest of a path, at its end")
    if "?" in text:
        raise ValueError("a query is not looked at")


RULES = {
    "address": Rule(
        "host:port, [ipv6]:port, unix:/path, fd://N or a Twisted endpoint string",
        _check_address,
    ),
    "datagram-address": Rule(
        "host:port, [ipv6]:port or unix:/path", _check_datagram_address
    ),
    "statsd-name": Rule("letters, digits, dots, - and _", _check_statsd_name),
    "statsd-tag": Rule("a tag as in env:production", _check_statsd_tag),
    "network": Rule('an IP network, "private", "unix" or "*"', _check_network),
    "origin": Rule(
        'an origin as in "https://example.com", "null", "file://" or "*"',
        _check_origin,
    ),
    "root-path": Rule('a path that begins with "/", or ""', _check_root_path),
    "field-name": Rule("the name of a header", _check_field_name),
    "field-value": Rule("printable ASCII text", _check_field_value),
    "domain": Rule('a host\'s name as in "www.example.com"', _check_domain),
    "https-url": Rule('a URL as in "https://example.com/directory"', _check_https_url),
    "header": Rule("a field as in 'X-Frame-Options: DENY'", _check_header),
    "file": Rule("a file's path", _check_file),
    "mount": Rule('a prefix and a folder as in "/media/=/srv/media"', _check_mount),
    "internal-mount": Rule(
        'a prefix and a folder as in "/private/=/srv/private"', _check_internal_mount
    ),
    "processes": Rule("NAME=COMMAND", check_flag),
    "content-coding": Rule('"zstd", "br" or "gzip"', _check_content_coding),
    "media-type": Rule('a media type as in "text/*"', _check_media_type),
    "new-file": Rule("a file's path", _check_new_file),
    "log-file": Rule('a file\'s path or "-" for standard output', _check_new_file),
    "file-mode": Rule('an octal mode as in "660"', _check_file_mode),
    "access-log-format": Rule(
        "common, combined, json or a format as in '%h {view}'", _check_access_log_format
    ),
    "path-or-prefix": Rule(
        'a path as in "/healthz", or "/static/*"', _check_path_or_prefix
    ),
    "log-format": Rule("a format for logging.Formatter", _check_log_format),
}
