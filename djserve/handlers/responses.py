"""Django responses to ASGI messages: whole, in parts, or as files.

A synchronous iterator is drawn from in the request's thread, ahead of the client by a
window and no further; between draws the thread does nothing for it. Each part is on its
way as soon as it is there, however long the next one takes.

A response that is a whole file on disk answers range requests (RFC 9110 14). The
verdicts are those of nginx in front of a WSGI server, with two exceptions: several
ranges get the whole file, and HEAD ignores ranges.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from django.http import FileResponse, HttpResponseBase
from django.http.response import ResponseHeaders
from django.utils.http import parse_http_date_safe

from djserve.asgi.files import NamedFile
from djserve.files.answers import choose_part
from djserve.handlers.threads.asgiref_compat import rehome
from djserve.handlers.threads.hops import Hops
from djserve.handlers.threads.mailbox import Mailbox
from djserve.instrumentation.limits import note_unavailable

if TYPE_CHECKING:
    from django.http import StreamingHttpResponse

    from djserve.asgi.types import Message, Scope, Send
    from djserve.interfaces import Headers


RETRY_AFTER = b"1"
"""Seconds that a client is asked to wait when too many requests wait for a thread."""


def encode_headers(response: HttpResponseBase) -> Headers:
    """Return the response's field lines, cookies last, names in Django's own case."""
    headers: Headers = [
        (name.encode("ascii"), value.encode("latin1"))
        for name, value in _field_lines(response)
    ]
    if response.cookies:
        for cookie in response.cookies.values():
            line = cookie.output(header="").strip()
            headers.append((b"Set-Cookie", line.encode("ascii")))
    return headers


def _field_lines(response: HttpResponseBase) -> Iterable[tuple[str, str]]:
    # An eighth of the time of response.items(), which looks each name up in what it has
    # found it in (benchmark: django_sync).
    if type(response).items is HttpResponseBase.items:
        store: Any = response.headers
        if type(store) is ResponseHeaders:
            return store._store.values()
    return response.items()


def start_message(response: HttpResponseBase) -> Message:
    """Return the message that starts a response."""
    return {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": encode_headers(response),
    }


async def send_content(send: Send, content: bytes, chunk_size: int) -> None:
    """Send all content, in messages of at most ``chunk_size`` bytes."""
    if len(content) <= chunk_size:
        await send({"type": "http.response.body", "body": content})
        return
    for position in range(0, len(content), chunk_size):
        end = position + chunk_size
        await send(
            {
                "type": "http.response.body",
                "body": content[position:end],
                "more_body": end < len(content),
            }
        )


async def send_refusal(
    send: Send, status: int, text: str, *fields: tuple[bytes, bytes]
) -> None:
    """Answer a request that Django is not asked about."""
    content = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
        *fields,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def send_busy(scope: Scope, send: Send, setting: str) -> None:
    """Answer a request that there is no thread for; ``setting`` bounds the waiting."""
    note_unavailable(setting, "it waited for a thread, or would have to", scope)
    await send_refusal(
        send, 503, "503 Service Unavailable", (b"retry-after", RETRY_AFTER)
    )


WINDOW = 256 * 1024
"""Bytes that a synchronous iterator may be ahead of the client."""

INTERVAL = 0.5
"""Seconds between attempts to end what an iterator waits for."""

TURN = 0.05
"""Seconds after which a stream, between two parts, lets others run that wait."""


async def send_async_stream(
    send: Send, response: HttpResponseBase, chunk_size: int
) -> None:
    """Send a response that is iterated on the loop."""
    # Asynchronous generators, which must be closed here and now: an iterator that the
    # response only wraps would be closed at the garbage collector's leisure.
    content: Any = aiter(cast("StreamingHttpResponse", response))
    source: Any = getattr(response, "_iterator", None)
    try:
        async with aclosing(content):
            async for part in content:
                await _send_part(send, part, chunk_size)
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()
    await send({"type": "http.response.body"})


async def send_sync_stream(
    send: Send,
    response: HttpResponseBase,
    chunk_size: int,
    hops: Hops,
    mailbox: Mailbox,
) -> None:
    """Send a response whose iterator is drawn from in a thread."""
    source = _Source(response, hops, mailbox)
    async with aclosing(source):
        while (part := await source.next_part()) is not None:
            await _send_part(send, part, chunk_size)
    await send({"type": "http.response.body"})


async def _send_part(send: Send, part: bytes, chunk_size: int) -> None:
    if len(part) <= chunk_size:
        await send({"type": "http.response.body", "body": part, "more_body": True})
        return
    for position in range(0, len(part), chunk_size):
        chunk = part[position : position + chunk_size]
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


class _Source:
    """What a synchronous iterator gives, on its way from its thread to the loop.

    ``_draw`` runs in the thread, the rest on the loop. ``_drawn`` is written by the
    one, ``_sent`` by the other; their difference is what is under way. The iterator has
    one context for all its parts, as under WSGI: what it has set (a logger's bound
    variables) is still there after a pause.
    """

    def __init__(self, iterable: Any, hops: Hops, mailbox: Mailbox) -> None:
        self._iterable = iterable
        self._iterator: Iterator[bytes] | None = None
        self._hops = hops
        self._mailbox = mailbox
        self._context = copy_context()
        self._parts: deque[bytes] = deque()
        self._drawn = 0
        self._sent = 0
        self._stopped = False
        self._ended = False
        self._error: BaseException | None = None
        self._draft: asyncio.Task[bool] | None = None
        self._arrival: asyncio.Future[None] | None = None

    async def next_part(self) -> bytes | None:
        """Return the next part, None at the end; raises what the iterator raises."""
        while not self._parts:
            if self._draft is not None and self._draft.done():
                self._ended = self._draft.result()
                self._draft = None
            elif self._ended:
                self._raise()
                return None
            else:
                self._draw_ahead()
                await self._wait()
        part = self._parts.popleft()
        self._sent += len(part)
        if self._drawn - self._sent <= WINDOW // 2:
            self._draw_ahead()
        return part

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def aclose(self) -> None:
        """Draw no more; return once the thread has released the iterator.

        What the iterator waits for by ``async_to_sync`` is cancelled, as the coroutine
        of an asynchronous view is.
        """
        self._stopped = True
        draft = self._draft
        if draft is None:
            return
        while not draft.done():
            self._hops.interrupt(draft)
            # Again and again: it may have been on its way from one wait to another.
            await asyncio.wait([draft], timeout=INTERVAL)
        # Looked at, or asyncio would report it as never retrieved.
        draft.cancelled() or draft.exception()

    def _draw_ahead(self) -> None:
        if self._draft is None and not self._ended:
            loop = self._mailbox.loop
            self._draft = loop.create_task(self._hops.run(self._draw))
            self._draft.add_done_callback(self._wake)

    async def _wait(self) -> None:
        self._arrival = self._mailbox.loop.create_future()
        try:
            await self._arrival
        finally:
            self._arrival = None

    def _wake(self, draft: object = None) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _arrive(self, part: bytes) -> None:
        self._parts.append(part)
        self._wake()

    def _draw(self) -> bool:
        """Draw until the window is full; True at the iterator's end."""
        begun = time.monotonic()
        run = self._context.run
        run(rehome, self._context)
        while not self._stopped:
            try:
                if self._iterator is None:
                    self._iterator = run(iter, self._iterable)
                part = run(next, self._iterator)
            except StopIteration:
                return True
            except BaseException as error:
                # Not out of the draft: SystemExit out of a task ends the loop.
                self._error = error
                return True
            self._drawn += len(part)
            self._mailbox.put(partial(self._arrive, part))
            if self._drawn - self._sent >= WINDOW:
                return False
            if time.monotonic() - begun > TURN and self._hops.is_thread_wanted:
                # The next part waits in the queue for its turn.
                return False
        return True


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
    path = _path_of(file, status) if extensions else None
    if part is not None:
        offset += part.start
        count = len(part)
        response.streaming_content = _read_part(file, offset, count, response)
        if not count:
            return None
    elif PATHSEND in extensions and offset == 0 and path is not None:
        # The server opens it anew: one descriptor for each is enough.
        file.close()
        return {"type": PATHSEND, "path": path}
    if ZEROCOPYSEND in extensions:
        sent = file if path is None else NamedFile(file, path, status)
        return {"type": ZEROCOPYSEND, "file": sent, "offset": offset, "count": count}
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


# What describes the file, not the refusal that is sent in its place.
_FIELDS_OF_THE_FILE = (
    "Cache-Control",
    "Content-Disposition",
    "Content-Language",
    "Content-Type",
    "ETag",
    "Expires",
    "Last-Modified",
)


def answer_range(scope: Scope, response: HttpResponseBase, size: int) -> range | None:
    """Make the response to a file of ``size`` bytes the answer to a range request.

    Returns the positions that are to be sent, none of them for a 416. None if the
    response stays as it is, but for ``Accept-Ranges``: a view that has set any field or
    status of range requests answers them itself.
    """
    if (
        response.status_code != 200
        or "Content-Encoding" in response
        or "Content-Range" in response
        or "Accept-Ranges" in response
        or scope["method"] not in ("GET", "HEAD")
    ):
        return None
    # To Django's test client, and under a server that has no way of its own to send
    # files, a whole file looks as it does with Django's handler.
    if scope.get("extensions"):
        response["Accept-Ranges"] = "bytes"
    # RFC 9110 14.2: a Range field with any method but GET is ignored.
    if scope["method"] != "GET":
        return None
    wanted, condition = _find_fields(scope)
    if wanted is None or not _is_current(condition, response):
        return None
    part = choose_part(wanted, size)
    if part is None:
        return None
    response["Accept-Ranges"] = "bytes"
    if part:
        response.status_code = 206
        response["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    else:
        response.status_code = 416
        response["Content-Range"] = f"bytes */{size}"
        for name in _FIELDS_OF_THE_FILE:
            if name in response:
                del response[name]
    response["Content-Length"] = str(len(part))
    return part


def _find_fields(scope: Scope) -> tuple[bytes | None, list[bytes]]:
    """Return the Range field if there is exactly one, and all If-Range fields."""
    ranges, conditions = [], []
    for name, value in scope["headers"]:
        if name == b"range":
            ranges.append(value)
        elif name == b"if-range":
            conditions.append(value)
    return (ranges[0] if len(ranges) == 1 else None), conditions


def _is_current(conditions: list[bytes], response: HttpResponseBase) -> bool:
    """Return whether If-Range lets a part be sent (RFC 9110 13.1.5)."""
    if not conditions:
        return True
    if len(conditions) > 1:
        return False
    condition = conditions[0].decode("latin1")
    if condition.endswith('"'):
        # Both must be strong: a weak tag does not promise the same bytes.
        return condition[0] == '"' and response.get("ETag") == condition
    date = parse_http_date_safe(condition)
    return date is not None and date == parse_http_date_safe(
        response.get("Last-Modified", "")
    )
