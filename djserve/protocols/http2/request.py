"""A request's decoded fields -> ``RequestHead`` (RFC 9113 section 8).

Two kinds of fault: a message that breaks HTTP/2's own rules (pseudo-header fields, the
connection's fields) raises HTTP2Error, for a reset of the stream; a request that HTTP
refuses whatever carries it (``protocols.grammar``, limits) has a refusal with a status.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from djserve.errors import ProtocolError
from djserve.interfaces import Repetition, RequestHead
from djserve.protocols.grammar import (
    check_authority,
    check_method,
    check_scheme,
    check_value,
    parse_length,
    split_target,
)
from djserve.protocols.headers import count_members, is_token, members_limit
from djserve.protocols.http2.errors import HTTP2Error

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from djserve.conf.schema import HTTPConfig
    from djserve.interfaces import Headers

# What an extended CONNECT may ask for.
_PROTOCOLS = (b"websocket",)

# RFC 9113 section 8.2.1, narrowed to RFC 9110's tokens.
_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_has_blanks_around = re.compile(rb"\A[ \t]|[ \t]\Z").search

_PSEUDO_FIELDS = frozenset(
    {b":method", b":scheme", b":authority", b":path", b":protocol"}
)

# RFC 9113 section 8.2.2.
_CONNECTION_FIELDS = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    }
)

# RFC 9113 section 6.5.2: what a field counts beyond its bytes.
_FIELD_OVERHEAD = 32


class Priority(NamedTuple):
    """``urgency`` is 0 (first) to 7; ``incremental`` responses are sent in turns."""

    urgency: int
    incremental: bool


DEFAULT_PRIORITY = Priority(3, False)
_PRIORITIES = [
    Priority(urgency, incremental)
    for urgency in range(8)
    for incremental in (False, True)
]

# A dictionary of structured fields (RFC 9651 section 3.2), as far as this field needs
# it: a key, perhaps a bare item, perhaps parameters, which mean nothing here.
_KEY = rb"[a-z*][a-z0-9_\-.*]*"
_BARE_ITEM = (
    rb"(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|\?[01]|:[A-Za-z0-9+/=]*:"
    rb'|"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
    rb"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*)"
)
_member = re.compile(
    rb"[ \t]*(%b)(?:=(%b))?((?: *; *%b(?:=%b)?)*)[ \t]*(,|$)"
    % (_KEY, _BARE_ITEM, _KEY, _BARE_ITEM)
)

# The field is a few bytes; what is longer is not worth a look.
_VALUE_LIMIT = 256


class Request:
    """A request that may be made again: the block that encodes it may come again.

    ``refusal`` is set if it is answered with a status and reaches no application.
    """

    __slots__ = (
        "_has_come",
        "_repeated",
        "content_length",
        "expects_continue",
        "headers",
        "method",
        "priority",
        "query",
        "raw_path",
        "refusal",
        "takes_trailers",
        "upgrade",
    )

    def __init__(self) -> None:
        self.method = ""
        self.raw_path = b""
        self.query = b""
        self.headers: Headers = []
        self.content_length: int | None = None
        self.expects_continue = False
        self.upgrade: bytes | None = None
        self.priority: Priority = DEFAULT_PRIORITY
        self.takes_trailers = False
        self.refusal: ProtocolError | None = None
        self._has_come = False
        self._repeated: RequestHead | None = None

    def refuse(self, reason: str, status: int, setting: str = "") -> None:
        """Keep the first reason to refuse it; ``setting`` allows it."""
        if self.refusal is None:
            self.refusal = ProtocolError(reason, status, setting=setting)

    def check(self, rule: Callable[..., object], *values: object) -> None:
        """Refuse it if a rule does."""
        try:
            rule(*values)
        except HTTP2Error:
            raise
        except ProtocolError as error:
            if self.refusal is None:
                # The refusal may be kept; what is on the stack need not.
                self.refusal = error.with_traceback(None)

    def build_head(self, is_complete: bool) -> RequestHead:
        """Return the head for one arrival; ``is_complete``: no content follows.

        From the second arrival on, those without content have the same one, with a
        repetition (benchmark: http2_hello).
        """
        if is_complete and self._repeated is not None:
            return self._repeated
        head = RequestHead(
            self.method, self.raw_path, self.query, self.headers.copy(), "2"
        )
        head.content_length = self.content_length
        head.upgrade = self.upgrade
        if not is_complete:
            head.has_body = self.upgrade is None
            head.expects_continue = self.expects_continue
        elif self._has_come and self.upgrade is None:
            head.repetition = Repetition()
            self._repeated = head
        self._has_come = True
        return head


def parse_request(
    fields: Iterable[tuple[bytes, bytes]],
    config: HTTPConfig,
    protocols: Container[bytes] = _PROTOCOLS,
) -> Request:
    """Check a request's fields and sort them. Raises HTTP2Error if malformed.

    An extended CONNECT asks for one of ``protocols``; for others it gets 501.
    """
    request = Request()
    pseudo: dict[bytes, bytes] = {}
    regular: Headers = []
    size = count = 0
    for name, value in fields:
        size += len(name) + len(value) + _FIELD_OVERHEAD
        if name[:1] == b":":
            _take_pseudo(pseudo, name, value, is_late=bool(count))
        else:
            count += 1
            request.check(check_field, name, value)
            regular.append((bytes(name), bytes(value)))
    if size > config.header_size_limit:
        request.refuse("The header fields are too large", 431, "HEADER_SIZE_LIMIT")
    if count > config.header_count_limit:
        request.refuse("Too many header fields", 431, "HEADER_COUNT_LIMIT")
    limit = members_limit(config.header_count_limit)
    if size > limit and count_members(regular) > limit:
        reason = "Too many members in the header fields"
        request.refuse(reason, 431, "HEADER_COUNT_LIMIT")
    request.check(_apply_target, request, pseudo, config, protocols)
    _apply_fields(request, regular)
    request.check(_apply_authority, request, pseudo)
    return request


def check_field(name: bytes, value: bytes) -> None:
    """Check a regular field.

    Raises HTTP2Error for one that may not occur in HTTP/2 (RFC 9113 section 8.2), other
    ProtocolErrors for what may not occur in any version.
    """
    if not _is_name(name):
        if is_token(name):
            raise HTTP2Error(f"Capital letters in the field name {name!r:.100}")
        raise ProtocolError(f"Malformed field name {name!r:.100}")
    check_value(name, value)
    if _has_blanks_around(value):
        raise ProtocolError(f"Blanks around the value of {name!r:.100}")
    if name in _CONNECTION_FIELDS:
        raise HTTP2Error(f"{name!r} is not used in HTTP/2")
    if name == b"te" and value.lower() != b"trailers":
        raise HTTP2Error(f"TE may only be trailers, got {value!r:.100}")


def check_trailers(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise HTTP2Error for trailers that may not occur; ASGI has no place for them."""
    for name, value in fields:
        try:
            check_field(name, value)
        except HTTP2Error:
            raise
        except ProtocolError as error:
            raise HTTP2Error(error.reason) from error


def _take_pseudo(
    pseudo: dict[bytes, bytes], name: bytes, value: bytes, is_late: bool
) -> None:
    # RFC 9113 section 8.3: before all regular fields, each once, no others.
    if is_late or name in pseudo or name not in _PSEUDO_FIELDS:
        raise HTTP2Error(f"Misplaced pseudo-header field {name!r:.100}")
    pseudo[bytes(name)] = bytes(value)


def _apply_target(
    request: Request,
    pseudo: dict[bytes, bytes],
    config: HTTPConfig,
    protocols: Container[bytes],
) -> None:
    """Judge the request line's parts. Raises ProtocolError, or HTTP2Error."""
    method, path = pseudo.get(b":method"), pseudo.get(b":path")
    scheme, protocol = pseudo.get(b":scheme"), pseudo.get(b":protocol")
    if method is None:
        raise HTTP2Error("A request has a method")
    request.raw_path = path or b""
    if protocol is not None:
        _apply_protocol(request, method, protocol, protocols)
    else:
        request.method = check_method(method)
    # RFC 9113 section 8.3.1; a plain CONNECT, which has neither, is refused by now.
    if not path or not scheme:
        raise HTTP2Error("A request has a scheme and a path")
    check_scheme(scheme)
    # "GET /path HTTP/1.1", as it would be over HTTP/1.1.
    if len(method) + len(path) + 10 > config.request_line_limit:
        raise ProtocolError(
            "The request line is too long", 414, setting="REQUEST_LINE_LIMIT"
        )
    request.raw_path, request.query = split_target(request.method, path)


def _apply_protocol(
    request: Request, method: bytes, protocol: bytes, protocols: Container[bytes]
) -> None:
    # RFC 8441 section 4.
    if method != b"CONNECT":
        raise HTTP2Error("A protocol is only asked for with CONNECT")
    request.method = "CONNECT"
    if protocol not in protocols:
        raise ProtocolError("The protocol is not supported", 501)
    request.upgrade = protocol


def _apply_fields(request: Request, fields: Headers) -> None:
    """Take the fields over; note those that matter to the server."""
    cookies: list[bytes] = []
    headers = request.headers
    for name, value in fields:
        if name == b"cookie":
            cookies.append(value)
            continue
        apply = _FIELDS.get(name)
        if apply is not None:
            request.check(apply, request, value)
        elif b"_" in name:
            # CVE-2015-0219: WSGI-like names fold "_" and "-" together, so that a client
            # could speak in a proxy's name.
            continue
        headers.append((name, value))
    if cookies:
        # RFC 9113 section 8.2.3: crumbs are one field for those who know only that.
        headers.append((b"cookie", b"; ".join(cookies)))


def _apply_content_length(request: Request, value: bytes) -> None:
    if request.content_length is not None:
        request.refuse("More than one Content-Length", 400)
    request.content_length = parse_length(value)


def _apply_expect(request: Request, value: bytes) -> None:
    if value.lower() == b"100-continue":
        request.expects_continue = True
    else:
        request.refuse("Unknown expectation", 417)


def _apply_priority(request: Request, value: bytes) -> None:
    request.priority = parse_priority(value)


def _apply_te(request: Request, value: bytes) -> None:
    request.takes_trailers = True


_FIELDS: dict[bytes, Callable[[Request, bytes], None]] = {
    b"content-length": _apply_content_length,
    b"expect": _apply_expect,
    b"priority": _apply_priority,
    b"te": _apply_te,
}


def _apply_authority(request: Request, pseudo: dict[bytes, bytes]) -> None:
    """Make one Host of ``:authority`` and Host (RFC 9113 section 8.3.1)."""
    hosts = [value for name, value in request.headers if name == b"host"]
    authority = pseudo.get(b":authority")
    if authority is None and len(hosts) == 1:
        authority = hosts[0]
    elif len(hosts) > 1 or (hosts and hosts[0].lower() != (authority or b"").lower()):
        raise ProtocolError("Host contradicts the request's authority")
    authority = authority or b""
    check_authority(authority)
    if hosts:
        request.headers = [field for field in request.headers if field[0] != b"host"]
    request.headers.insert(0, (b"host", authority))


def parse_priority(value: bytes) -> Priority:
    """Return what a Priority field says; defaults stand for what it does not.

    RFC 9218 section 4: unknown members and values out of range are ignored, and a field
    that does not parse is as good as none.
    """
    urgency, incremental = DEFAULT_PRIORITY
    value = value.strip(b" ")
    if len(value) > _VALUE_LIMIT:
        return DEFAULT_PRIORITY
    position = 0
    while position < len(value):
        match = _member.match(value, position)
        if match is None:
            return DEFAULT_PRIORITY
        key, item = match[1], match[2]
        if key == b"u":
            urgency = int(item) if item and item in b"01234567" else 3
        elif key == b"i":
            incremental = item is None or item == b"?1"
        position = match.end()
        if match[4] and position == len(value):
            return DEFAULT_PRIORITY
    return _PRIORITIES[urgency * 2 + incremental]
