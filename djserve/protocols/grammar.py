"""What a request may say, whichever protocol carries it (RFC 9110, RFC 3986).

HTTP/1.1 and HTTP/2 differ in how a request is framed, not in what it may ask for. Each
protocol cuts a head into method, target, scheme, authority and fields; these functions
judge them, once, so that the same request gets the same status over both: what a proxy
refuses over one must not pass over the other.
"""

from __future__ import annotations

import re

from djserve.errors import ProtocolError
from djserve.protocols.headers import has_control, is_authority, is_token

# Any method may be some application's: Django's views answer 405 to those they do not
# have. Upper case only: to RFC 9110 section 9.1 "get" is another method than "GET",
# to Django's request it is the same one, and to a proxy's rule it is neither.
_is_method = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Z]+").fullmatch

# RFC 3986 section 3.3, with what browsers leave unquoted, and with bytes beyond ASCII:
# docs/explanation/decisions/0008-one-grammar.md. A fragment never belongs in a request.
_is_target = re.compile(rb"/[\x21\x22\x24-\x7e\x80-\xff]*").fullmatch

_SCHEMES = (b"http", b"https")

# Larger ones are beyond any length that llhttp and h2 count in.
_LENGTH_LIMIT = 1 << 64
_LENGTH_DIGITS = 20


def check_method(method: bytes) -> str:
    """Return the method as text.

    Raises ProtocolError: 400 for what is not a token, 501 for one with small letters,
    for CONNECT, which asks for a tunnel whatever its target is, and for PRI, which is
    the beginning of HTTP/2 (RFC 9113 section 11.5).
    """
    if method in (b"CONNECT", b"PRI"):
        raise ProtocolError(f"{method.decode()} is not supported", 501)
    if not _is_method(method):
        if is_token(method):
            raise ProtocolError(
                f"Unknown method {method!r:.100}: methods are case-sensitive", 501
            )
        raise ProtocolError(f"Malformed method {method!r:.100}")
    return method.decode("ascii")


def split_target(method: str, target: bytes) -> tuple[bytes, bytes]:
    """Return the path and the query of a target in origin-form or asterisk-form.

    Raises ProtocolError (400) for all others (RFC 9112 section 3.2).
    """
    if target == b"*" and method == "OPTIONS":
        return target, b""
    if not _is_target(target) or not (target.isascii() or _is_utf_8(target)):
        raise ProtocolError(f"Invalid request target {target!r:.100}")
    path, _, query = target.partition(b"?")
    return path, query


def check_scheme(scheme: bytes) -> None:
    """Raise ProtocolError (400) for a scheme that is not served here."""
    if scheme.lower() not in _SCHEMES:
        raise ProtocolError(f"Invalid scheme {scheme!r:.100}")


def check_authority(authority: bytes) -> None:
    """Raise ProtocolError (400) for what is not a host with an optional port.

    RFC 9110 section 4.2.1: a URI of http or https with an empty host is invalid.
    """
    if not authority or authority[:1] == b":" or not is_authority(authority):
        raise ProtocolError(f"Invalid Host {authority!r:.100}")


def check_value(name: bytes, value: bytes) -> None:
    """Raise ProtocolError (400) for a field value with a control byte."""
    if has_control(value):
        raise ProtocolError(f"Control byte in the field {name!r:.100}: {value!r:.100}")


def parse_length(value: bytes) -> int:
    """Return a Content-Length. Raises ProtocolError (400) for any but plain digits."""
    digits = value.lstrip(b"0")
    if value.isdigit() and len(digits) <= _LENGTH_DIGITS:
        length = int(digits or b"0")
        if length < _LENGTH_LIMIT:
            return length
    raise ProtocolError(f"Malformed Content-Length {value!r:.100}")


def content_too_large() -> ProtocolError:
    """Return the refusal of content beyond the limit."""
    return ProtocolError("Request content is too large", 413, setting="BODY_SIZE_LIMIT")


def _is_utf_8(target: bytes) -> bool:
    try:
        target.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
