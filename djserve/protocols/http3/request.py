"""A request's decoded fields -> ``RequestHead`` (RFC 9114 section 4).

The rules are those of HTTP/2 (``http2.request``), which RFC 9114 repeats word for word:
the same request gets the same answer over both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.http2.request import DEFAULT_PRIORITY as DEFAULT_PRIORITY
from djserve.protocols.http2.request import Request as Request
from djserve.protocols.http2.request import check_trailers as _check_trailers
from djserve.protocols.http2.request import parse_priority as parse_priority
from djserve.protocols.http2.request import parse_request as _parse_request
from djserve.protocols.http3.errors import ErrorCode, HTTP3Error

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from djserve.conf.schema import HTTPConfig
    from djserve.interfaces import RequestHead


# What an extended CONNECT may ask for, without WebTransport and with it.
WITHOUT_SESSIONS = (b"websocket",)
WITH_SESSIONS = (b"websocket", b"webtransport")


def parse_request(
    fields: Iterable[tuple[bytes, bytes]],
    config: HTTPConfig,
    protocols: Container[bytes] = WITHOUT_SESSIONS,
) -> Request:
    """Check a request's fields and sort them. Raises HTTP3Error if malformed."""
    try:
        return _parse_request(fields, config, protocols)
    except HTTP2Error as error:
        raise _malformed(error) from error


def check_trailers(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise HTTP3Error for trailers that may not occur; ASGI has no place for them."""
    try:
        _check_trailers(fields)
    except HTTP2Error as error:
        raise _malformed(error) from error


def build_head(request: Request, is_complete: bool) -> RequestHead:
    """Return the head for one arrival; ``is_complete``: no content follows."""
    head = request.build_head(is_complete)
    head.http_version = "3"
    return head


def _malformed(error: HTTP2Error) -> HTTP3Error:
    # RFC 9114 section 4.1.2.
    return HTTP3Error(error.reason, ErrorCode.MESSAGE_ERROR, is_of_stream=True)
