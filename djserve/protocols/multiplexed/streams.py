"""What the stream tables of HTTP/2 and HTTP/3 do in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from djserve.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from djserve.errors import ProtocolError
    from djserve.interfaces import Exchange, Headers

# RFC 9113 section 8.2.2: they are about a connection of HTTP/1.1.
_OF_HTTP1 = (b"connection", b"upgrade")


class DrainableStream(Protocol):
    """A stream that can be asked for its end."""

    is_drain_deferred: bool

    @property
    def is_upgraded(self) -> bool: ...
    def drain(self) -> None: ...


def defer_drains(streams: Iterable[DrainableStream]) -> list[Callable[[], None]]:
    """Return what drains each upgraded stream; ``drain_streams`` then leaves it alone.

    WebSockets are asked for their end one after the other, over a while, so that their
    clients do not all come back in one moment.
    """
    upgraded = [stream for stream in streams if stream.is_upgraded]
    for stream in upgraded:
        stream.is_drain_deferred = True
    return [stream.drain for stream in upgraded]


def drain_streams(streams: Iterable[DrainableStream]) -> None:
    """Ask every stream for its end, but for those whose drain is deferred.

    To drain a stream may end it, and so change the table that it is in.
    """
    for stream in list(streams):
        if not stream.is_drain_deferred:
            stream.drain()


def keep_running(calls: Iterable[Exchange]) -> set[Exchange]:
    """Return those of the exchanges whose application call still runs."""
    return {exchange for exchange in calls if exchange.is_running}


def count_content(remaining: int, size: int, more: bool) -> int:
    """Return what is left of a promised length after ``size`` bytes of content.

    Raises ApplicationError if they do not fit, or if less than promised has come.
    """
    left = remaining - size
    if left < 0:
        raise ApplicationError(
            f"{size} bytes of content, but the Content-Length has room for "
            f"{remaining} only"
        )
    if left and not more:
        raise ApplicationError(
            f"The response ends {left} bytes short of its Content-Length"
        )
    return left


def build_refusal(error: ProtocolError) -> tuple[Headers, bytes]:
    """Return the fields and the content of the server's own answer."""
    body = error.reason.encode("ascii", "backslashreplace") + b"\n"
    fields = [field for field in error.headers if field[0] not in _OF_HTTP1]
    fields.append((b"content-type", b"text/plain; charset=utf-8"))
    return fields, body
