"""Request content out of its framing (RFC 9112 sections 6 and 7), as it arrives.

Each decoder takes bytes as they come, in any pieces, and gives the content's pieces.
Framing is where smuggling lives, so nothing here is lenient: a chunk size is hex digits
only, a line ends with CRLF only, and everything around the content is bounded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from djserve.errors import ProtocolError
from djserve.protocols.grammar import content_too_large

if TYPE_CHECKING:
    from djserve.conf.schema import HTTPConfig
    from djserve.interfaces import RequestHead

# Chunk-ext is skipped, yet each byte of it is work for nothing (CVE-2023-39326's kind):
# one line is bounded, and so are the extensions of one request in total.
CHUNK_LINE_LIMIT = 256
CHUNK_EXTENSIONS_LIMIT = 16 * 1024

# Some milliseconds' worth; a peer may send a chunk in six bytes.
_CHUNKS_AT_A_TIME = 1024

# RFC 9112 section 7.1: 1*HEXDIG [ chunk-ext ]; no sign, no prefix, no leading blank.
_match_chunk_line = re.compile(
    rb"([0-9A-Fa-f]{1,16})[ \t]*((?:;[\t\x20-\x7e\x80-\xff]*)?)"
).fullmatch
_is_trailer = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*"
).fullmatch


class BodyDecoder(Protocol):
    """What a connection asks of either framing."""

    is_complete: bool
    is_spent: bool
    """Whether there is more than is decoded at a time: ``feed`` nothing."""
    rest: bytes
    """What followed the content in the last piece; set once ``is_complete``."""

    @property
    def held_size(self) -> int:
        """Bytes that have come and are not decoded yet."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the content in ``data``. Raises ProtocolError."""


def open_body(head: RequestHead, config: HTTPConfig) -> BodyDecoder:
    """Return the decoder for a request's content. Raises ProtocolError (413)."""
    limit = config.body_size_limit
    if head.content_length is None:
        return ChunkedDecoder(limit, config.header_size_limit)
    if head.content_length > limit:
        raise content_too_large()
    return LengthDecoder(head.content_length)


class LengthDecoder:
    """Content with a Content-Length: exactly so many bytes."""

    __slots__ = ("_remaining", "is_complete", "rest")
    is_spent = False
    held_size = 0

    def __init__(self, length: int) -> None:
        self._remaining = length
        self.is_complete = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        remaining = self._remaining - len(data)
        if remaining > 0:
            self._remaining = remaining
            return [data]
        self.is_complete = True
        if remaining == 0:
            return [data]
        self.rest = data[remaining:]
        return [data[:remaining]]


class ChunkedDecoder:
    """Content in chunks, of at most ``limit`` bytes, with a trailer section to skip."""

    __slots__ = (
        "_buffer",
        "_expect",
        "_extensions",
        "_limit",
        "_remaining",
        "_total",
        "_trailer_limit",
        "_trailer_size",
        "is_complete",
        "is_spent",
        "rest",
    )

    def __init__(self, limit: int, trailer_limit: int) -> None:
        self._buffer = b""
        self._expect = self._size_line
        self._remaining = 0
        self._total = 0
        self._limit = limit
        self._extensions = 0
        self._trailer_limit = trailer_limit
        self._trailer_size = 0
        self.is_complete = False
        self.is_spent = False
        self.rest = b""

    @property
    def held_size(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        chunks: list[bytes] = []
        data = self._buffer + data if self._buffer else data
        position = 0
        self.is_spent = False
        while not self.is_complete:
            used = self._expect(data, position, chunks)
            if used < 0:
                break
            position = used
            if len(chunks) >= _CHUNKS_AT_A_TIME:
                self.is_spent = True
                break
        self._buffer = b"" if self.is_complete else data[position:]
        self.rest = data[position:] if self.is_complete else b""
        return chunks

    # Each step takes what it can at ``position`` and returns the next position, or -1
    # if more bytes are needed.

    def _size_line(self, data: bytes, position: int, chunks: list[bytes]) -> int:
        line, after = _take_line(data, position, CHUNK_LINE_LIMIT, "chunk size line")
        if after < 0:
            return -1
        match = _match_chunk_line(line)
        if match is None:
            raise ProtocolError(f"Malformed chunk size line {line!r:.100}")
        self._extensions += len(match[2])
        if self._extensions > CHUNK_EXTENSIONS_LIMIT:
            raise ProtocolError("Too many chunk extensions")
        self._remaining = int(match[1], 16)
        self._total += self._remaining
        if self._total > self._limit:
            raise content_too_large()
        self._expect = self._data if self._remaining else self._trailer_line
        return after

    def _data(self, data: bytes, position: int, chunks: list[bytes]) -> int:
        available = len(data) - position
        if not available:
            return -1
        if available < self._remaining:
            self._remaining -= available
            chunks.append(data[position:] if position else data)
            return len(data)
        end = position + self._remaining
        chunks.append(data[position:end])
        self._expect = self._data_end
        return end

    def _data_end(self, data: bytes, position: int, chunks: list[bytes]) -> int:
        end = data[position : position + 2]
        if end == b"\r\n":
            self._expect = self._size_line
            return position + 2
        if end and end != b"\r":
            raise ProtocolError("Chunk is longer than its size")
        return -1

    def _trailer_line(self, data: bytes, position: int, chunks: list[bytes]) -> int:
        # RFC 9110 section 6.5.1: trailers may be dropped; ASGI has no place for a
        # request's. They are checked all the same, for what follows them.
        room = self._trailer_limit - self._trailer_size
        try:
            line, after = _take_line(data, position, room, "trailer section")
        except ProtocolError as error:
            if "longer" not in error.reason:
                raise
            raise ProtocolError(
                error.reason, 431, setting="HEADER_SIZE_LIMIT"
            ) from None
        if after < 0:
            return -1
        self._trailer_size += after - position
        if not line:
            self.is_complete = True
        elif not _is_trailer(line):
            raise ProtocolError(f"Malformed trailer field {line!r:.100}")
        return after


def _take_line(data: bytes, position: int, limit: int, what: str) -> tuple[bytes, int]:
    """Return the line at ``position`` and the position after it, -1 if incomplete.

    Raises ProtocolError for a bare CR or LF and for a line beyond ``limit`` bytes.
    """
    end = data.find(b"\n", position, position + limit + 2)
    if end < 0:
        tail = data[position : position + limit + 2]
        if 13 in tail[:-1]:
            raise ProtocolError(f"Bare CR in the {what}")
        if len(tail) > limit + 1:
            raise ProtocolError(f"The {what} is longer than {limit} bytes")
        return b"", -1
    line = data[position : end - 1] if end > position else b""
    if end == position or data[end - 1] != 13 or 13 in line:
        raise ProtocolError(f"Bare CR or LF in the {what}")
    return line, end + 1
