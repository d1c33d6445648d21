"""One HTTP request as an ASGI conversation: stream here, application there."""

# The states of a response
#
# What an application may send is a table for each state, and the table is the state:
# ``_actions`` is compared by identity, and there is no flag that could disagree with
# it.
#
#     WAITING       nothing was sent; hints and pushes may be
#     STARTED       http.response.start was taken, and is kept
#     STREAMING     the head is on its way, and content follows
#     TRAILERS      the content has ended, trailers are promised
#     COMPLETE      the response is whole, as far as the application is concerned
#     DISCONNECTED  the client has gone, or got the server's own answer
#
#     WAITING -> STARTED -> STREAMING -> TRAILERS -> COMPLETE
#
# TRAILERS only if they were announced. COMPLETE is reached from each of the others: by
# a response of one part, or by an error, which is answered if it comes in the first two
# and aborts the response after them. DISCONNECTED is reached from each as well.
#
# STARTED is apart from STREAMING since the head is not written when it is given: with
# the first part of the content at hand the length is known, head and content leave in
# one write, and an application that fails in between can still be answered with 500.
#
# COMPLETE and DISCONNECTED are two empty tables, and differ in what a ``send`` is told:
# after a whole response it is the application's mistake (UnexpectedMessage), after a
# disconnect it is no mistake of anyone's (an OSError, as the specification has it).
# Both end ``receive`` with http.disconnect. Whichever of the two comes first takes
# ``_finish``, so that a request is logged once.

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from djserve.asgi.application import log_fault
from djserve.asgi.files import FileRange
from djserve.asgi.http_messages import (
    add_length,
    error_response,
    is_empty_end,
    malformed,
    take_body,
    take_file_path,
    take_links,
    take_push_path,
    take_refusal,
    take_status,
)
from djserve.asgi.inbox import wait, wake
from djserve.errors import ApplicationError, ClientDisconnected, UnexpectedMessage
from djserve.instrumentation.limits import note_unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from djserve.asgi.application import ApplicationCalls
    from djserve.asgi.types import FinishRequest, Message, Scope
    from djserve.interfaces import Headers, RequestHead, Stream

    Action = Callable[["HTTPExchange", Message], Awaitable[None] | None]

INBOX_LIMIT = 128 * 1024  # of content that waits: above it, reading pauses
# A part of two bytes takes thirty times as much; full datagrams are never so many.
_PARTS_LIMIT = 256
TURN_SIZE = 256 * 1024  # of a response's content, until others have their turn
PART_SIZE = 1024  # that each part counts as at the least: small ones cost time as well


class HTTPExchange:
    """Carry one request to the application and its response back."""

    __slots__ = (
        "_actions",
        "_began",
        "_calls",
        "_chunks",
        "_finish",
        "_has_trailers",
        "_head",
        "_headers",
        "_is_inbox_full",
        "_is_request_delivered",
        "_request_timeout",
        "_size",
        "_started_at",
        "_status",
        "_stream",
        "_trailers",
        "_turn",
        "_waiters",
        "inbox_size",
        "is_request_complete",
        "on_disconnect",
        "route",
        "scope",
    )

    def __init__(
        self,
        head: RequestHead,
        scope: Scope,
        stream: Stream,
        calls: ApplicationCalls,
        request_timeout: float | None = None,
        finish: FinishRequest | None = None,
    ) -> None:
        self._head = head
        self.scope = scope
        self._stream = stream
        self._calls = calls
        self._request_timeout = request_timeout
        self._finish = finish
        if finish is not None:
            self._began = perf_counter()
        self._size = 0
        if request_timeout is not None:
            self._started_at: float | None = None
        self._actions = _WAITING
        self._chunks: list[bytes] = []
        self.inbox_size = 0
        self._is_inbox_full = False
        self.is_request_complete = False
        self._is_request_delivered = False
        # Those that wait for content, for the way down, or for the end.
        self._waiters: list[asyncio.Future[None]] = []
        self._status = 0
        # For callers that only want to know; a ``receive`` that waits costs a task.
        self.on_disconnect: Callable[[], object] | None = None
        # What a lane that declines the request has found out about it, for the task.
        self.route: object = None

    # Upward: the stream calls these.

    @property
    def is_running(self) -> bool:
        """Whether the application call has begun and not ended."""
        return self._calls.is_running(self)

    @property
    def held_size(self) -> int:
        """Bytes of content that wait for the application."""
        return self.inbox_size

    def start(self) -> None:
        """Run the application."""
        self._calls.start(self)

    def data_received(self, data: bytes) -> None:
        """Take a part of the request's content."""
        self._chunks.append(data)
        if len(self._chunks) > _PARTS_LIMIT:
            self._chunks = [b"".join(self._chunks)]
        self.inbox_size += len(data)
        if self.inbox_size > INBOX_LIMIT and not self._is_inbox_full:
            self._is_inbox_full = True
            self._stream.pause_reading()
        if self._waiters:
            wake(self._waiters)

    def eof_received(self) -> None:
        """The request's content is complete."""
        self.is_request_complete = True
        if self._waiters:
            wake(self._waiters)

    def pause_writing(self) -> None:
        """The way down is full; ``send`` asks the stream itself."""

    def resume_writing(self) -> None:
        """The way down takes more again."""
        wake(self._waiters)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone before the response, or gets the server's own answer."""
        finish, self._finish = self._finish, None
        if finish is not None:
            sent = 0 if self._actions is _STARTED else self._status
            status = take_refusal(exc) or sent
            finish(self._head, self.scope, self._began, status, self._size)
        self._actions = _DISCONNECTED
        self._chunks.clear()
        if self.on_disconnect is not None:
            self.on_disconnect()
        wake(self._waiters)
        self._calls.abandon(self)

    def tick(self, now: float) -> None:
        """Answer 503 if the response has not begun in time."""
        if self._request_timeout is None or not self._is_unanswered():
            return
        if self._started_at is None:
            self._started_at = now
        elif now - self._started_at >= self._request_timeout:
            note_unavailable(
                "REQUEST_TIMEOUT",
                f"no response has begun in {self._request_timeout:g} s",
                self.scope,
            )
            self._send_error(503)
            self._calls.cancel(self)

    def drain(self) -> None:
        """Nothing to do: the request may finish."""

    # The application calls these, or what answers for it without a task.

    async def receive(self) -> Message:
        """Return the next part of the content, or ``http.disconnect`` after its end.

        Parts that have arrived are handed over as one.
        """
        while True:
            if self.has_ended():
                return {"type": "http.disconnect"}
            if not self._is_request_delivered and (
                self._chunks or self.is_request_complete
            ):
                return self.take_content()
            if not self.is_request_complete:
                self._stream.request_content()
            await wait(self._waiters)

    async def send(self, message: Message) -> None:
        """Take one message from the application.

        Returns once the peer can take more. Raises ClientDisconnected, an OSError,
        after a disconnect and ApplicationError for what the contract does not allow.
        The end of a response that has gone with its client is dropped: it says nothing
        that could be lost.
        """
        try:
            action = self._actions.get(message["type"])
        except (TypeError, KeyError):
            raise malformed(message) from None
        if action is None:
            if self._actions is _DISCONNECTED:
                if is_empty_end(message):
                    return
                raise ClientDisconnected
            raise UnexpectedMessage(message["type"], self._state_name())
        pending = action(self, message)
        if pending is not None:
            await pending
        if not self._stream.is_writable:
            await self._writable()

    def take_content(self) -> Message:
        """Return the content that has come; at most once after its end."""
        body = b"".join(self._chunks)
        self._chunks = []
        self.inbox_size = 0
        if self._is_inbox_full:
            self._is_inbox_full = False
            self._stream.resume_reading()
        # Resuming may have ended the content or the exchange.
        more = bool(self._chunks) or not self.is_request_complete
        self._is_request_delivered = not more
        return {"type": "http.request", "body": body, "more_body": more}

    def respond(self, start: Message, content: bytes) -> bool:
        """Send a whole response; False if the peer takes nothing now."""
        if not self._stream.is_writable:
            return False
        self._on_start(start)
        self._on_first_body({"type": "http.response.body", "body": content})
        return True

    def application_finished(self) -> None:
        """Answer for an application that has returned."""
        if not self.has_ended():
            error = ApplicationError("The application ended before its response did")
            log_fault(self.scope, error)
            self.application_failed(error)

    def application_failed(self, error: BaseException) -> None:
        """Answer 500 if nothing was sent yet; else abort the response."""
        if self.has_ended():
            return
        if self._is_unanswered():
            self._send_error(503 if isinstance(error, asyncio.CancelledError) else 500)
        else:
            self._complete()
            self._stream.abort()

    # Messages: one method each, by state in the tables below.

    def _on_start(self, message: Message) -> None:
        self._status = take_status(message)
        self._headers: Headers = message.get("headers", [])
        self._has_trailers = bool(message.get("trailers", False))
        self._actions = _STARTED

    def _on_first_body(self, message: Message) -> None:
        body, more = take_body(message)
        size = len(body)
        self._stream.send_response(
            self._status, self._headers, body, more or self._has_trailers
        )
        self._size = size
        if more:
            self._turn = size
            self._actions = _STREAMING
        else:
            self._end_content()

    def _on_body(self, message: Message) -> Awaitable[None] | None:
        body, more = take_body(message)
        size = len(body)
        self._stream.send_data(body, more or self._has_trailers)
        self._size += size
        if not more:
            self._end_content()
        self._turn += size if size > PART_SIZE else PART_SIZE
        # Let others on: a peer that reads as fast as we write never says stop.
        if self._turn < TURN_SIZE:
            return None
        self._turn = 0
        return asyncio.sleep(0)

    def _on_trailers(self, message: Message) -> None:
        self._trailers.extend(message.get("headers", ()))
        if not message.get("more_trailers", False):
            self._stream.send_trailers(self._trailers)
            self._complete()

    def _on_offered(self, message: Message) -> None:
        if message["type"] not in self._stream.extensions:
            raise UnexpectedMessage(message["type"], self._state_name())
        if message["type"] == "http.response.push":
            self._stream.push(take_push_path(message), list(message.get("headers", ())))
        else:
            self._stream.send_informational(103, take_links(message))

    async def _on_pathsend(self, message: Message) -> None:
        await self._send_file(await FileRange.open(take_file_path(message)))

    async def _on_zerocopysend(self, message: Message) -> None:
        more = bool(message.get("more_body", False))
        await self._send_file(FileRange.of_message(message), more)

    async def _send_file(self, file: FileRange, more: bool = False) -> None:
        """Send a file's bytes in bounded pieces, each when the peer can take it."""
        with file:
            if self._actions is _STARTED and not more:
                self._headers = add_length(self._headers, file.remaining)
            if self.scope["method"] == "HEAD":
                file.skip()
            await file.send_pieces(self.send, more)

    def _end_content(self) -> None:
        if self._has_trailers:
            self._actions = _TRAILERS
            self._trailers: Headers = []
        else:
            self._complete()

    def _is_unanswered(self) -> bool:
        """Whether nothing of the final response is on its way yet."""
        return self._actions is _WAITING or self._actions is _STARTED

    def has_ended(self) -> bool:
        return self._actions is _COMPLETE or self._actions is _DISCONNECTED

    def _complete(self) -> None:
        self._actions = _COMPLETE
        if self._waiters:
            wake(self._waiters)
        finish, self._finish = self._finish, None
        if finish is not None:
            finish(self._head, self.scope, self._began, self._status, self._size)

    def _state_name(self) -> str:
        for name, actions in _NAMED_STATES.items():
            if actions is self._actions:
                return name
        return "COMPLETE"

    def _send_error(self, status: int) -> None:
        headers, body = error_response(status)
        self._status = status
        self._size = len(body)
        self._complete()
        self._stream.send_response(status, headers, body, more=False)

    async def _writable(self) -> None:
        """Wait until the peer takes more or has gone."""
        while not self._stream.is_writable and not self.has_ended():
            await wait(self._waiters)


# What may be sent in each state. Not in the class, whose attributes take longer to find
# (benchmark: http1_hello).
_WAITING: dict[str, Action] = {
    "http.response.start": HTTPExchange._on_start,
    "http.response.early_hint": HTTPExchange._on_offered,
    "http.response.push": HTTPExchange._on_offered,
}
_STARTED: dict[str, Action] = {
    "http.response.body": HTTPExchange._on_first_body,
    "http.response.pathsend": HTTPExchange._on_pathsend,
    "http.response.zerocopysend": HTTPExchange._on_zerocopysend,
    "http.response.push": HTTPExchange._on_offered,
}
_STREAMING: dict[str, Action] = {
    "http.response.body": HTTPExchange._on_body,
    "http.response.zerocopysend": HTTPExchange._on_zerocopysend,
    "http.response.push": HTTPExchange._on_offered,
}
_TRAILERS: dict[str, Action] = {"http.response.trailers": HTTPExchange._on_trailers}
_COMPLETE: dict[str, Action] = {}
_DISCONNECTED: dict[str, Action] = {}  # not the same as _COMPLETE
_NAMED_STATES = {
    "WAITING": _WAITING,
    "STARTED": _STARTED,
    "STREAMING": _STREAMING,
    "TRAILERS": _TRAILERS,
}
