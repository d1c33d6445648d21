"""What one process writes to another: frames of a kind, a name and a payload.

Both ends are processes of one machine and one version of this format (the folder's
name holds it), so numbers are in the machine's own order. It knows nothing of sockets.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

VERSION = 1
"""Processes of different versions do not see each other: raise it with each change."""

_HEADER = struct.Struct("=IBBd")


class FrameKind(IntEnum):
    """What the receiver does with a frame."""

    CHANNEL = 1
    GROUP = 2
    JOIN = 3
    LEAVE = 4
    FLUSH = 5


_KINDS = {kind.value: kind for kind in FrameKind}


class Frame(NamedTuple):
    """The name is a channel's or a group's; of JOIN and LEAVE the payload is a channel.

    ``expires`` is a moment of the monotonic clock, which the processes share.
    """

    kind: FrameKind
    name: str
    expires: float
    payload: bytes


class FrameError(Exception):
    """What has come is not a frame; nothing after it can be read."""


def pack_frame(kind: FrameKind, name: str, expires: float, payload: bytes) -> bytes:
    """Return the bytes of a frame."""
    text = name.encode("ascii")
    size = len(text) + len(payload)
    return _HEADER.pack(size, kind, len(text), expires) + text + payload


def frame_size(name: str, payload: bytes) -> int:
    """Return how many bytes ``pack_frame`` makes of a name and a payload."""
    return _HEADER.size + len(name) + len(payload)


class FrameReader:
    """Cut what one connection brings into frames, at a cost linear in its bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = b""
        self._at = 0
        # Parts of a frame that is not there as a whole, joined once it is.
        self._parts: list[bytes] = []
        self._missing = 0

    def feed(self, data: bytes) -> None:
        """Add bytes; ``take`` is to have returned None before."""
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts = []
        self._data = data
        self._at = 0

    def take(self) -> Frame | None:
        """Return the next frame, None if more bytes are needed for it.

        Raises FrameError for what is none, and for one larger than the limit.
        """
        data, at = self._data, self._at
        start = at + _HEADER.size
        if len(data) < start:
            self._set_aside(start - len(data))
            return None
        size, number, name_size, expires = _HEADER.unpack_from(data, at)
        kind = _KINDS.get(number)
        if kind is None or size + _HEADER.size > self._limit or name_size > size:
            raise FrameError(f"no frame begins with {data[at:start]!r}")
        end = start + size
        if len(data) < end:
            self._set_aside(end - len(data))
            return None
        self._at = end
        middle = start + name_size
        try:
            name = data[start:middle].decode("ascii")
        except UnicodeDecodeError as error:
            raise FrameError("the name of a frame is not ASCII") from error
        return Frame(kind, name, expires, data[middle:end])

    def _set_aside(self, missing: int) -> None:
        if self._at < len(self._data):
            self._parts = [self._data[self._at :]]
            self._missing = missing
        self._data = b""
        self._at = 0
