"""The development server's log: a short coloured line for each request.

The format is the one that users of ``runserver`` with Channels know.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias

from djserve.instrumentation.events import escape, format_client, request_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.instrumentation.events import RequestRecord

    Paint: TypeAlias = Callable[[str], str]

logger = logging.getLogger("djserve.development")

# The names of Django's termcolors palette, and the level that Django logs each with.
ROLES = {
    1: ("HTTP_INFO", logging.INFO),
    2: ("HTTP_SUCCESS", logging.INFO),
    3: ("HTTP_REDIRECT", logging.INFO),
    304: ("HTTP_NOT_MODIFIED", logging.INFO),
    4: ("HTTP_BAD_REQUEST", logging.WARNING),
    404: ("HTTP_NOT_FOUND", logging.WARNING),
}
SERVER_ERROR = ("HTTP_SERVER_ERROR", logging.ERROR)


class DevelopmentLog:
    """Log requests and the steps of WebSockets to "djserve.development"; a RequestLog.

    ``style`` is Django's (``color_style()``, a command's ``self.style``): a method for
    each role. None means no colour.
    """

    def __init__(self, style: object = None) -> None:
        self._style = style

    def request_finished(self, record: RequestRecord) -> None:
        role, level = find_role(record.status)
        if logger.isEnabledFor(level):
            logger.log(level, self._paint(role, development_line(record)))

    def websocket_connecting(self, record: RequestRecord) -> None:
        logger.info(websocket_line(record, "HANDSHAKING"))

    def websocket_accepted(self, record: RequestRecord) -> None:
        logger.info(websocket_line(record, "CONNECT"))

    def websocket_rejected(self, record: RequestRecord) -> None:
        logger.info(websocket_line(record, "REJECT"))

    def websocket_closed(self, record: RequestRecord) -> None:
        logger.info(websocket_line(record, "DISCONNECT"))

    def _paint(self, role: str, line: str) -> str:
        paint: Paint | None = getattr(self._style, role, None)
        return paint(line) if paint is not None else line


def find_role(status: int) -> tuple[str, int]:
    """Return the palette's role and the log level for a status; 0 is a server error."""
    return ROLES.get(status) or ROLES.get(status // 100) or SERVER_ERROR


def development_line(record: RequestRecord) -> str:
    """Return ``HTTP GET /path 200 [0.01, 127.0.0.1:54321]``."""
    head = record.head
    method = escape(head.method) or "-"
    return (
        f"HTTP {method} {request_target(head)} {record.status or '-'} "
        f"[{record.duration:.2f}, {format_client(record.client)}]"
    )


def websocket_line(record: RequestRecord, action: str) -> str:
    """Return ``WebSocket CONNECT /path [127.0.0.1:54321]``.

    The query stays out: with WebSockets it often holds a token.
    """
    path = escape(record.head.raw_path.decode("latin-1"))
    return f"WebSocket {action} {path} [{format_client(record.client)}]"
