"""Field names and values (RFC 9110 section 5): what may be written on any protocol.

A response's fields come from the application, so nothing in them is trusted: a name
outside ``token`` or a value with CR, LF or NUL never reaches the wire.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import TYPE_CHECKING

from djserve.errors import ApplicationError

if TYPE_CHECKING:
    from djserve.interfaces import Headers

# RFC 9110 section 5.6.2.
_is_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch

# RFC 9110 section 5.5: these three are dangerous in a value.
_FORBIDDEN = (b"\r", b"\n", b"\0")


class Field(IntEnum):
    """The response fields that decide about framing or are filled in by the server."""

    OTHER = 0
    CONTENT_LENGTH = 1
    TRANSFER_ENCODING = 2
    CONNECTION = 3
    KEEP_ALIVE = 4
    DATE = 5
    SERVER = 6


_FIELDS = {
    b"content-length": Field.CONTENT_LENGTH,
    b"transfer-encoding": Field.TRANSFER_ENCODING,
    b"connection": Field.CONNECTION,
    b"keep-alive": Field.KEEP_ALIVE,
    b"proxy-connection": Field.KEEP_ALIVE,
    b"date": Field.DATE,
    b"server": Field.SERVER,
}

_KNOWN_NAMES_LIMIT = 1024
_known_names: dict[bytes, tuple[bytes, Field]] = {}


def lookup_name(name: bytes) -> tuple[bytes, Field]:
    """Return ``name: `` as it is written, and which field it is.

    Checked names are remembered (benchmark: http1_hello), up to a bound, since an
    application may make names up. Raises ApplicationError for what is not a token.
    """
    try:
        known = _known_names.get(name)
        is_valid = known is not None or _is_token(name) is not None
    except TypeError:
        known, is_valid = None, False
    if known is None:
        if not is_valid:
            raise ApplicationError(
                f"Response header name must be a token in bytes, got {name!r:.100}"
            )
        known = (name + b": ", _FIELDS.get(name.lower(), Field.OTHER))
        if len(_known_names) < _KNOWN_NAMES_LIMIT:
            _known_names[name] = known
    return known


def check_value(name: bytes, value: object) -> None:
    """Raise ApplicationError for a value that is not bytes or would break the head."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ApplicationError(
            f"Value of response header {name!r:.100} must be bytes, got {value!r:.100}"
        )
    if any(byte in bytes(value) for byte in _FORBIDDEN):
        raise ApplicationError(
            f"Value of response header {name!r:.100} has CR, LF or NUL: "
            f"{bytes(value)!r:.100}"
        )


def join_fields(parts: list[bytes], count: int, fields: Headers) -> bytes:
    """Join the pieces of ``count`` written lines and check them in one pass.

    ``fields`` are the application's pairs, to name the culprit where the check fails.
    """
    try:
        block = b"".join(parts)
    except TypeError:
        block = b""
    if block.count(b"\r") == block.count(b"\n") == count and b"\0" not in block:
        return block
    for name, value in fields:
        check_value(name, value)
    raise ApplicationError("Response headers are not pairs of bytes")


def is_token(value: bytes) -> bool:
    """Tell whether ``value`` is a token (RFC 9110 section 5.6.2)."""
    return _is_token(value) is not None


def split_list(value: bytes) -> list[bytes]:
    """Split a comma-separated list into its lower-cased elements (RFC 9110 5.6.1)."""
    return [item for part in value.lower().split(b",") if (item := part.strip(b" \t"))]
