"""A stream's response: head, content, trailers (RFC 9113 section 8.1).

Content goes out through the queue and the scheduler, but for short responses that
nothing stands in the way of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.errors import ApplicationError
from djserve.protocols.http2.content import ContentQueue
from djserve.protocols.http2.response import (
    build_block,
    build_fields,
    build_trailers,
)

if TYPE_CHECKING:
    from h2.stream import H2Stream

    from djserve.interfaces import Exchange, Headers
    from djserve.protocols.http2.request import Request
    from djserve.protocols.http2.streams import StreamTable

# Content that may wait for the windows before the application has to wait as well.
STREAM_BUFFER_SIZE = 16 * 1024


class Responder:
    """The sending half of ``stream.HTTP2Stream``.

    ``state`` is h2's part of the stream. ``level`` is the scheduler's: in which of its
    queues it is, if any.
    """

    __slots__ = (
        "_has_no_content",
        "_is_ending",
        "_is_response_started",
        "_remaining",
        "_takes_trailers",
        "_trailers",
        "exchange",
        "level",
        "method",
        "priority",
        "queue",
        "sent_size",
        "state",
        "stream_id",
        "table",
    )

    def __init__(self, table: StreamTable, state: H2Stream, request: Request) -> None:
        self.table = table
        self.state = state
        self.stream_id: int = state.stream_id
        self.method = request.method
        self.priority = request.priority
        self.exchange: Exchange | None = None
        self.queue = ContentQueue()
        self.level: int | None = None
        self.sent_size = 0
        self._has_no_content = False
        self._remaining = -1
        self._takes_trailers = request.takes_trailers
        self._trailers: bytes | None = None
        self._is_response_started = False
        self._is_ending = False

    @property
    def is_writable(self) -> bool:
        return self.queue.size <= STREAM_BUFFER_SIZE and not self.table.output.is_paused

    @property
    def is_pushed(self) -> bool:
        """Whether the request is our own promise (RFC 9113 section 8.4)."""
        return self.stream_id % 2 == 0

    def send_informational(self, status: int, headers: Headers) -> None:
        """Send an interim response (RFC 9110 section 15.2).

        None goes out on a pushed stream: clients, h2's among them, expect the response.
        """
        if self.is_pushed:
            return
        table = self.table
        block = table.codec.encoder.encode_response(build_block(status, headers), b"")
        table.codec.send_block(self.state, block, is_last=False, interim=True)
        table.output.wake()

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        """Send the head, and the first part of the content where it may go."""
        table = self.table
        self._has_no_content = (
            status == 204 or status == 205 or status == 304 or self.method == "HEAD"
        )
        whole_length = None if more or self._has_no_content else len(data)
        fields = build_fields(status, headers, whole_length, table.fields.server)
        if self._has_no_content:
            data = b""
        elif fields.content_length >= 0:
            self._remaining = fields.content_length
            self._count(len(data), more)
        codec = table.codec
        block = codec.encoder.encode_response(fields, table.fields.date)
        self._is_response_started = True
        codec.send_block(self.state, block, is_last=not (more or data))
        if data:
            if not more and table.output.can_send_now(self, len(data)):
                codec.send_content(self.state, data, is_last=True)
            else:
                self._queue(data, more)
                return
        table.output.wake()
        if not more:
            self._complete()
            self._end_sent()

    def send_data(self, data: bytes, more: bool) -> None:
        """Send the next part of the content."""
        if self._has_no_content:
            data = b""
        elif self._remaining >= 0:
            self._count(len(data), more)
        self._queue(data, more)

    def send_trailers(self, headers: Headers) -> None:
        """End the response; the fields go to a peer that takes them.

        RFC 9110 section 6.5.1: without ``TE: trailers`` they are better left out.
        """
        fields = build_trailers(headers)
        if self._remaining > 0:
            self._count(0, more=False)
        if fields.literal and self._takes_trailers and not self._has_no_content:
            self._trailers = fields.literal
        self._queue(b"", more=False)

    def send_content(self, data: bytes | memoryview, is_whole: bool) -> None:
        """Send content that was taken; ``is_whole``: nothing waits any more."""
        is_last = is_whole and self._is_ending and self._trailers is None
        self.table.codec.send_content(self.state, data, is_last)
        if is_whole and self._is_ending:
            self._end_sent()
        elif self.queue.size <= STREAM_BUFFER_SIZE:
            self.resume_writing()

    def resume_writing(self) -> None:
        """Tell that the stream takes more."""
        raise NotImplementedError

    def response_sent(self) -> None:
        """Note that our side of the stream has ended."""
        raise NotImplementedError

    # Private.

    def _queue(self, data: bytes, more: bool) -> None:
        """Let content wait for its turn, and the end of it."""
        if data:
            self.queue.append(data)
        self._is_ending |= not more
        if not more:
            self._complete()
        output = self.table.output
        if self.queue.size:
            output.add(self)
            if self.queue.size > STREAM_BUFFER_SIZE:
                output.flush()
        elif not more:
            # An end without content needs no window and no turn.
            if self._trailers is None:
                self.table.codec.send_content(self.state, b"", is_last=True)
            output.wake()
            self._end_sent()

    def _count(self, size: int, more: bool) -> None:
        """Account for content of a promised length."""
        left = self._remaining - size
        if left < 0:
            raise ApplicationError(
                f"{size} bytes of content where the Content-Length has room for "
                f"{self._remaining}"
            )
        if left and not more:
            raise ApplicationError(
                f"The response ends {left} bytes short of its Content-Length"
            )
        self._remaining = left

    def _complete(self) -> None:
        """The exchange has said all; it is told nothing more."""
        self._is_ending = True
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self.table.exchange_ended(exchange)

    def _end_sent(self) -> None:
        codec = self.table.codec
        if self._trailers is not None:
            codec.send_block(self.state, self._trailers, is_last=True)
        self.response_sent()
