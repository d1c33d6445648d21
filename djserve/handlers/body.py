"""The content of a request, from ASGI messages to the file that Django reads.

Small content stays in memory. Larger content goes to a temporary file, whole blocks at
a time and in a thread, so that neither memory nor hops grow with the number of chunks.
"""

from __future__ import annotations

import asyncio
import tempfile
from io import SEEK_END, BytesIO
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from django.http import HttpRequest

    from djserve.asgi.types import Message, Receive, Scope

BLOCK_SIZE = 1024 * 1024
"""Bytes that are collected before they are written to the temporary file."""


class ContentTooLarge(Exception):
    """The content is beyond the server's limit; nothing of it is kept."""


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


async def read_body(
    receive: Receive, memory_limit: int, limit: int | None
) -> IO[bytes] | None:
    """Return all of the content as a file at its start; None if the client has gone.

    More than ``memory_limit`` bytes go to a file on disk. Raises ContentTooLarge for
    more than ``limit``.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        data = message.get("body", b"")
        if len(data) <= memory_limit and (limit is None or len(data) <= limit):
            return BytesIO(data)
    spool = _Spool(memory_limit, limit)
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

    def __init__(self, memory_limit: int, limit: int | None) -> None:
        self._memory_limit = memory_limit
        self._limit = limit
        self._chunks: list[bytes] = []
        self._held = 0
        self._total = 0
        self._file: IO[bytes] | None = None

    async def fill(self, message: Message, receive: Receive) -> bool:
        """Take the first message and all that follow; False if the client has gone."""
        while message["type"] != "http.disconnect":
            self._keep(message.get("body", b""))
            more = message.get("more_body", False)
            if self._is_due(last=not more):
                await self._write()
            if not more:
                return True
            message = await receive()
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
        if self._limit is not None and self._total > self._limit:
            raise ContentTooLarge
        if chunk:
            self._chunks.append(chunk)
            self._held += len(chunk)

    def _is_due(self, *, last: bool) -> bool:
        if self._file is None:
            return self._total > self._memory_limit
        return last or self._held >= BLOCK_SIZE

    async def _write(self) -> None:
        chunks, self._chunks, self._held = self._chunks, [], 0
        # Not in the pool: an upload must not wait for views, nor views for an upload.
        self._file = await asyncio.to_thread(_append, self._file, chunks)


def _append(file: IO[bytes] | None, chunks: list[bytes]) -> IO[bytes]:
    if file is None:
        file = tempfile.TemporaryFile(mode="w+b")  # noqa: SIM115 (the caller closes it)
    file.writelines(chunks)
    return file
