"""A filter between an exchange and its stream: what is made of a response on its way.

To the exchange it is the stream, to the stream it is the exchange, so neither of them,
nor any wire protocol, knows of what happens in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from djserve.asgi.types import FinishRequest, Scope
    from djserve.interfaces import (
        Exchange,
        Headers,
        RequestHead,
        Stream,
        Transport,
        WireProtocol,
    )


class ResponseFilter:
    """Pass everything on, both ways; the base of what changes a part of it.

    ``connect`` comes before anything else. ``log`` is told of the request's end.
    """

    __slots__ = ("_exchange", "_log", "_stream")

    _exchange: Exchange

    def __init__(self, stream: Stream, log: FinishRequest | None) -> None:
        self._stream = stream
        self._log = log

    def connect(self, exchange: Exchange) -> Self:
        """Take the exchange whose stream this is."""
        self._exchange = exchange
        return self

    def finish(
        self, head: RequestHead, scope: Scope, began: float, status: int, size: int
    ) -> None:
        """Take what the exchange says of its end (asgi.types.FinishRequest)."""
        if self._log is not None:
            self._log(head, scope, began, status, size)

    # Upward (interfaces.Exchange).

    @property
    def is_running(self) -> bool:
        """Whether the application's call has not ended."""
        return self._exchange.is_running

    @property
    def held_size(self) -> int:
        """Bytes of content that wait for the application."""
        size: int = getattr(self._exchange, "held_size", 0)
        return size

    def start(self) -> None:
        """Run the application."""
        self._exchange.start()

    def data_received(self, data: bytes) -> None:
        """Take a part of the request's content."""
        self._exchange.data_received(data)

    def eof_received(self) -> None:
        """The request's content is complete."""
        self._exchange.eof_received()

    def pause_writing(self) -> None:
        """The way down is full."""
        self._exchange.pause_writing()

    def resume_writing(self) -> None:
        """The way down takes more again."""
        self._exchange.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone before the response's end."""
        self._exchange.connection_lost(exc)

    def tick(self, now: float) -> None:
        """Let the exchange look at the clock."""
        self._exchange.tick(now)

    def drain(self) -> None:
        """Let the exchange end soon."""
        self._exchange.drain()

    # Downward (interfaces.Stream).

    @property
    def is_writable(self) -> bool:
        """Whether the way down takes more."""
        return self._stream.is_writable

    @property
    def extensions(self) -> Mapping[str, dict[str, Any]]:
        """The ASGI HTTP extensions that work on the stream."""
        return self._stream.extensions

    def send_informational(self, status: int, headers: Headers) -> None:
        """Send an interim response."""
        self._stream.send_informational(status, headers)

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        """Send the head and the first part of the content."""
        self._stream.send_response(status, headers, data, more)

    def send_data(self, data: bytes, more: bool) -> None:
        """Send the next part of the content."""
        self._stream.send_data(data, more)

    def send_trailers(self, headers: Headers) -> None:
        """End the response with a trailer section."""
        self._stream.send_trailers(headers)

    def push(self, path: str, headers: Headers) -> None:
        """Serve a request that the peer did not make."""
        self._stream.push(path, headers)

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> Transport:
        """Accept an upgrade."""
        return self._stream.upgrade(headers, receiver)

    def request_content(self) -> None:
        """Say that the application reads."""
        self._stream.request_content()

    def pause_reading(self) -> None:
        """Deliver no more content until ``resume_reading``."""
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        """Deliver content again."""
        self._stream.resume_reading()

    def abort(self) -> None:
        """Abort the response."""
        self._stream.abort()
