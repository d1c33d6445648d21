"""Files that the server can send by itself, instead of through Python."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from django.http import FileResponse, HttpResponseBase

if TYPE_CHECKING:
    from djserve.asgi.types import Message, Scope

PATHSEND = "http.response.pathsend"
ZEROCOPYSEND = "http.response.zerocopysend"


def offers_file_sending(scope: Scope) -> bool:
    """Whether the server has an extension that takes a file."""
    extensions = scope.get("extensions") or ()
    return PATHSEND in extensions or ZEROCOPYSEND in extensions


def plan_file(scope: Scope, response: HttpResponseBase) -> Message | None:
    """Return the message that has the server send the response's file.

    None where the response is no regular file on disk that is sent to its end, or
    where the server cannot. Asks the file system, so it belongs in a thread.
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
    extensions = scope.get("extensions") or ()
    path = _path_of(file, status)
    if PATHSEND in extensions and path is not None and offset == 0:
        return {"type": PATHSEND, "path": path}
    if ZEROCOPYSEND in extensions and _is_raw(file):
        return {"type": ZEROCOPYSEND, "file": file, "offset": offset, "count": count}
    return None


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
    if not isinstance(name, str) or not _is_raw(file):
        return None
    path = os.path.abspath(name)
    try:
        return path if os.path.samestat(os.stat(path), status) else None
    except OSError:
        return None
