"""Files that the application names in X-Accel-Redirect: it authorises, djserve sends.

The field is nginx's. What it names is below one of the prefixes of FILES_INTERNAL,
which no client can ask for. Files are looked up when they are named, unlike those of
``files.table``: they come and go while the server runs.
"""

# What a name in a header may reach
#
# The application has decided that this user may have this file; all that is left is to
# send that one, and no other. Its name often contains what a user has typed, so:
#
# - A client cannot ask for a prefix itself (``check_request``), encoded or not: the
#   folder has no public address.
# - ``..`` and NUL name nothing. What remains is resolved with all links, and must lie
#   below the folder, which was resolved in the same way when the server started.
# - Only a regular file is sent. A FIFO would block, and a device never ends.
# - The path is not taken from a cache, and neither is the content: the next request may
#   be another user's.
#
# The fields are of two kinds. Those that describe the content (length, ETag, coding,
# digests) are the file's now; the rest (cookies, Content-Disposition, and the media
# type unless it is empty) is the application's and stays. Without Cache-Control or
# Expires the response is "private", or a shared cache might keep one user's file for
# the next (RFC 9111 section 4.2.2).
#
# A file is sent instead of a response that succeeded. nginx sends it whatever the
# status is, but a middleware that turns a finished response into 403 keeps its fields.
# The status is then the file's own, such as 200, 206 or 304.
#
# The application's call runs on without a reader. If its response has more parts, it is
# told that its client has gone, in a later turn of the loop: it is inside of ``send``
# at this moment. The access log gets one entry, for the file, with the time since the
# request began.

from __future__ import annotations

import errno
import logging
import os
import stat
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from djserve.errors import ProtocolError
from djserve.files.exchange import FileExchange, FileService
from djserve.files.media_types import guess_content_type
from djserve.files.table import File, Folder, represent
from djserve.protocols.headers import encode_fields
from djserve.responses.filter import ResponseFilter
from djserve.system import open_file_limit

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from djserve.asgi.types import FinishRequest, Scope
    from djserve.files.table import Representation
    from djserve.interfaces import Headers, RequestHead, Stream

logger = logging.getLogger("djserve.error")

FIELD = b"x-accel-redirect"

_NOT_KEPT = frozenset(
    {
        b"accept-ranges",
        b"connection",
        b"content-digest",
        b"content-encoding",
        b"content-length",
        b"content-md5",
        b"content-range",
        b"digest",
        b"etag",
        b"last-modified",
        b"repr-digest",
        b"transfer-encoding",
        b"x-accel-buffering",
        b"x-accel-charset",
        b"x-accel-expires",
        b"x-accel-limit-rate",
        FIELD,
    }
)
"""Fields that describe the application's own content, or are for nginx alone."""

_STATUSES = {
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.EISDIR: 404,
    errno.ELOOP: 404,
    errno.ENAMETOOLONG: 404,
    errno.EINVAL: 404,
}
"""What a file that cannot be sent is answered with, as nginx does."""

_TEXTS = {403: b"Forbidden", 404: b"Not Found", 500: b"Internal Server Error"}


@dataclass(eq=False, slots=True)
class PrivateFile(File):
    """A file for one response, which keeps the fields that the application has set."""

    kept: Headers = field(default_factory=list)


class PrivateFiles:
    """The folders of FILES_INTERNAL, by prefix (files.exchange.Source)."""

    def __init__(
        self, folders: Sequence[tuple[str, str]], loop: asyncio.AbstractEventLoop
    ) -> None:
        roots = {
            os.fsencode(prefix): Folder(prefixes=(prefix,), path=os.path.realpath(path))
            for prefix, path in folders
        }
        # The longest first: one prefix may begin with another.
        self._folders = dict(sorted(roots.items(), key=lambda item: -len(item[0])))
        self._prefixes = tuple(self._folders)
        self.service = FileService(self, loop, open_file_limit())

    def check_request(self, raw_path: bytes) -> None:
        """Raise ProtocolError (404) for a client that asks for a prefix itself."""
        if b"%" in raw_path:
            raw_path = unquote_to_bytes(raw_path)
        if raw_path.startswith(self._prefixes):
            raise ProtocolError("Not found", status=404, setting="FILES_INTERNAL")

    def find(self, target: bytes, kept: Headers) -> PrivateFile:
        """Return the file that a field's value names. Raises OSError.

        A path with ``..`` or NUL names none, as with nginx. A link is followed inside
        its folder alone.
        """
        path = unquote_to_bytes(target.partition(b"?")[0])
        folder, name = self._split(path)
        if b"\0" in path or b".." in name.split(b"/"):
            raise OSError(errno.EINVAL, "the path is not safe")
        if not name or name.endswith(b"/"):
            raise OSError(errno.EISDIR, "it is a folder's path")
        found = _resolve(folder, os.fsdecode(name))
        file = PrivateFile(os.fsdecode(name), found, folder, kept=kept)
        file.representations = (_describe(file),)
        return file

    def refresh(self, file: File) -> bool:
        """Describe a file that has changed; return whether it is still there.

        A link that leads out may have taken its place, or that of a folder around it.
        """
        assert isinstance(file, PrivateFile)
        try:
            file.path = _resolve(file.folder, file.name)
            file.representations = (_describe(file),)
        except OSError:
            return False
        return True

    def keep(self, file: File, representation: Representation, content: bytes) -> None:
        """Keep nothing: the next request may be another user's, for another file."""

    def _split(self, path: bytes) -> tuple[Folder, bytes]:
        for prefix, folder in self._folders.items():
            if path.startswith(prefix):
                return folder, path[len(prefix) :].lstrip(b"/")
        raise OSError(errno.EINVAL, "no prefix of FILES_INTERNAL fits")


class PrivateResponse(ResponseFilter):
    """Send the file that a response names, instead of the response's content."""

    __slots__ = (
        "_began",
        "_files",
        "_head",
        "_is_lost",
        "_redirected",
        "_scope",
        "_sending",
    )

    def __init__(
        self,
        files: PrivateFiles,
        head: RequestHead,
        scope: Scope,
        stream: Stream,
        log: FinishRequest | None,
    ) -> None:
        super().__init__(stream, log)
        self._scope = scope
        self._began = 0.0 if log is None else perf_counter()
        self._files = files
        self._head = head
        self._is_lost = False
        self._redirected = False
        self._sending: FileExchange | None = None

    @property
    def is_running(self) -> bool:
        """Whether the application's call or the file has not ended."""
        sending = self._sending
        return self._exchange.is_running or (sending is not None and sending.is_running)

    @property
    def is_writable(self) -> bool:
        """Whether the way down takes more; nothing once the file has its place."""
        return not self._redirected and self._stream.is_writable

    def resume_writing(self) -> None:
        """Send the file on, or let the application do so."""
        if self._sending is not None:
            self._sending.resume_writing()
        else:
            self._exchange.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone before the response's end."""
        if self._sending is not None:
            self._sending.connection_lost(exc)
        self._leave(exc)

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        """Send the response, or the file that it names.

        Unlike nginx, which sends the file whatever the status is: a middleware that
        turns a view's finished response into 403 leaves the field in it.
        """
        target = _find_target(headers)
        if target is not None and not 200 <= status < 300:
            self._warn_of_status(target, status)
            headers = _without_target(headers)
            target = None
        if target is None:
            self._stream.send_response(status, headers, data, more)
            return
        kept = _keep_fields(headers)
        try:
            file = self._files.find(target, kept)
        except OSError as error:
            self._redirected = True
            self._refuse(target, error)
        else:
            self._redirected = True
            self._send(file)
        if more:
            # Once the exchange has noted the part: nothing that follows has a reader.
            self._files.service.loop.call_soon(self._leave, None)

    def send_data(self, data: bytes, more: bool) -> None:
        """Send a part of a response that names no file."""
        if not self._redirected:
            self._stream.send_data(data, more)

    def send_trailers(self, headers: Headers) -> None:
        """End a response that names no file."""
        if not self._redirected:
            self._stream.send_trailers(headers)

    def abort(self) -> None:
        """Abort the response, unless the file is on its way."""
        if not self._redirected:
            self._stream.abort()

    def _leave(self, exc: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._exchange.connection_lost(exc)

    def _send(self, file: PrivateFile) -> None:
        # As nginx does: what was posted to the view is not asked of the file.
        method = "HEAD" if self._head.method == "HEAD" else "GET"
        sending = FileExchange(
            self._files.service,
            file,
            self._head,
            self._stream,
            self._finish_file,
            method,
        )
        self._sending = sending
        sending.start()

    def _refuse(self, target: bytes, error: OSError) -> None:
        status = _STATUSES.get(error.errno or 0, 500)
        logger.error(
            "Cannot send %s, which %s %s names in X-Accel-Redirect: %s",
            target.decode("utf-8", "backslashreplace"),
            self._head.method,
            self._head.raw_path.decode("latin-1"),
            error.strerror,
        )
        fields = [(b"content-type", b"text/plain; charset=utf-8")]
        content = _TEXTS[status]
        self._stream.send_response(status, fields, content, more=False)
        self._finish_file(0.0, status, len(content))

    def _warn_of_status(self, target: bytes, status: int) -> None:
        logger.warning(
            "Did not send %s, which %s %s names in X-Accel-Redirect: the response's "
            "status is %d",
            target.decode("utf-8", "backslashreplace"),
            self._head.method,
            self._head.raw_path.decode("latin-1"),
            status,
        )

    def finish(
        self, head: RequestHead, scope: Scope, began: float, status: int, size: int
    ) -> None:
        """Note the end of the application's response, if that was sent."""
        if not self._redirected:
            super().finish(head, scope, began, status, size)

    def _finish_file(self, _: float, status: int, size: int) -> None:
        # From the request's beginning, not from the file's.
        if self._log is not None:
            self._log(self._head, self._scope, self._began, status, size)


def _find_target(headers: Headers) -> bytes | None:
    """Return the value of the field, None if there is none."""
    for pair in headers:
        try:
            name, value = pair
            if len(name) == len(FIELD) and name.lower() == FIELD:
                return bytes(value)
        except (TypeError, ValueError, AttributeError):
            # Not a field at all: the stream has an error for that.
            return None
    return None


def _without_target(headers: Headers) -> Headers:
    """Return the fields without the one that is for the server alone.

    Raises ApplicationError for a malformed field.
    """
    encode_fields(headers)
    return [pair for pair in headers if bytes(pair[0]).lower() != FIELD]


def _keep_fields(headers: Headers) -> Headers:
    """Return the application's fields that hold for the file as well.

    Raises ApplicationError for a malformed field.
    """
    encode_fields(headers)
    kept = []
    for name, value in headers:
        lowered = bytes(name).lower()
        if lowered not in _NOT_KEPT and (lowered != b"content-type" or value):
            kept.append((lowered, value))
    return kept


def _resolve(folder: Folder, name: str) -> str:
    """Return the path of a folder's file without links. Raises OSError."""
    found = os.path.realpath(os.path.join(folder.path, name))
    if not found.startswith(folder.path.rstrip("/") + "/"):
        raise OSError(errno.ELOOP, "it is outside of its folder")
    return found


def _describe(file: PrivateFile) -> Representation:
    status = os.stat(file.path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EISDIR, "it is not a regular file")
    if not os.access(file.path, os.R_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    names = {name for name, _ in file.kept}
    kept = [pair for pair in file.kept if pair[0] != b"content-type"]
    if names.isdisjoint((b"cache-control", b"expires")):
        # RFC 9111 4.2.2: a cache in between may guess, and this is one user's file.
        kept.append((b"cache-control", b"private"))
    types = [value for name, value in file.kept if name == b"content-type"]
    content_type = types[0] if types else guess_content_type(file.path).encode("ascii")
    described = represent(file.path, b"", status, content_type, kept)
    if b"x-content-type-options" in names:
        described.fields.remove((b"x-content-type-options", b"nosniff"))
    return described
