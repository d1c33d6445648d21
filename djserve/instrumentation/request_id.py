"""A name for each request, by which the lines of all logs can be brought together.

It is the field X-Request-ID of the request. A client's or a proxy's own is kept if
it is short and plain, and replaced if it is not.
"""

from __future__ import annotations

import itertools
import logging
import os
from contextvars import ContextVar
from typing import TYPE_CHECKING

from djserve.postponed import pattern

if TYPE_CHECKING:
    from djserve.interfaces import Headers

FIELD = b"x-request-id"

current_request_id: ContextVar[str] = ContextVar("djserve_request_id", default="-")
"""The request that the running code serves."""

_PLAIN = pattern(rb"[A-Za-z0-9._:+/=-]{1,128}")
_numbers = itertools.count(int.from_bytes(os.urandom(4)))


def name_request(headers: Headers) -> None:
    """Ensure that the headers hold one plain request id."""
    given = [value for name, value in headers if name == FIELD]
    if len(given) == 1 and _PLAIN.fullmatch(given[0]):
        return
    if given:
        headers[:] = [(name, value) for name, value in headers if name != FIELD]
    # Unique among the processes of a machine by the first part, in one by the second.
    headers.append((FIELD, b"%x-%x" % (os.getpid(), next(_numbers))))


def find_request_id(headers: Headers) -> str:
    """Return the request's id, "" if it has none that is plain."""
    for name, value in headers:
        if name == FIELD and _PLAIN.fullmatch(value):
            return value.decode("ascii")
    return ""


class RequestIDFilter(logging.Filter):
    """Give each record ``request_id``, for a formatter's "%(request_id)s"."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = current_request_id.get()
        return True
