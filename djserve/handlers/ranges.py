"""Range requests (RFC 9110 14) for responses that are whole files.

Decides which part of a file answers a request and sets the response's status and
fields. Reads no file. Its verdicts are those of nginx in front of a WSGI server, with
two exceptions: several ranges get the whole file, and HEAD ignores ranges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.http import parse_http_date_safe

from djserve.files.ranges import choose_part

if TYPE_CHECKING:
    from django.http import HttpResponseBase

    from djserve.asgi.types import Scope

# What describes the file, not the refusal that is sent in its place.
_FIELDS_OF_THE_FILE = (
    "Cache-Control",
    "Content-Disposition",
    "Content-Language",
    "Content-Type",
    "ETag",
    "Expires",
    "Last-Modified",
)


def answer_range(scope: Scope, response: HttpResponseBase, size: int) -> range | None:
    """Make the response to a file of ``size`` bytes the answer to a range request.

    Returns the positions that are to be sent, none of them for a 416. None if the
    response stays as it is, but for ``Accept-Ranges``: a view that has set any field or
    status of range requests answers them itself.
    """
    if (
        response.status_code != 200
        or "Content-Encoding" in response
        or "Content-Range" in response
        or "Accept-Ranges" in response
        or scope["method"] not in ("GET", "HEAD")
    ):
        return None
    # To Django's test client, and under a server that has no way of its own to send
    # files, a whole file looks as it does with Django's handler.
    if scope.get("extensions"):
        response["Accept-Ranges"] = "bytes"
    # RFC 9110 14.2: a Range field with any method but GET is ignored.
    if scope["method"] != "GET":
        return None
    wanted, condition = _find_fields(scope)
    if wanted is None or not _is_current(condition, response):
        return None
    part = choose_part(wanted, size)
    if part is None:
        return None
    response["Accept-Ranges"] = "bytes"
    if part:
        response.status_code = 206
        response["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    else:
        response.status_code = 416
        response["Content-Range"] = f"bytes */{size}"
        for name in _FIELDS_OF_THE_FILE:
            if name in response:
                del response[name]
    response["Content-Length"] = str(len(part))
    return part


def _find_fields(scope: Scope) -> tuple[bytes | None, list[bytes]]:
    """Return the Range field if there is exactly one, and all If-Range fields."""
    ranges, conditions = [], []
    for name, value in scope["headers"]:
        if name == b"range":
            ranges.append(value)
        elif name == b"if-range":
            conditions.append(value)
    return (ranges[0] if len(ranges) == 1 else None), conditions


def _is_current(conditions: list[bytes], response: HttpResponseBase) -> bool:
    """Return whether If-Range lets a part be sent (RFC 9110 13.1.5)."""
    if not conditions:
        return True
    if len(conditions) > 1:
        return False
    condition = conditions[0].decode("latin1")
    if condition.endswith('"'):
        # Both must be strong: a weak tag does not promise the same bytes.
        return condition[0] == '"' and response.get("ETag") == condition
    date = parse_http_date_safe(condition)
    return date is not None and date == parse_http_date_safe(
        response.get("Last-Modified", "")
    )
