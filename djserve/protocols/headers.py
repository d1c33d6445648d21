"""Field names and values (RFC 9110 section 5): what may be written on any protocol.

A response's fields come from the application, so nothing in them is trusted: a name
outside ``token`` or a value with a control byte never reaches the wire.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

from djserve.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Iterable

# RFC 9110 section 4.2.1, RFC 3986 section 3.2: reg-name, IPv4 or [IPv6], and a port.
_is_authority = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+,;=]*)(?::[0-9]{0,5})?"
).fullmatch

# RFC 9110 section 5.5: visible characters, blanks and obs-text have none.
_find_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search

# RFC 9110 section 5.6.2.
_is_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


# Of requests: lists and parameters (RFC 9110 section 5.6), a cookie's pairs.
_LISTS = frozenset(
    {
        b"accept",
        b"accept-charset",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-type",
        b"cookie",
        b"forwarded",
        b"if-match",
        b"if-none-match",
        b"prefer",
        b"range",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
    }
)

LEAST_MEMBERS_LIMIT = 1000
"""How many members of its lists any request may have."""

_MEMBERS_PER_FIELD = 5


class Field(IntEnum):
    """The response fields that decide about framing or are filled in by the server."""

    OTHER = 0
    CONTENT_LENGTH = 1
    TRANSFER_ENCODING = 2
    CONNECTION = 3
    KEEP_ALIVE = 4
    DATE = 5
    SERVER = 6
    UPGRADE = 7
    """Sent on over HTTP/1.1, left out over HTTP/2."""


_FIELDS = {
    b"content-length": Field.CONTENT_LENGTH,
    b"transfer-encoding": Field.TRANSFER_ENCODING,
    b"connection": Field.CONNECTION,
    b"keep-alive": Field.KEEP_ALIVE,
    b"proxy-connection": Field.KEEP_ALIVE,
    b"date": Field.DATE,
    b"server": Field.SERVER,
    b"upgrade": Field.UPGRADE,
    # RFC 9113 section 8.2.2: in requests only; clients reset a stream that has it.
    b"te": Field.UPGRADE,
}

Line: TypeAlias = tuple[bytes, Field]
"""A field line as it is written, with its CRLF, and which field it is."""

# An application may make names and values up: both stores are bounded.
_STORE_LIMIT = 2048
_names: dict[bytes, tuple[bytes, Field, bool]] = {}
_lines: dict[tuple[bytes, bytes], Line] = {}

STATUSES_WITHOUT_CONTENT = (204, 205, 304)
"""RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5."""

REPEATING_FIELDS = frozenset(
    {
        b"access-control-allow-origin",
        b"cache-control",
        b"content-encoding",
        b"content-language",
        b"content-security-policy",
        b"content-type",
        b"cross-origin-opener-policy",
        b"referrer-policy",
        b"strict-transport-security",
        b"vary",
        b"x-content-type-options",
        b"x-frame-options",
    }
)
"""Fields with few values each, so that what is made of them is worth keeping."""

REPEATING_SIZE_LIMIT = 256
"""Bytes of a value that is still worth keeping."""

# Of lengths, the short ones are kept as well.
_REPEATING_LENGTH_DIGITS = 3

get_known_line = _lines.get
"""Return the ``Line`` of a pair met before, else None; for tuples only."""


def encode_line(pair: Iterable[bytes]) -> Line:
    """Encode and check one of the application's fields.

    Raises ApplicationError for a name that is not a token and for a value that is not
    bytes or has a control byte.
    """
    try:
        name, value = pair
    except (TypeError, ValueError):
        raise malformed_pair(pair) from None
    prefix, field, repeats = lookup_name(name)
    if type(value) is not bytes:
        value = check_value(name, value)
    # Half the time of a search for the bytes; what fails here is searched.
    if not (value.isascii() and value.decode("ascii").isprintable()):
        check_value(name, value)
    line = (prefix + value + b"\r\n", field)
    size_limit = _REPEATING_LENGTH_DIGITS if field else REPEATING_SIZE_LIMIT
    if repeats and len(value) <= size_limit and len(_lines) < _STORE_LIMIT:
        # Most of a response's lines are those of the last one (benchmark: http1_hello).
        _lines[name, value] = line
    return line


def encode_fields(headers: Iterable[Iterable[bytes]]) -> bytes:
    """Encode fields as they are. Raises ApplicationError as ``encode_line`` does."""
    return b"".join([encode_line(pair)[0] for pair in headers])


def lookup_name(name: bytes) -> tuple[bytes, Field, bool]:
    """Return ``name: `` as it is written, which field it is, and if its values repeat.

    Raises ApplicationError for what is not a token.
    """
    try:
        known = _names.get(name)
        is_valid = known is not None or _is_token(name) is not None
    except TypeError:
        known, is_valid = None, False
    if known is None:
        if not is_valid:
            raise ApplicationError(
                f"Response header name must be a token in bytes, got {name!r:.100}"
            )
        name = bytes(name)
        lowered = name.lower()
        field = _FIELDS.get(lowered, Field.OTHER)
        repeats = field is Field.CONTENT_LENGTH or lowered in REPEATING_FIELDS
        known = (name + b": ", field, repeats)
        if len(_names) < _STORE_LIMIT:
            _names[name] = known
    return known


def split_pair(pair: Iterable[bytes]) -> tuple[bytes, bytes, Field]:
    """Check one of the application's fields: its name, its value and which it is.

    Raises ApplicationError as ``encode_line`` does.
    """
    try:
        name, value = pair
    except (TypeError, ValueError):
        raise malformed_pair(pair) from None
    field = lookup_name(name)[1]
    return bytes(name), check_value(name, value), field


def malformed_pair(pair: object) -> ApplicationError:
    """Return the fault of a field that is not a name and a value."""
    return ApplicationError(
        f"Response headers must be pairs of bytes, got {pair!r:.100}"
    )


def check_status(status: int) -> int:
    """Return a response's status. Raises ApplicationError if it is none."""
    if type(status) is not int or not 100 <= status <= 999:
        raise ApplicationError(f"Status must be an int from 200 to 999, got {status!r}")
    return status


def parse_length(value: bytes, seen: int) -> int:
    """Return the application's Content-Length; ``seen`` is an earlier one's, or -1.

    Raises ApplicationError for a second one, and for any but plain digits.
    """
    if not value.isdigit() or seen >= 0:
        raise ApplicationError(
            f"Content-Length must be given once, in digits, got {value!r:.100}"
        )
    return int(value)


def check_value(name: bytes, value: object) -> bytes:
    """Return ``value`` as bytes.

    Raises ApplicationError if it is not bytes or has a control byte. RFC 9110
    section 5.5 lets a recipient keep those other than CR, LF and NUL; a sender must not
    generate them, and HTTP/2's clients fail the stream.
    """
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ApplicationError(
            f"Value of response header {name!r:.100} must be bytes, got {value!r:.100}"
        )
    data = bytes(value)
    if has_control(data):
        raise ApplicationError(
            f"Value of response header {name!r:.100} has a control byte: {data!r:.100}"
        )
    return data


def is_authority(value: bytes) -> bool:
    """Return whether ``value`` is a host, perhaps with a port (RFC 9110 7.2)."""
    return _is_authority(value) is not None


def is_token(value: bytes) -> bool:
    """Return whether ``value`` is a token (RFC 9110 section 5.6.2)."""
    return _is_token(value) is not None


def has_control(value: bytes) -> bool:
    """Return whether a field value has a control byte other than a tab."""
    return _find_control(value) is not None


def split_list(value: bytes) -> list[bytes]:
    """Split a comma-separated list into its lower-cased elements (RFC 9110 5.6.1)."""
    return [item for part in value.lower().split(b",") if (item := part.strip(b" \t"))]


def members_limit(header_count_limit: int) -> int:
    """Return how many members a request's lists may have, all together."""
    return max(LEAST_MEMBERS_LIMIT, _MEMBERS_PER_FIELD * header_count_limit)


def count_members(fields: Iterable[tuple[bytes, bytes]]) -> int:
    """Return how many members the lists of a request have, empty ones too.

    Each costs whatever reads the list a step, in Django too, and a head of 64 KiB has
    room for 30,000 (RFC 9110 section 5.6.1.2 warns of the empty ones).
    """
    return sum(
        value.count(b",") + value.count(b";")
        for name, value in fields
        if name in _LISTS
    )
