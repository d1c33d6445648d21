"""Streamed responses, part by part, at the pace of the client.

A synchronous iterator is drawn from in the request's thread, ahead of the client by a
window and no further; between draws the thread does nothing for it. Each part is on its
way as soon as it is there, however long the next one takes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from djserve.handlers.threads.hops import Hops
from djserve.handlers.threads.mailbox import Mailbox

if TYPE_CHECKING:
    from django.http import HttpResponseBase, StreamingHttpResponse

    from djserve.asgi.types import Send

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
    one, ``_sent`` by the other; their difference is what is under way.
    """

    def __init__(self, iterable: Any, hops: Hops, mailbox: Mailbox) -> None:
        self._iterable = iterable
        self._iterator: Iterator[bytes] | None = None
        self._hops = hops
        self._mailbox = mailbox
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
        while not self._stopped:
            try:
                if self._iterator is None:
                    self._iterator = iter(self._iterable)
                part = next(self._iterator)
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
