"""A response's fields from the application -> what HPACK takes (RFC 9113 8.2, 8.3.2).

Fields with few values go through the dynamic table; the others are literals, which
change nothing for later responses, so that these can be kept ready.
"""

# What may be kept
#
# A block of HPACK depends on the table at the time of encoding, so a whole block can be
# used once only. Here the fields are divided: those with few values go through the
# table, by which they cost a byte each; all others are encoded as literals "without
# indexing" (RFC 7541 section 6.2.2), which depend on nothing and change nothing. So the
# second part can be kept as bytes, and of a repeated response only the first is encoded
# again; and if the table has not changed, not even that (``hpack``).
#
# The key is all that the application gave, compared by value: a list that was changed
# is another key, so nothing has to be invalidated. What an application varies, such as
# a token in a cookie, fills the store with entries that never come again; it is emptied
# as a whole when it is full, since to keep count of uses would cost every response more
# than building the few common ones again. A response with fields beyond
# ``_STORED_SIZE_LIMIT`` is not kept, so that the store's memory is bounded too.
#
# Literals cost some bytes more on the wire than entries of the table would. They also
# leak less: a secret that is never in the table cannot be guessed from how well a value
# next to it compresses (RFC 7541 section 7.1), and those of ``_SENSITIVE_FIELDS`` are
# marked so that proxies keep it that way.

from __future__ import annotations

from typing import TYPE_CHECKING

from hpack.hpack import encode_integer
from hpack.table import HeaderTable

from djserve.errors import ApplicationError
from djserve.protocols.headers import (
    REPEATING_FIELDS,
    REPEATING_SIZE_LIMIT,
    Field,
    check_status,
    parse_length,
    split_list,
    split_pair,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djserve.interfaces import Headers

# Applications choose what they send: the store is bounded, in number and in size.
_STORE_LIMIT = 512
_STORED_SIZE_LIMIT = 1024

# What repeats has a place in the table that pays.
_INDEXED_FIELDS = REPEATING_FIELDS | {b"server"}

# RFC 7541 section 7.1.3: values that must not be guessed from how blocks compress.
_SENSITIVE_FIELDS = frozenset({b"set-cookie", b"authorization", b"proxy-authorization"})

# RFC 9110 sections 8.6 and 15.3.6: neither has content, nor a length of it.
_STATUSES_WITHOUT_LENGTH = (b"204", b"205")

_NEVER_INDEXED = 0x10
_NAME_BITS = 4
_LENGTH_BITS = 7


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


class Fields:
    """A response's fields, checked and ready to encode.

    ``indexed`` go through the dynamic table, ``literal`` is encoded already.
    ``content_length`` is -1 if there is none. ``is_kept`` says that the same object
    comes again for the same fields.
    """

    __slots__ = (
        "content_length",
        "indexed",
        "is_kept",
        "literal",
        "wants_date",
    )

    def __init__(self) -> None:
        self.content_length = -1
        self.indexed: list[tuple[bytes, bytes]] = []
        self.literal = b""
        self.wants_date = True
        self.is_kept = False


_stored: dict[tuple[object, ...], Fields] = {}


def build_fields(
    status: int, headers: Headers, whole_length: int | None, server: bytes
) -> Fields:
    """Check and sort a final response's fields.

    ``whole_length`` is the content's length if all of it is at hand. Raises
    ApplicationError for what cannot be sent.
    """
    key: tuple[object, ...] = (status, whole_length, server, *headers)
    try:
        stored = _stored.get(key)
    except TypeError:
        # Pairs given as lists; whatever else is wrong with them is found below.
        key = (status, whole_length, server, *_freeze(headers))
        stored = _stored.get(key)
    if stored is None:
        stored = _build(status, headers, whole_length, server)
        _store(key, stored)
    return stored


def build_block(status: int, headers: Headers) -> Fields:
    """Check the fields of a response that has no others: interim, or to a CONNECT."""
    fields = Fields()
    fields.wants_date = False
    fields.indexed.append((b":status", b"%d" % check_status(status)))
    _add_headers(fields, headers)
    return fields


def build_trailers(headers: Headers) -> Fields:
    """Check a trailer section. Raises ApplicationError (RFC 9110 section 6.5.1)."""
    fields = Fields()
    fields.wants_date = False
    for pair in headers:
        name, value, field = _check_pair(pair)
        if field is not Field.OTHER:
            raise ApplicationError(f"{name!r} is not allowed in a trailer section")
        fields.literal += encode_literal(name, value)
    return fields


def encode_literal(name: bytes, value: bytes) -> bytes:
    """Encode a field without the dynamic table (RFC 7541 sections 6.2.2, 6.2.3)."""
    pattern = _NEVER_INDEXED if name in _SENSITIVE_FIELDS else 0
    known = HeaderTable.STATIC_TABLE_MAPPING.get(name)
    start = encode_integer(0 if known is None else known[0], _NAME_BITS)
    start[0] |= pattern
    if known is None:
        start += encode_integer(len(name), _LENGTH_BITS) + name
    return bytes(start + encode_integer(len(value), _LENGTH_BITS) + value)


def _freeze(headers: Headers) -> Headers:
    return [_check_pair(pair)[:2] for pair in headers]


def _build(
    status: int, headers: Headers, whole_length: int | None, server: bytes
) -> Fields:
    fields = Fields()
    fields.indexed.append((b":status", b"%d" % check_status(status)))
    has_server = _add_headers(fields, headers)
    if server and not has_server:
        fields.indexed.append((b"server", server))
    if fields.content_length < 0 and whole_length is not None and status >= 200:
        fields.literal += encode_literal(b"content-length", b"%d" % whole_length)
    return fields


def _store(key: tuple[object, ...], fields: Fields) -> None:
    size = len(fields.literal) + sum(len(name) + len(v) for name, v in fields.indexed)
    if size <= _STORED_SIZE_LIMIT:
        if len(_stored) >= _STORE_LIMIT:
            _stored.clear()
        _stored[key] = fields
        fields.is_kept = True


def _add_headers(fields: Fields, headers: Headers) -> bool:
    """Add the application's fields; return whether Server is among them."""
    has_server = False
    literals: list[bytes] = []
    triples = [_check_pair(pair) for pair in headers]
    # RFC 9113 section 8.2.2: HTTP/2 has no use for the connection's fields, nor for
    # those that Connection names.
    options = {
        option
        for _, value, field in triples
        if field is Field.CONNECTION
        for option in split_list(value)
    }
    for name, value, field in triples:
        if field is Field.CONTENT_LENGTH:
            fields.content_length = parse_length(value, fields.content_length)
            if fields.indexed[0][1] in _STATUSES_WITHOUT_LENGTH:
                continue
        elif field is Field.DATE:
            fields.wants_date = False
        elif field is Field.SERVER:
            has_server = True
        elif field is not Field.OTHER or name in options:
            continue
        if name in _INDEXED_FIELDS and len(value) <= REPEATING_SIZE_LIMIT:
            fields.indexed.append((name, value))
        else:
            literals.append(encode_literal(name, value))
    fields.literal = b"".join(literals)
    return has_server


def _check_pair(pair: Iterable[bytes]) -> tuple[bytes, bytes, Field]:
    """Return a field's lower-cased name, its value and which field it is."""
    name, value, field = split_pair(pair)
    # RFC 9113 section 8.2.1: no blanks around a value.
    return name.lower(), value.strip(b" \t"), field
