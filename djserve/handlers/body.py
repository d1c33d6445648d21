"""The content of a request, from ASGI messages to the file that Django reads.

Small content stays in memory. Larger content goes to a temporary file, whole blocks at
a time and in a thread, so that neither memory nor hops grow with the number of chunks.

Large content is received before the view runs. If Django is going to answer 404 or 405
whatever it is, it need not be kept (``may_be_read``). In doubt it is: the answer must
stay the same.
"""

# Why content is received before the view
#
# Django reads a request's content from a file. Its own handler for ASGI fills that file
# first, too; a synchronous view that had to wait for content would hold a thread, and a
# database connection, for as long as a client likes to take. So a thread is only taken
# for a request that is complete, and a slow upload costs memory or disk instead. Both
# have their bounds, and each refusal is its own answer:
#
# - In memory up to ``memory`` bytes, then whole blocks in a file. The file has no name,
#   so what a killed process leaves behind is freed by the system.
# - ``size`` for one request: 413. A declared length is refused before anything is read
#   (``http1.body``, and the same over HTTP/2), one that is not declared when it is
#   passed.
# - ``disk`` for all requests of the process: 503. Space is claimed before it is
#   written, under a lock, since two uploads that ask at the same time must not both get
#   the last of it. It is given back when the file is closed.
# - ``seconds`` for all of it to arrive: 408. There is no timer. The least rate of the
#   connection ensures that something arrives, or the connection ends.
#
# The file is written in threads of asyncio's own executor, not of the pool: uploads
# would wait there for views, and views for uploads. A block of a mebibyte at a time
# makes the number of hops depend on the size of the content, not on the number of its
# chunks.
#
# Content that nothing will read need not be kept. ``may_be_read`` looks for that once,
# before the file is made: a path that leads to a 404, or a class of views without the
# method. It has to be sure, since middleware, a handler for errors or a decorator may
# read the content of any request. Only code that is known by name counts as not reading
# it.

from __future__ import annotations

import asyncio
import io
import logging
import tempfile
import time
from io import SEEK_END, BytesIO
from typing import IO, TYPE_CHECKING, Any

from django.conf import settings
from django.urls import Resolver404, get_resolver
from django.views import View, defaults
from django.views.decorators.csrf import csrf_exempt

from djserve.handlers.routing import Route, lookup_of, path_info
from djserve.instrumentation import spooled
from djserve.values import Values

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


class ContentLimits(Values):
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
    """Return the request's Content-Length, 0 if there is none that is a number."""
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
            # By its arrivals, and no timer: the least rate ensures that some come.
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


logger = logging.getLogger("djserve")

_LOG_INTERVAL = 60.0

_next_log = 0.0


def note_full_disk() -> None:
    """Log that requests are refused, once in a while."""
    global _next_log
    now = time.monotonic()
    if now >= _next_log:
        _next_log = now + _LOG_INTERVAL
        logger.warning(
            "Uploads are refused with 503: %d bytes of content are in temporary files "
            "(UPLOAD_DISK_LIMIT)",
            spooled.spooled_size(),
        )


class SpooledFile(io.BufferedRandom):
    """A file without a name; its space counts until it is closed."""

    def __init__(self) -> None:
        super().__init__(tempfile.TemporaryFile(mode="w+b", buffering=0))  # noqa: SIM115
        self._claimed = 0

    def claim(self, size: int, limit: int | None) -> bool:
        """Ask for space before it is written to; False if all files have too much."""
        if not spooled.claim(size, limit):
            return False
        self._claimed += size
        return True

    def close(self) -> None:
        """Give the space back."""
        claimed, self._claimed = self._claimed, 0
        spooled.release(claimed)
        super().close()


_CSRF = "django.middleware.csrf.CsrfViewMiddleware"
_CSRF_FAILURE = "django.views.csrf.csrf_failure"

_BLIND_PACKAGES = frozenset({"corsheaders", "django", "whitenoise"})
"""Packages whose middleware reads no content, but for CSRF's, and changes no URLs."""


def _code_of(view: Any) -> Any:
    return getattr(view, "__code__", None)


_EXEMPTING = frozenset({_code_of(csrf_exempt(lambda request: None))})
"""What stands around a view that the check against CSRF is turned off for."""


def may_be_read(scope: Scope, route: Route | None) -> bool:
    """Return whether the content may matter; ``route`` is what was found for it."""
    if any(path.partition(".")[0] not in _BLIND_PACKAGES for path in _middleware()):
        return True
    if route is None:
        return not _is_missing(scope)
    if route.is_view_alone:
        return True
    return not (_is_refused(scope["method"], route) and not _reads_token(scope, route))


def _middleware() -> list[str]:
    return list(settings.MIDDLEWARE)


def _is_missing(scope: Scope) -> bool:
    """Return whether the path leads nowhere, in any language, and gets Django's 404."""
    try:
        resolver = get_resolver(settings.ROOT_URLCONF)
        lookup = lookup_of(resolver)
        if lookup.follows_language or not lookup.is_djangos:
            return False
        resolver.resolve(path_info(scope))
    except Resolver404:
        handler: Any = resolver.resolve_error_handler(404)
        return handler is defaults.page_not_found
    except Exception:
        # Django comes to the same point later and knows how to answer.
        return False
    return False


def _is_refused(method: str, route: Route) -> bool:
    """Return whether the view is a class that has no such method, and nothing else."""
    view: Any = route.match.func
    while _code_of(view) in _EXEMPTING:
        view = view.__wrapped__
    view_class = getattr(view, "view_class", None)
    if (
        # A decorator may read content before the class is asked.
        hasattr(view, "__wrapped__")
        or not isinstance(view_class, type)
        or not issubclass(view_class, View)
        or view_class.dispatch is not View.dispatch
        or view_class.setup is not View.setup
        or view_class.http_method_not_allowed is not View.http_method_not_allowed
    ):
        return False
    name = method.lower()
    names = view.view_initkwargs.get("http_method_names", view_class.http_method_names)
    return name not in names or not hasattr(view_class, name)


def _reads_token(scope: Scope, route: Route) -> bool:
    """Return whether the check against CSRF may look into the form, before the view."""
    if _CSRF not in _middleware() or getattr(route.match.func, "csrf_exempt", False):
        return False
    if settings.CSRF_USE_SESSIONS or settings.CSRF_FAILURE_VIEW != _CSRF_FAILURE:
        return True
    # Without the cookie it refuses at once.
    cookie = settings.CSRF_COOKIE_NAME.encode()
    return any(
        name == b"cookie" and cookie in value for name, value in scope["headers"]
    )
