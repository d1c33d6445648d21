"""A request as the access log is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djserve.instrumentation.events import RequestRecord
from djserve.interfaces import RequestHead

if TYPE_CHECKING:
    from djserve.interfaces import Headers


def record(
    path: bytes = b"/",
    query: bytes = b"",
    headers: Headers | None = None,
    method: str = "GET",
    **values: Any,
) -> RequestRecord:
    """Return a record; ``values`` are its further fields."""
    head = RequestHead(method, path, query, headers or [], "1.1")
    values = {"status": 200, "size": 5, "duration": 0.0125} | values
    return RequestRecord(
        head, values.pop("client", ("192.0.2.1", 5000)), "http", **values
    )
