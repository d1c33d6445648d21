"""The fields of HEADERS, added to each response that an exchange gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djserve.conf.syntax import split_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djserve.interfaces import Headers, Stream, Transport, WireProtocol


class AddedFields:
    """The fields that are added, read once."""

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


class _AddingStream:
    """A stream that adds fields to the response's head; a Stream."""

    __slots__ = ("_added", "_stream")

    def __init__(self, stream: Stream, added: AddedFields) -> None:
        self._stream: Any = stream
        self._added = added

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        self._stream.send_response(status, self._added.add(headers), data, more)

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> Transport:
        transport: Transport = self._stream.upgrade(self._added.add(headers), receiver)
        return transport
