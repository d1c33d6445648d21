"""Files as response content (ASGI extensions Path Send 1.0 and Zero Copy Send 1.0).

A file is read in bounded pieces in a thread, by its offset, so that the event loop
never waits for a disk and nothing but one piece is in memory.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Self

from djserve.errors import ApplicationError
from djserve.system import READ, read_at

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from djserve.asgi.types import Message

# One hop to a thread for each piece: large enough to make it cheap beside the copy.
PIECE_SIZE = 256 * 1024


class FileRange:
    """A range of an open file, read from its beginning to its end.

    ``remaining`` counts the bytes still to be read.
    """

    def __init__(self, descriptor: int, offset: int, count: int, owned: bool) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._is_owned = owned
        self.remaining = count

    @classmethod
    async def open(cls, path: str) -> Self:
        """Open the regular file at ``path``, whole. Raises OSError."""
        loop = asyncio.get_running_loop()
        descriptor, size = await loop.run_in_executor(None, _open_regular, path)
        return cls(descriptor, 0, size, owned=True)

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Self:
        """Take the range that a zerocopysend message names; the file stays open."""
        offset, count = message.get("offset"), message.get("count")
        for name, value in (("offset", offset), ("count", count)):
            if value is not None and (type(value) is not int or value < 0):
                raise ApplicationError(
                    f"zerocopysend {name} must be an int of 0 or more, got {value!r}"
                )
        try:
            descriptor = message["file"].fileno()
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
        return cls(descriptor, offset, min(count, rest), owned=False)

    async def read(self) -> bytes:
        """Return the next piece; empty at the end.

        Raises ApplicationError if the file has become shorter.
        """
        size = min(PIECE_SIZE, self.remaining)
        if not size:
            return b""
        loop = asyncio.get_running_loop()
        data: bytes = await loop.run_in_executor(
            None, read_at, self._descriptor, size, self._offset
        )
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
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_owned:
            os.close(self._descriptor)


def _open_regular(path: str) -> tuple[int, int]:
    # A FIFO would block the open; a directory cannot be read.
    descriptor = os.open(path, READ)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ApplicationError(f"pathsend takes a regular file, got {path!r}")
    return descriptor, status.st_size
