"""What the server tells its logs: one record for a request, one method for an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from djserve.interfaces import RequestHead


class RequestRecord:
    """One request as the logs see it.

    ``client`` and ``scheme`` are as in the scope, so the forwarded ones behind a proxy.
    ``status`` is the response's status, for a closed WebSocket its close code, and 0
    if there is none. ``size`` counts the bytes of content sent. ``duration`` is in
    seconds since the head arrived. ``scope`` is the application's, None if it has
    not seen the request; ``trace_id`` is filled in if tracing is on.
    """

    __slots__ = (
        "client",
        "duration",
        "head",
        "scheme",
        "scope",
        "size",
        "status",
        "trace_id",
    )

    def __init__(
        self,
        head: RequestHead,
        client: tuple[str, int] | None,
        scheme: str,
        status: int = 0,
        size: int = 0,
        duration: float = 0.0,
    ) -> None:
        self.head = head
        self.client = client
        self.scheme = scheme
        self.status = status
        self.size = size
        self.duration = duration
        self.scope: MutableMapping[str, Any] | None = None
        self.trace_id = ""


class RequestLog(Protocol):
    """What the logs are told of requests; no method blocks on the network or raises.

    A request that ended without a complete response is finished too. A WebSocket is
    connecting, then either rejected or accepted, and closed only after it was accepted.
    """

    def request_finished(self, record: RequestRecord, /) -> None: ...
    def websocket_connecting(self, record: RequestRecord, /) -> None: ...
    def websocket_accepted(self, record: RequestRecord, /) -> None: ...
    def websocket_rejected(self, record: RequestRecord, /) -> None: ...
    def websocket_closed(self, record: RequestRecord, /) -> None: ...


def escape(text: str) -> str:
    r"""Make peer's text fit for one quoted field of one line, in ASCII.

    Quotes, backslashes, control and non-ASCII characters become ``\"``, ``\\`` and
    ``\xhh``: no request can end a line, forge another one or drive a terminal.
    """
    # Nearly every text is clean, and four checks in C find that out.
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(map(_escape_character, text))


def format_client(client: tuple[str, int] | None) -> str:
    """Return ``host:port``, with brackets around IPv6, or "-" if it is not known."""
    if client is None:
        return "-"
    host, port = escape(client[0]), client[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def request_target(head: RequestHead) -> str:
    """Return the path with its query, escaped."""
    target = b"%b?%b" % (head.raw_path, head.query) if head.query else head.raw_path
    return escape(target.decode("latin-1"))


def _escape_character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if " " <= character <= "~":
        return character
    # Latin-1 stands for bytes; anything above it cannot come from a peer's bytes.
    return f"\\x{ord(character):02x}" if character <= "\xff" else "?"
