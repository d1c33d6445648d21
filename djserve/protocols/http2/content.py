"""Content that waits to be sent: chunks in, frames' worth out."""

from __future__ import annotations

from collections import deque


class ContentQueue:
    """Chunks in order, taken in pieces of any size. ``size`` is what waits."""

    __slots__ = ("_chunks", "_offset", "size")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._offset = 0
        self.size = 0

    def append(self, data: bytes) -> None:
        """Add a non-empty chunk."""
        self._chunks.append(data)
        self.size += len(data)

    def clear(self) -> None:
        """Drop all."""
        self._chunks.clear()
        self._offset = self.size = 0

    def take(self, limit: int) -> bytes | memoryview:
        """Return the next content, at most ``limit`` bytes; there must be some.

        A part of a chunk is a view of it, so that it is copied only where it is sent.
        """
        data: bytes | memoryview
        first = self._chunks[0]
        room = len(first) - self._offset
        if room > limit:
            data = memoryview(first)[self._offset : self._offset + limit]
            self._offset += limit
        elif room == limit or len(self._chunks) == 1:
            self._chunks.popleft()
            data = memoryview(first)[self._offset :] if self._offset else first
            self._offset = 0
        else:
            data = self._take_several(limit)
        self.size -= len(data)
        return data

    def _take_several(self, limit: int) -> bytes:
        """Join chunks up to ``limit``: small ones share a frame."""
        parts: list[bytes] = []
        while limit and self._chunks:
            chunk = self._chunks[0]
            part = chunk[self._offset : self._offset + limit]
            parts.append(part)
            limit -= len(part)
            self._offset += len(part)
            if self._offset == len(chunk):
                self._chunks.popleft()
                self._offset = 0
        return b"".join(parts)
