"""Compressed responses: between exchange and stream, for any protocol.

Short parts are compressed at once, long ones in a thread, a piece at a time. While a
piece is in its thread, or the client does not read, the application's ``send`` waits as
it does for a slow client.
"""

# What must hold between an exchange and a stream
#
# - Order. An encoder is one stream with a state, and one piece at a time is in it
#   (``_is_working``); all others wait in ``_waiting``. A small part that comes while a
#   long one is in its thread waits as well, or it would overtake it.
# - Back-pressure. Nothing more is writable while something waits here, so ``send``
#   waits; and of a long part, the first piece is compressed at once and each other only
#   once the stream takes more. Otherwise a client that reads nothing would have a whole
#   response compressed into memory.
# - The loop. To compress a mebibyte takes tens of milliseconds, in which no other
#   connection is served; a hop to a thread costs more than to compress a few KiB. So
#   ``AT_ONCE_SIZE`` divides the two, and ``PIECE_SIZE`` bounds what one client can keep
#   a thread with. One connection of HTTP/2 can have a hundred responses made in one
#   turn, so ``TURN_SIZE`` bounds what all of them have compressed there; a thread
#   takes those beyond.
# - Latency. An encoder keeps what it is given until a block is worth writing: events
#   and the rows of a slow report would arrive together, much later. What has no length
#   is therefore flushed: a long part by itself, the short ones of one turn of the loop
#   together. Content of a known length is not, as no part of it is waited for, and each
#   flush makes it longer.
# - Sizes. The length that the application has promised is checked here, on what it
#   sends; the stream sees the compressed bytes, and the access log gets their number,
#   which is known at the end. So the record waits for that (``_record``), or for the
#   loss of the client.
# - The end. A client that goes while a piece is in its thread cannot stop it; its
#   result is dropped when it comes (``_is_lost``).

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from djserve.cpus import count_cpus
from djserve.errors import ApplicationError
from djserve.responses.filter import ResponseFilter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from djserve.asgi.types import FinishRequest, Scope
    from djserve.interfaces import Headers, RequestHead, Stream
    from djserve.responses.codecs import Encoder
    from djserve.responses.negotiation import Negotiation, Plan

logger = logging.getLogger("djserve.error")

AT_ONCE_SIZE = 64 * 1024
"""Bytes that are compressed on the event loop: a millisecond or two."""

TURN_SIZE = 256 * 1024
"""Bytes of all responses that are compressed in one turn of the event loop."""

PIECE_SIZE = 1024 * 1024
"""Bytes that a thread compresses before the client is looked at again."""


class LoopShare:
    """What the responses of one event loop may have compressed on it, and beside it.

    As many threads work as there are CPUs: beside more of them the loop would wait for
    its time, and files that are read in threads for theirs. With fewer, a server of few
    workers would leave CPUs idle.
    """

    __slots__ = ("_left", "_thread_limit", "_threads", "_waiting", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._left = TURN_SIZE
        self._thread_limit = count_cpus()
        self._threads = 0
        self._waiting: deque[Callable[[], asyncio.Future[bytes] | None]] = deque()

    def take(self, size: int) -> bool:
        """Return whether so many bytes are to be compressed in this turn."""
        if size > AT_ONCE_SIZE or size > self._left:
            return False
        if self._left == TURN_SIZE:
            self.loop.call_soon(self._begin_turn)
        self._left -= size
        return True

    def use_thread(self, begin: Callable[[], asyncio.Future[bytes] | None]) -> None:
        """Call ``begin`` once a thread may be used; it returns None if it uses none."""
        self._waiting.append(begin)
        self._begin_next()

    def _begin_turn(self) -> None:
        self._left = TURN_SIZE

    def _begin_next(self) -> None:
        while self._waiting and self._threads < self._thread_limit:
            begin = self._waiting.popleft()
            try:
                future = begin()
            except Exception:
                # One response's fault is not to keep the others waiting.
                logger.exception("A response could not be compressed")
                continue
            if future is not None:
                self._threads += 1
                future.add_done_callback(self._thread_ended)

    def _thread_ended(self, future: asyncio.Future[bytes]) -> None:
        self._threads -= 1
        self._begin_next()


class CompressedResponse(ResponseFilter):
    """Compress one response, if the client and the response let that be done."""

    __slots__ = (
        "_coding",
        "_encoder",
        "_flushes",
        "_has_ended",
        "_head",
        "_is_flushing",
        "_is_lost",
        "_is_working",
        "_negotiation",
        "_plan",
        "_record",
        "_remaining",
        "_sent",
        "_share",
        "_status",
        "_trailers",
        "_waiting",
        "_waiting_size",
    )

    # Set when there is something to compress; most responses leave them alone.
    _flushes: bool
    _has_ended: bool
    _is_flushing: bool
    _is_lost: bool
    _plan: Plan | None
    _record: tuple[RequestHead, Scope, float, int] | None
    _remaining: int | None
    _sent: int
    _status: int
    _trailers: Headers | None
    _waiting: deque[tuple[bytes | memoryview, bool]]
    _waiting_size: int

    def __init__(
        self,
        negotiation: Negotiation,
        head: RequestHead,
        share: LoopShare,
        stream: Stream,
        log: FinishRequest | None,
    ) -> None:
        super().__init__(stream, log)
        self._negotiation = negotiation
        self._coding = negotiation.choose(head)
        self._head = head
        self._share = share
        self._encoder: Encoder | None = None
        self._is_working = False

    @property
    def is_writable(self) -> bool:
        """Whether the way down takes more, and nothing waits here."""
        if self._encoder is not None and (self._is_working or self._waiting):
            return False
        return self._stream.is_writable

    @property
    def held_size(self) -> int:
        """Bytes that wait for the application, or from it for the client."""
        size = super().held_size
        return size if self._encoder is None else size + self._waiting_size

    def finish(
        self, head: RequestHead, scope: Scope, began: float, status: int, size: int
    ) -> None:
        """Log the response with the size that is sent, once that has been."""
        if self._encoder is None:
            super().finish(head, scope, began, status, size)
        elif self._has_ended or self._is_lost:
            super().finish(head, scope, began, status, self._sent)
        else:
            self._record = (head, scope, began, status)

    def resume_writing(self) -> None:
        """Go on with what waits here, then let the application do so."""
        if self._encoder is not None:
            self._advance()
            if self._is_working or self._waiting:
                return
        self._exchange.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone before the response's end."""
        self._drop()
        self._exchange.connection_lost(exc)

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        """Send the head and the first part of the content."""
        whole = None if more else len(data)
        plan = self._negotiation.plan(status, headers, whole, self._coding)
        if status in (206, 304):
            headers = self._negotiation.revise(headers, self._head)
        if plan is None or not self._coding:
            fields = headers if plan is None else plan.plain
            self._stream.send_response(status, fields, data, more)
        elif not more and self._share.take(len(data)):
            self._send_at_once(status, plan, data)
        else:
            self._remaining = plan.length
            self._count(len(data), more)
            self._begin(status, plan)
            self._take(data, more)

    def send_data(self, data: bytes, more: bool) -> None:
        """Send the next part of the content."""
        if self._encoder is None:
            self._stream.send_data(data, more)
        else:
            self._count(len(data), more)
            self._take(data, more)

    def send_trailers(self, headers: Headers) -> None:
        """End the response with a trailer section."""
        if self._encoder is None:
            self._stream.send_trailers(headers)
            return
        self._count(0, more=False)
        self._trailers = headers
        self._take(b"", more=False)

    def abort(self) -> None:
        """Abort the response."""
        self._drop()
        self._stream.abort()

    def _send_at_once(self, status: int, plan: Plan, data: bytes) -> None:
        encoder = self._negotiation.encoders[self._coding](len(data))
        content = encoder.compress(data) + encoder.finish()
        fields = plan.fields
        if len(content) >= len(data):
            content, fields = data, plan.plain
        self._encoder, self._has_ended, self._is_lost = _ENDED, True, False
        self._waiting, self._waiting_size = _NOTHING, 0
        self._sent = len(content)
        self._stream.send_response(status, fields, content, more=False)

    def _begin(self, status: int, plan: Plan) -> None:
        self._encoder = self._negotiation.encoders[self._coding](plan.length)
        self._status = status
        self._plan = plan
        # Content of a known length is a file's, or cut by a framework: no part of it
        # has a meaning by itself that a client waits for.
        self._flushes = plan.length is None
        self._has_ended = self._is_lost = self._is_flushing = False
        self._record = None
        self._trailers = None
        self._sent = 0
        self._waiting = deque()
        self._waiting_size = 0

    def _take(self, data: bytes, more: bool) -> None:
        """Take a part: the first piece goes on at once, others as the client reads."""
        if len(data) <= PIECE_SIZE:
            self._waiting.append((data, not more))
        else:
            view = memoryview(data)
            for start in range(0, len(data), PIECE_SIZE):
                piece = view[start : start + PIECE_SIZE]
                is_last = start + PIECE_SIZE >= len(data)
                self._waiting.append((piece, is_last and not more))
        self._waiting_size += len(data)
        if not self._is_working:
            self._encode_next()
            self._advance()

    def _count(self, size: int, more: bool) -> None:
        """Hold the application to the length that it has promised, as a stream does."""
        if self._remaining is None:
            return
        if size > self._remaining:
            raise ApplicationError(
                f"{size} bytes of content, but the Content-Length leaves room for "
                f"{self._remaining}"
            )
        self._remaining -= size
        if self._remaining and not more:
            raise ApplicationError(
                f"The response ends {self._remaining} bytes short of its Content-Length"
            )

    def _advance(self) -> None:
        while self._waiting and not self._is_working and self._stream.is_writable:
            self._encode_next()

    def _encode_next(self) -> None:
        data, is_last = self._waiting.popleft()
        self._waiting_size -= len(data)
        assert self._encoder is not None
        in_thread = not self._share.take(len(data))
        # The head goes out with the first part of a stream, whatever follows.
        flushes = self._flushes and (self._plan is not None or in_thread)
        if in_thread:
            self._is_working = True
            self._share.use_thread(
                partial(self._encode_in_thread, data, is_last, flushes)
            )
            return
        self._send_on(_encode(self._encoder, data, is_last, flushes), is_last)
        if self._flushes and not flushes and not is_last and not self._is_flushing:
            # Parts of one turn of the loop become one block.
            self._is_flushing = True
            self._share.loop.call_soon(self._flush)

    def _encode_in_thread(
        self, data: bytes | memoryview, is_last: bool, flushes: bool
    ) -> asyncio.Future[bytes] | None:
        if self._is_lost:
            return None
        assert self._encoder is not None
        try:
            future = self._share.loop.run_in_executor(
                None, _encode, self._encoder, data, is_last, flushes
            )
        except RuntimeError as error:
            # No thread is left. The executor may have kept the job for later, so the
            # encoder cannot be used here.
            self._is_working = False
            self._fail(error)
            return None
        future.add_done_callback(lambda future: self._was_encoded(future, is_last))
        return future

    def _was_encoded(self, future: asyncio.Future[bytes], is_last: bool) -> None:
        self._is_working = False
        if self._is_lost or future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._fail(error)
            return
        self._send_on(future.result(), is_last)
        if not self._has_ended:
            self._advance()
            if self.is_writable:
                self._exchange.resume_writing()

    def _fail(self, error: BaseException) -> None:
        logger.error("Cannot compress a response", exc_info=error)
        self.abort()
        self._exchange.connection_lost(None)

    def _flush(self) -> None:
        self._is_flushing = False
        if self._is_lost or self._has_ended or self._is_working:
            return
        assert self._encoder is not None
        self._send_on(self._encoder.flush(), is_last=False)

    def _send_on(self, data: bytes, is_last: bool) -> None:
        plan, self._plan = self._plan, None
        self._has_ended = is_last
        self._sent += len(data)
        more = not is_last or self._trailers is not None
        if plan is not None:
            self._stream.send_response(self._status, plan.fields, data, more)
        elif data or not more:
            self._stream.send_data(data, more)
        if is_last and self._trailers is not None:
            self._stream.send_trailers(self._trailers)
        if is_last:
            # Hundreds of KiB, which the garbage collector would be late to free.
            self._encoder = _ENDED
            self._log_record()

    def _drop(self) -> None:
        if self._encoder is None or self._is_lost:
            return
        self._is_lost = True
        self._encoder, self._waiting, self._waiting_size = _ENDED, _NOTHING, 0
        if not self._has_ended:
            self._log_record()

    def _log_record(self) -> None:
        record, self._record = self._record, None
        if record is not None:
            head, scope, began, status = record
            super().finish(head, scope, began, status, self._sent)


_NOTHING: deque[tuple[bytes | memoryview, bool]] = deque()

_ENDED: Any = object()
"""In an encoder's place: there was one."""


def _encode(
    encoder: Encoder, data: bytes | memoryview, is_last: bool, flushes: bool
) -> bytes:
    content = encoder.compress(data) if data else b""
    if is_last:
        return content + encoder.finish()
    return content + encoder.flush() if flushes else content
