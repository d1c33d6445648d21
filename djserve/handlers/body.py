"""The content of a request, from ASGI messages to the file that Django reads.

Small content stays in memory. Larger content goes to a temporary file, whole blocks at
a time and in a thread, so that neither memory nor hops grow with the number of chunks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import IO, TYPE_CHECKING

from djserve.handlers.disk import SpooledFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.http import HttpRequest

    from djserve.asgi.types import Message, Receive, Scope

BLOCK_SIZE = 1024 * 1024
"""Bytes that are collected before they are written to the temporary file."""


class ContentRefused(Exception):
    """The content is not read to its end; nothing of it is kept."""

    status: int
    text: str


class ContentTooLarge(ContentRefused):
    """The content is beyond the server's limit."""

    status, text = 413, "413 Payload too large"


class ContentTooSlow(ContentRefused):
    """The content has not arrived within its time."""

    status, text = 408, "408 Request Timeout"


class DiskSpaceTaken(ContentRefused):
    """Too much content of all requests is in temporary files already."""

    status, text = 503, "503 Service Unavailable"


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """How much content is read, where to, and for how long.

    More than ``memory`` bytes go to a file on disk. ``is_wanted`` is asked before that
    once: content that nothing reads is received and dropped.
    """

    memory: int
    size: int | None = None
    disk: int | None = None
    seconds: float | None = None
    is_wanted: Callable[[], Awaitable[bool]] | None = None


def declared_length(scope: Scope) -> int:
    """Return the request's Content-Length, 0 where there is none that is a number."""
    for name, value in scope.get("headers", ()):
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def set_content_length(request: HttpRequest, body: IO[bytes]) -> None:
    """Give a request whose client declared no length that of what was read.

    Chunked and HTTP/2 content may come without one, and Django's form parsers, REST
    framework and all code written for WSGI take such content for none. WSGI behind a
    buffering proxy sees a length, too.
    """
    if "CONTENT_LENGTH" in request.META:
        return
    length = body.seek(0, SEEK_END)
    if length:
        request.META["CONTENT_LENGTH"] = str(length)
        body.seek(0)


def take_whole(message: Message, memory_limit: int, limit: int) -> IO[bytes] | None:
    """Return the content if a request's first message has all of it, and it is small.

    Nearly all requests end here, without the price of ``read_body``.
    """
    if message["type"] != "http.request" or message.get("more_body", False):
        return None
    data = message.get("body", b"")
    return BytesIO(data) if len(data) <= memory_limit and len(data) <= limit else None


async def read_body(
    message: Message, receive: Receive, limits: ContentLimits
) -> IO[bytes] | None:
    """Return all of the content as a file at its start; None if the client has gone.

    ``message`` is the first one. Raises ContentRefused for content beyond a limit.
    """
    spool = _Spool(limits)
    try:
        complete = await spool.fill(message, receive)
    except BaseException:
        spool.close()
        raise
    if not complete:
        spool.close()
        return None
    return spool.rewind()


class _Spool:
    """Content on its way into memory, or by blocks into a file."""

    def __init__(self, limits: ContentLimits) -> None:
        self._limits = limits
        self._chunks: list[bytes] = []
        self._held = 0
        self._total = 0
        self._file: SpooledFile | None = None
        self._is_dropping = False

    async def fill(self, message: Message, receive: Receive) -> bool:
        """Take the first message and all that follow; False if the client has gone."""
        seconds = self._limits.seconds
        now = asyncio.get_running_loop().time
        deadline = None if seconds is None else now() + seconds
        while message["type"] != "http.disconnect":
            self._keep(message.get("body", b""))
            more = message.get("more_body", False)
            if self._is_due(last=not more):
                await self._write()
            if not more:
                return True
            message = await receive()
            # By its arrivals, and no timer: the least rate sees to it that some come.
            if deadline is not None and now() > deadline:
                raise ContentTooSlow
        return False

    def rewind(self) -> IO[bytes]:
        """Return the content as a file at its start."""
        if self._file is None:
            return BytesIO(b"".join(self._chunks))
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Throw the content away."""
        self._chunks.clear()
        if self._file is not None:
            self._file.close()

    def _keep(self, chunk: bytes) -> None:
        self._total += len(chunk)
        limit = self._limits.size
        if limit is not None and self._total > limit:
            raise ContentTooLarge
        if chunk and not self._is_dropping:
            self._chunks.append(chunk)
            self._held += len(chunk)

    def _is_due(self, *, last: bool) -> bool:
        if self._file is None:
            return self._total > self._limits.memory and not self._is_dropping
        return last or self._held >= BLOCK_SIZE

    async def _write(self) -> None:
        limits = self._limits
        if self._file is None:
            if limits.is_wanted is not None and not await limits.is_wanted():
                self._is_dropping = True
                self._chunks.clear()
                return
            self._file = await asyncio.to_thread(SpooledFile)
        chunks, size, self._chunks, self._held = self._chunks, self._held, [], 0
        if not self._file.claim(size, limits.disk):
            raise DiskSpaceTaken
        # Not in the pool: an upload must not wait for views, nor views for an upload.
        await asyncio.to_thread(self._file.writelines, chunks)
