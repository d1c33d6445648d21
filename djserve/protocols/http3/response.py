"""A response's fields from the application -> what QPACK takes (RFC 9114 section 4.2).

No field goes through a dynamic table: blocks then wait for nothing, and their size
says nothing of other responses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.errors import ApplicationError
from djserve.protocols.headers import (
    Field,
    check_status,
    parse_length,
    split_list,
    split_pair,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djserve.interfaces import Headers

# RFC 9110 sections 8.6 and 15.3.6: neither has content, nor a length of it.
_STATUSES_WITHOUT_LENGTH = (204, 205)


class ServerFields:
    """Date and Server, which the server adds to every response.

    The owner of the clock calls ``set_date`` about once a second.
    """

    __slots__ = ("date", "server")

    def __init__(self, server_name: str) -> None:
        self.server = server_name.encode("latin-1")
        self.date = b""

    def set_date(self, value: bytes) -> None:
        """Take the current IMF-fixdate (RFC 9110 section 5.6.7)."""
        self.date = value


def build_fields(
    status: int, headers: Headers, whole_length: int | None, server: ServerFields
) -> tuple[Headers, int]:
    """Check a final response's fields; return them and the Content-Length, or -1.

    ``whole_length`` is the content's length if all of it is at hand. Raises
    ApplicationError for what cannot be sent.
    """
    fields, seen = _start(status, headers)
    length = int(seen.get(Field.CONTENT_LENGTH, -1))
    if Field.DATE not in seen and server.date:
        fields.append((b"date", server.date))
    if Field.SERVER not in seen and server.server:
        fields.append((b"server", server.server))
    if length < 0 and whole_length is not None and status >= 200:
        fields.append((b"content-length", b"%d" % whole_length))
    return fields, length


def build_interim(status: int, headers: Headers) -> Headers:
    """Check the fields of an interim response, which has no others."""
    return _start(status, headers)[0]


def build_trailers(headers: Headers) -> Headers:
    """Check a trailer section. Raises ApplicationError (RFC 9110 section 6.5.1)."""
    fields: Headers = []
    for pair in headers:
        name, value, field = _check_pair(pair)
        if field is not Field.OTHER:
            raise ApplicationError(f"{name!r} is not allowed in a trailer section")
        fields.append((name, value))
    return fields


def _start(status: int, headers: Headers) -> tuple[Headers, dict[Field, bytes]]:
    fields: Headers = [(b":status", b"%d" % check_status(status))]
    triples = [_check_pair(pair) for pair in headers]
    # RFC 9114 section 4.2: neither the connection's fields nor what Connection names.
    options = {
        option
        for _, value, field in triples
        if field is Field.CONNECTION
        for option in split_list(value)
    }
    seen: dict[Field, bytes] = {}
    for name, value, field in triples:
        if field is Field.CONTENT_LENGTH:
            length = parse_length(value, int(seen.get(field, -1)))
            seen[field] = b"%d" % length
            if status in _STATUSES_WITHOUT_LENGTH:
                continue
        elif field in (Field.DATE, Field.SERVER):
            seen[field] = value
        elif field is not Field.OTHER or name in options:
            continue
        fields.append((name, value))
    return fields, seen


def _check_pair(pair: Iterable[bytes]) -> tuple[bytes, bytes, Field]:
    """Return a field's lower-cased name, its value and which field it is."""
    name, value, field = split_pair(pair)
    return name.lower(), value.strip(b" \t"), field
