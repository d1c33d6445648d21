"""Files that the server can send by itself, instead of through Python."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from django.http import FileResponse, HttpResponseBase

from djserve.handlers.ranges import answer_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djserve.asgi.types import Message, Scope

PATHSEND = "http.response.pathsend"
ZEROCOPYSEND = "http.response.zerocopysend"


def plan_file(scope: Scope, response: HttpResponseBase) -> Message | None:
    """Return the message that has the server send the response's file.

    A response that is the whole of a regular file on disk answers the request's range
    first (``ranges``). None if the response is no such file, or the server cannot send
    it. Asks the file system, so it belongs in a thread.
    """
    if not isinstance(response, FileResponse):
        return None
    # None as well once a middleware has put another iterator in the file's place.
    file = response.file_to_stream
    if file is None:
        return None
    try:
        status = os.fstat(file.fileno())
        offset = file.tell()
    except (AttributeError, OSError, ValueError):
        return None
    count = status.st_size - offset
    if not stat.S_ISREG(status.st_mode) or not _is_whole(response, count):
        return None
    if not _is_raw(file):
        return None
    extensions = scope.get("extensions") or ()
    part = answer_range(scope, response, count)
    if part is not None:
        offset += part.start
        count = len(part)
        response.streaming_content = _read_part(file, offset, count, response)
        if not count:
            return None
    elif PATHSEND in extensions and offset == 0:
        path = _path_of(file, status)
        if path is not None:
            return {"type": PATHSEND, "path": path}
    if ZEROCOPYSEND in extensions:
        return {"type": ZEROCOPYSEND, "file": file, "offset": offset, "count": count}
    return None


def _read_part(
    file: Any, offset: int, count: int, response: FileResponse
) -> Iterator[bytes]:
    """Yield a part of the file, for a server that cannot send one by itself."""
    if count:
        file.seek(offset)
    while count:
        data = file.read(min(count, response.block_size))
        if not data:
            return
        count -= len(data)
        yield data


def _is_whole(response: FileResponse, count: int) -> bool:
    length = response.get("Content-Length")
    return length is not None and length == str(count)


def _is_raw(file: Any) -> bool:
    """Whether reading the file gives the bytes on disk, as a gzip file does not."""
    module = type(file).__module__
    if module.startswith("django.core.files"):
        return _is_raw(file.file)
    return module in ("_io", "io")


def _path_of(file: Any, status: os.stat_result) -> str | None:
    """Return the file's path, if that still leads to the same file."""
    name = getattr(file, "name", None)
    if not isinstance(name, str):
        return None
    path = os.path.abspath(name)
    try:
        return path if os.path.samestat(os.stat(path), status) else None
    except OSError:
        return None
