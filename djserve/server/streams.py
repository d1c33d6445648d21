"""Streams that see a response's head on its way: they add fields to it or note them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djserve.conf.syntax import split_header
from djserve.instrumentation.notes import RESPONSE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djserve.interfaces import (
        Headers,
        Stream,
        Transport,
        WebTransport,
        WebTransportObserver,
        WireProtocol,
    )


class PassingStream:
    """A stream in front of another one; what it does not define is the other's."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream: Any = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class NotedStream(PassingStream):
    """A stream that notes the response's fields for the logs; a Stream."""

    __slots__ = ("_notes",)

    def __init__(self, stream: Stream, notes: dict[str, Any]) -> None:
        super().__init__(stream)
        self._notes = notes

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        headers = list(headers)
        self._stream.send_response(status, headers, data, more)
        # Only fields that the stream has not refused.
        self._notes[RESPONSE] = headers


class AddedFields:
    """The fields of HEADERS, read once."""

    def __init__(self, headers: Sequence[str]) -> None:
        pairs = [split_header(text) for text in headers]
        self._fields = [
            (name.lower().encode("ascii"), value.encode("ascii"))
            for name, value in pairs
        ]

    def around(self, stream: Stream) -> Stream:
        """Return a stream whose response has them."""
        return _AddingStream(stream, self)

    def add(self, headers: Headers) -> Headers:
        """Return a response's fields with those that it does not have itself."""
        headers = list(headers)
        names = {name.lower() for name, _ in headers}
        return headers + [field for field in self._fields if field[0] not in names]


class _AddingStream(PassingStream):
    """A stream that adds fields to the response's head; a Stream."""

    __slots__ = ("_added",)

    def __init__(self, stream: Stream, added: AddedFields) -> None:
        super().__init__(stream)
        self._added = added

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        self._stream.send_response(status, self._added.add(headers), data, more)

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> Transport:
        transport: Transport = self._stream.upgrade(self._added.add(headers), receiver)
        return transport

    def open_session(
        self, headers: Headers, observer: WebTransportObserver
    ) -> WebTransport:
        fields = self._added.add(headers)
        session: WebTransport = self._stream.open_session(fields, observer)
        return session
