"""A response's head and its framing (RFC 9112 section 6.3)."""

from __future__ import annotations

from enum import IntEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

from djserve.errors import ApplicationError
from djserve.protocols.headers import (
    Field,
    encode_fields,
    encode_line,
    get_known_line,
    split_list,
)

if TYPE_CHECKING:
    from djserve.interfaces import Headers, RequestHead


class Framing(IntEnum):
    """How the peer finds the end of the content."""

    NONE = 0
    """No content: HEAD, 204, 205, 304 (RFC 9110 9.3.2, 15.3.5, 15.3.6, 15.4.5)."""
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3
    """Until the connection closes: an HTTP/1.0 peer and a length not known."""


# An enum's members cost a descriptor each time (Python 3.11), and every response
# compares some (benchmark: http1_hello).
_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing
_CONTENT_LENGTH = Field.CONTENT_LENGTH

_STATUSES_WITHOUT_CONTENT = frozenset({204, 205, 304})


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode("ascii"))


_STATUS_LINES = {status.value: _status_line(status) for status in HTTPStatus}


class ResponseDefaults:
    """Fields that the server adds to every response: Date and Server, cached as bytes.

    The owner of the clock calls ``set_date`` about once a second.
    """

    __slots__ = ("date", "date_and_server", "end", "server")

    def __init__(self, server_name: str) -> None:
        self.server = b""
        if server_name:
            self.server = b"server: " + server_name.encode("latin-1") + b"\r\n"
        self.set_date(b"")

    def set_date(self, value: bytes) -> None:
        """Take the current IMF-fixdate (RFC 9110 section 5.6.7)."""
        self.date = b"date: " + value + b"\r\n" if value else b""
        self.date_and_server = self.date + self.server
        self.end = self.date_and_server + b"\r\n"


class ResponseHead:
    """The head as bytes, and the framing that it promises.

    ``data`` is whole but for the connection's own fields, and ``end`` closes it.
    ``remaining`` counts down the bytes of a promised length. ``close`` says that the
    application or the framing asks for the connection's end.
    """

    __slots__ = ("close", "data", "end", "framing", "remaining")

    data: bytes
    end: bytes

    def __init__(self) -> None:
        self.framing: Framing = _LENGTH
        self.remaining = 0
        self.close = False


def build_response_head(
    request: RequestHead,
    status: int,
    headers: Headers,
    whole_length: int | None,
    defaults: ResponseDefaults,
) -> ResponseHead:
    """Encode a final response's head and choose its framing.

    ``whole_length`` is the content's length where all of it is at hand, else None.
    Raises ApplicationError for a status, name or value that cannot be sent, and where
    the application's Content-Length contradicts the content.
    """
    head = ResponseHead()
    head.end = defaults.end
    length = -1
    parts = [_STATUS_LINES.get(status) or _checked_status_line(status)]
    for pair in headers:
        try:
            known = get_known_line(pair)
        except TypeError:
            known = None
        line, field = known or encode_line(pair)
        if field:
            if field is _CONTENT_LENGTH:
                length = _parse_length(line, length)
                if status == 204 or status == 205:
                    # RFC 9110 section 8.6: never in a 204; a 205 gets its own.
                    continue
            elif not _apply_field(head, field, line, defaults):
                continue
        parts.append(line)
    _choose_framing(head, request, status, length, whole_length)
    if head.framing is _LENGTH:
        if length < 0:
            parts.append(b"content-length: %d\r\n" % head.remaining)
    elif status == 205:
        # RFC 9110 section 15.3.6: no content, and framed as having none.
        parts.append(b"content-length: 0\r\n")
    elif head.framing is _CHUNKED:
        parts.append(b"transfer-encoding: chunked\r\n")
    head.data = b"".join(parts)
    return head


def _apply_field(
    head: ResponseHead, field: Field, line: bytes, defaults: ResponseDefaults
) -> bool:
    """Apply a field that the server fills in; return whether it is sent on."""
    if field is Field.UPGRADE:
        return True
    if field is Field.DATE:
        head.end = head.end.replace(defaults.date, b"")
        return True
    if field is Field.SERVER:
        head.end = head.end.replace(defaults.server, b"")
        return True
    # RFC 9110 section 7.6.1: the connection's own fields are the server's; an
    # application may only ask for its end.
    if field is Field.CONNECTION:
        value = line.partition(b":")[2][:-2]
        head.close |= b"close" in split_list(value)
    return False


def _choose_framing(
    head: ResponseHead,
    request: RequestHead,
    status: int,
    length: int,
    whole_length: int | None,
) -> None:
    if request.method == "HEAD" or status in _STATUSES_WITHOUT_CONTENT:
        head.framing = _NONE
    elif length >= 0:
        if whole_length is not None and whole_length != length:
            raise ApplicationError(
                f"Content-Length is {length}, the content has {whole_length} bytes"
            )
        head.remaining = length
    elif whole_length is not None:
        head.remaining = whole_length
    elif request.http_version == "1.1":
        head.framing = _CHUNKED
    else:
        head.framing = _CLOSE
        head.close = True


def build_informational(status: int, headers: Headers) -> bytes:
    """Encode an interim response (RFC 9110 section 15.2), whole."""
    line = _STATUS_LINES.get(status) or _checked_status_line(status)
    return line + encode_fields(headers) + b"\r\n"


def build_trailers(headers: Headers) -> bytes:
    """Encode the last chunk and a trailer section (RFC 9112 section 7.1.2)."""
    lines = [encode_line(pair) for pair in headers]
    for line, field in lines:
        if field is not Field.OTHER:
            raise ApplicationError(f"{line!r} is not allowed in a trailer section")
    return b"".join([b"0\r\n", *[line for line, _ in lines], b"\r\n"])


def _checked_status_line(status: int) -> bytes:
    if type(status) is not int or not 100 <= status <= 999:
        raise ApplicationError(f"Status must be an int from 200 to 999, got {status!r}")
    return _status_line(status)


def _parse_length(line: bytes, seen: int) -> int:
    value = line[16:-2]  # after "content-length: ", before CRLF
    if not value.isdigit() or seen >= 0:
        raise ApplicationError(
            f"Content-Length must be given once, in digits, got {value!r:.100}"
        )
    return int(value)
