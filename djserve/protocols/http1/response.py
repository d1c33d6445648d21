"""A response's head and its framing (RFC 9112 section 6.3)."""

from __future__ import annotations

from enum import IntEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

from djserve.errors import ApplicationError
from djserve.protocols.headers import (
    Field,
    check_value,
    join_fields,
    lookup_name,
    split_list,
)

if TYPE_CHECKING:
    from djserve.interfaces import Headers, RequestHead


class Framing(IntEnum):
    """How the peer finds the end of the content."""

    NONE = 0
    """No content at all: HEAD, 204, 304 (RFC 9110 sections 9.3.2, 15.3.5, 15.4.5)."""
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3
    """Until the connection closes: an HTTP/1.0 peer and a length not known."""


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

    __slots__ = ("_server", "date", "date_and_server", "server")

    def __init__(self, server_name: str) -> None:
        self.server = (
            b"server: " + server_name.encode("latin-1") + b"\r\n"
            if server_name
            else b""
        )
        self.date = b""
        self.date_and_server = self.server

    def set_date(self, value: bytes) -> None:
        """Take the current IMF-fixdate (RFC 9110 section 5.6.7)."""
        self.date = b"date: " + value + b"\r\n"
        self.date_and_server = self.date + self.server


class ResponseHead:
    """The head as bytes, and the framing that it promises.

    ``remaining`` counts down the bytes of a promised length. ``close`` says that the
    application or the framing asks for the connection's end.
    """

    __slots__ = ("close", "data", "framing", "remaining")

    def __init__(self) -> None:
        self.data = b""
        self.framing = Framing.LENGTH
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
    length, has_date, has_server = -1, False, False
    parts = [_STATUS_LINES.get(status) or _checked_status_line(status)]
    count = 1
    try:
        for name, value in headers:
            prefix, field = lookup_name(name)
            if field:
                if field is Field.CONTENT_LENGTH:
                    length = _parse_length(value, length)
                elif field is Field.DATE:
                    has_date = True
                elif field is Field.SERVER:
                    has_server = True
                else:
                    # RFC 9110 section 7.6.1: the connection's own fields are the
                    # server's; an application may only ask for its end.
                    if field is Field.CONNECTION:
                        check_value(name, value)
                        head.close |= b"close" in split_list(value)
                    continue
            parts += (prefix, value, b"\r\n")
            count += 1
    except (TypeError, ValueError) as error:
        raise ApplicationError(f"Response headers must be pairs: {error}") from None
    _choose_framing(head, request, status, length, whole_length)
    if head.framing is Framing.LENGTH and length < 0:
        parts.append(b"content-length: %d\r\n" % head.remaining)
        count += 1
    elif head.framing is Framing.CHUNKED:
        parts.append(b"transfer-encoding: chunked\r\n")
        count += 1
    head.data = join_fields(parts, count, headers)
    if not has_date and not has_server:
        head.data += defaults.date_and_server
    else:
        head.data += (b"" if has_date else defaults.date) + (
            b"" if has_server else defaults.server
        )
    return head


def _choose_framing(
    head: ResponseHead,
    request: RequestHead,
    status: int,
    length: int,
    whole_length: int | None,
) -> None:
    if request.method == "HEAD" or status == 204 or status == 304:
        head.framing = Framing.NONE
    elif length >= 0:
        if whole_length is not None and whole_length != length:
            raise ApplicationError(
                f"Content-Length is {length}, the content has {whole_length} bytes"
            )
        head.remaining = length
    elif whole_length is not None:
        head.remaining = whole_length
    elif request.http_version == "1.1":
        head.framing = Framing.CHUNKED
    else:
        head.framing = Framing.CLOSE
        head.close = True


def build_informational(status: int, headers: Headers) -> bytes:
    """Encode an interim response (RFC 9110 section 15.2), whole."""
    parts = [_STATUS_LINES.get(status) or _checked_status_line(status)]
    for name, value in headers:
        parts += (lookup_name(name)[0], value, b"\r\n")
    return join_fields(parts, len(headers) + 1, headers) + b"\r\n"


def build_trailers(headers: Headers) -> bytes:
    """Encode the last chunk and a trailer section (RFC 9112 section 7.1.2)."""
    parts: list[bytes] = []
    for name, value in headers:
        prefix, field = lookup_name(name)
        if field is Field.CONTENT_LENGTH or field is Field.TRANSFER_ENCODING:
            raise ApplicationError(f"{name!r} is not allowed in a trailer section")
        parts += (prefix, value, b"\r\n")
    return b"0\r\n" + join_fields(parts, len(headers), headers) + b"\r\n"


def _checked_status_line(status: int) -> bytes:
    if type(status) is not int or not 100 <= status <= 999:
        raise ApplicationError(f"Status must be an int from 200 to 999, got {status!r}")
    return _status_line(status)


def _parse_length(value: bytes, seen: int) -> int:
    check_value(b"content-length", value)
    if not value.isdigit() or seen >= 0:
        raise ApplicationError(
            f"Content-Length must be given once, in digits, got {value!r:.100}"
        )
    return int(value)
