"""Files as response content (ASGI extensions Path Send 1.0 and Zero Copy Send 1.0).

A file is read in bounded pieces in a thread, by its offset, so that the event loop
never waits for a disk and nothing but one piece is in memory. A client that reads
nothing holds a descriptor only as long as few do: one connection of HTTP/2 has a
hundred streams.
"""

from __future__ import annotations

import asyncio
import os
import stat
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Self

from djserve.errors import ApplicationError
from djserve.system import READ, open_file_limit, read_at

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from djserve.asgi.types import Message

# One hop to a thread for each piece: large enough to make it cheap beside the copy.
PIECE_SIZE = 256 * 1024


class NamedFile:
    """An open file, in a message for zerocopysend, that is found again by its path.

    djserve closes it if too many are open. To any other server it is the file.
    """

    def __init__(self, file: Any, path: str, status: os.stat_result) -> None:
        self.file = file
        self._path = path
        self._status = status

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def read_again(self, size: int, offset: int) -> bytes:
        """Read a part of the file, which is closed.

        Raises OSError if it is gone, ApplicationError if another took its place.
        """
        descriptor = os.open(self._path, READ)
        try:
            if not os.path.samestat(os.fstat(descriptor), self._status):
                raise ApplicationError("The file was replaced while it was sent")
            data: bytes = read_at(descriptor, size, offset)
            return data
        finally:
            os.close(descriptor)


class FileRange:
    """A range of an open file, read from its beginning to its end.

    ``remaining`` counts the bytes still to be read. ``named`` is the file if it may be
    closed before the range's end, which closes it if it ``is_owned``.
    """

    open_count = 0

    def __init__(
        self,
        descriptor: int,
        offset: int,
        count: int,
        named: NamedFile | None = None,
        *,
        is_owned: bool = False,
    ) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._named = named
        self._is_owned = is_owned
        self._is_open = True
        self.remaining = count

    @classmethod
    async def open(cls, path: str) -> Self:
        """Open the regular file at ``path``, whole. Raises OSError."""
        loop = asyncio.get_running_loop()
        named, size = await loop.run_in_executor(None, _open_regular, path)
        return cls(named.fileno(), 0, size, named, is_owned=True)

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Self:
        """Take the range that a zerocopysend message names; it is not closed here.

        But for a ``NamedFile``, if too many are open.
        """
        offset, count = message.get("offset"), message.get("count")
        for name, value in (("offset", offset), ("count", count)):
            if value is not None and (type(value) is not int or value < 0):
                raise ApplicationError(
                    f"zerocopysend {name} must be an int of 0 or more, got {value!r}"
                )
        try:
            file = message["file"]
            descriptor = file.fileno()
            status = os.fstat(descriptor)
            if offset is None:
                offset = os.lseek(descriptor, 0, os.SEEK_CUR)
        except (KeyError, AttributeError, OSError, ValueError) as error:
            raise ApplicationError(
                f"zerocopysend takes an open file with a descriptor: {error!r}"
            ) from error
        if not stat.S_ISREG(status.st_mode):
            raise ApplicationError("zerocopysend takes a regular file")
        rest = max(0, status.st_size - offset)
        if count is None:
            count = rest
        if message.get("offset") is None:
            # As sendfile does without an offset: the file's own position moves on.
            os.lseek(descriptor, offset + min(count, rest), os.SEEK_SET)
        named = file if type(file) is NamedFile else None
        return cls(descriptor, offset, min(count, rest), named)

    async def read(self) -> bytes:
        """Return the next piece; empty at the end.

        Raises ApplicationError if the file has become shorter or, once it is closed,
        OSError or ApplicationError if it is no longer there.
        """
        size = min(PIECE_SIZE, self.remaining)
        if not size:
            return b""
        loop = asyncio.get_running_loop()
        read: Callable[[int, int], bytes] = partial(read_at, self._descriptor)
        if not self._is_open and self._named is not None:
            read = self._named.read_again
        data = await loop.run_in_executor(None, read, size, self._offset)
        if not data:
            raise ApplicationError("The file became shorter while it was sent")
        self._offset += len(data)
        self.remaining -= len(data)
        return data

    async def send_pieces(
        self, send: Callable[[Message], Awaitable[None]], more: bool
    ) -> None:
        """Send what remains, a piece at a time; ``more`` tells of content after it.

        By the application's own ``send``: the client may go while the file is read.
        """
        while True:
            data = await self.read()
            is_last = not self.remaining
            if self._named is not None and FileRange.open_count > _open_limit():
                # The client may take nothing for long.
                self._close(self._named)
            await send(
                {
                    "type": "http.response.body",
                    "body": data,
                    "more_body": more or not is_last,
                }
            )
            if is_last:
                return

    def skip(self) -> None:
        """Read nothing more: the response has no content."""
        self.remaining = 0

    def __enter__(self) -> Self:
        FileRange.open_count += 1
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_owned and self._named is not None:
            self._close(self._named)
        elif self._is_open:
            self._is_open = False
            FileRange.open_count -= 1

    def _close(self, named: NamedFile) -> None:
        if self._is_open:
            self._is_open = False
            FileRange.open_count -= 1
            named.close()


@cache
def _open_limit() -> float:
    limit = open_file_limit()
    return float("inf") if limit is None else limit


def _open_regular(path: str) -> tuple[NamedFile, int]:
    # A FIFO would block the open; a directory cannot be read.
    descriptor = os.open(path, READ)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ApplicationError(f"pathsend takes a regular file, got {path!r}")
    # It closes itself if the client goes meanwhile, and nothing waits for it any more.
    file = os.fdopen(descriptor, "rb", buffering=0)
    return NamedFile(file, path, status), status.st_size
